"""The settings: what is empty is unset, and a stack is reached from its own machine alone."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from shared_ops.settings import Settings, current, unread, variable


@pytest.mark.parametrize("field", sorted(Settings.model_fields))
def test_an_empty_setting_is_not_set(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SEARCHLOOP_{name.upper()}", raising=False)
    default = getattr(Settings(), field)
    monkeypatch.setenv(f"SEARCHLOOP_{field.upper()}", "")
    assert getattr(Settings(), field) == default


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:7700"),
        ("127.0.0.2", "http://127.0.0.2:7700"),
        ("localhost", "http://127.0.0.1:7700"),
        ("::1", "http://[::1]:7700"),
        ("[::1]", "http://[::1]:7700"),
    ],
)
def test_a_stack_is_reached_at_a_loopback_address(host: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCHLOOP_HOST", host)
    monkeypatch.delenv("SEARCHLOOP_PORT_BASE", raising=False)
    assert Settings().url("search") == url


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "8.8.8.8", "fe80::1"])
def test_what_other_machines_reach_is_refused(host: str) -> None:
    with pytest.raises(ValidationError, match=r"every port.*token.*not built yet.*127\.0\.0\.1"):
        Settings(host=host)


@pytest.mark.parametrize("host", ["nosuch.example", "127.0.0.1:80", "::1%lo", "127.1", " "])
def test_what_is_no_address_is_told(host: str) -> None:
    with pytest.raises(ValidationError, match=r"expected an address that only this machine reaches"):
        Settings(host=host)


def test_what_asks_often_is_given_the_same_settings_until_a_variable_changes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SEARCHLOOP_HOME", str(tmp_path))
    before = current()
    assert current() is before and before.home == tmp_path
    monkeypatch.setenv("SEARCHLOOP_HOME", str(tmp_path / "other"))
    assert current().home == tmp_path / "other"
    monkeypatch.delenv("SEARCHLOOP_HOME")
    assert current() == Settings()


def test_a_stack_runs_all_repositories_or_those_that_are_named() -> None:
    assert Settings(repos="").runs("keyword") and not Settings(repos="corpus").runs("keyword")
    assert Settings(repos=" keyword  corpus keyword").repos == "corpus keyword"


def test_a_variable_that_nothing_reads_is_named_with_what_may_be_meant() -> None:
    names = [*map(variable, Settings.model_fields), "SEARCHLOOP_TORCH", "SEARCHLOOP_PORT_CODE_KEYWORD", "PATH"]
    assert unread(names) == {}
    assert unread(["SEARCHLOOP_ENOUGH_CLIKS", "SEARCHLOOP_XQZ"]) == {
        "SEARCHLOOP_ENOUGH_CLIKS": "SEARCHLOOP_ENOUGH_CLICKS",
        "SEARCHLOOP_XQZ": None,
    }
