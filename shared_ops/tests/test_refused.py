"""Code that a code server did not take is told until it does, also as an asset check that can be run at any time."""

from pathlib import Path
from typing import Any

import pytest

from shared_ops.pipeline.checks import CODE_LOADS, code_check, release_checks
from shared_ops.pipeline.lineage import release_key
from shared_ops.refused import refused_code
from shared_ops.settings import current, families

AT = "2026-11-30T09:00:00+00:00"


def refuse(home: Path, place: str) -> Path:
    """As a code server writes it down; returns the file."""
    record = home / "code" / "keyword.json"
    record.parent.mkdir(parents=True)
    record.write_text(f'{{"location": "keyword", "at": "{AT}", "place": {place}, "message": "ImportError: no name x"}}')
    return record


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ('"repos/keyword/ops.py:3"', "repos/keyword/ops.py:3: ImportError: no name x"),
        ("null", "ImportError: no name x"),
    ],
)
def test_what_was_not_taken_is_told_with_its_place(place: str, told: str) -> None:
    assert refused_code("keyword", current()) is None
    refuse(current().home, place)
    assert refused_code("keyword", current()).told == told and refused_code("ranker", current()) is None


def test_the_check_is_red_until_the_code_loads() -> None:
    check: Any = code_check("keyword", release_key("prod", "keyword"))
    assert check().passed
    record = refuse(current().home, '"repos/keyword/ops.py:3"')
    result = check()
    assert not result.passed and result.description == "repos/keyword/ops.py:3: ImportError: no name x"
    assert {name: value.value for name, value in result.metadata.items()} == {
        "location": "keyword", "at": "2026-11-30T09:00:00Z", "place": "repos/keyword/ops.py:3",
        "message": "ImportError: no name x",
    }  # fmt: skip
    record.unlink()
    assert check().passed


@pytest.mark.parametrize("family", families())
def test_every_family_has_it_on_its_release_in_prod(family: str) -> None:
    keys = [check.key for each in release_checks(family) for check in each.check_specs]
    assert [key.asset_key for key in keys if key.name == CODE_LOADS] == [release_key("prod", family)]
