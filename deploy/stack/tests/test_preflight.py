"""What keeps a stack from starting is said, with what to do."""

import os
import re
import socket
from pathlib import Path

import pytest

from deploy.stack.processes import preflight
from deploy.stack.processes.listing import Process
from shared_ops.settings import Settings


def listening_on(port: int) -> Process:
    return Process("search", [], ready=lambda: None, phase=2, port=port)


def test_a_taken_port_is_told_with_who_holds_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (complaint,) = preflight._port("127.0.0.1", listening_on(port))
    assert f"port {port} (search) is taken by pid {os.getpid()}" in complaint
    assert "SEARCHLOOP_PORT_BASE" in complaint
    assert preflight._port("127.0.0.1", listening_on(port)) == []


def test_short_memory_is_told() -> None:
    assert preflight.memory(6 * preflight.GIB, 6) == []
    assert "memory is short: 1.0 GiB available, 6 needed" in preflight.memory(preflight.GIB, 6)[0]


def test_a_short_disk_is_told_even_where_the_home_is_not_there_yet(tmp_path: Path) -> None:
    (complaint,) = preflight.disk(tmp_path / "not" / "yet", 10**6)
    assert f"free at {tmp_path}" in complaint and "SEARCHLOOP_HOME" in complaint


def test_a_machine_with_room_has_nothing_to_complain_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "FAMILY_GIB", 0)
    monkeypatch.setattr(preflight, "MEMORY_GIB", 0)
    monkeypatch.setattr(preflight, "DISK_GIB", 0)
    assert preflight.complaints(Settings(home=tmp_path), []) == []


def test_a_host_that_this_machine_has_not_is_told_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(preflight, "MEMORY_GIB", 0)
    monkeypatch.setattr(preflight, "DISK_GIB", 0)
    settings = Settings(home=tmp_path).model_copy(update={"host": "192.0.2.1"})
    (complaint,) = preflight.complaints(settings, [listening_on(port) for port in range(7700, 7710)])
    assert complaint.startswith("SEARCHLOOP_HOST=192.0.2.1 is no address of this machine")


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 on this machine")
def test_a_taken_port_is_told_on_ipv6(tmp_path: Path) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        (complaint,) = preflight._port("::1", listening_on(port))
    assert f"port {port} (search) is taken by pid {os.getpid()}" in complaint
    assert preflight._port("::1", listening_on(port)) == []


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me:se%63ret@127.0.0.1:1/shop", r"host 127.0.0.1, port 1, dbname shop.*refused.*start it"),
        ("postgres://me:secret@nosuch.invalid/shop", r"host nosuch.invalid, dbname shop.*start it"),
        ("postgresql://me:secret@127.0.0.1:abc/shop", r"port abc.*start it"),
        ("mysql://me:secret@127.0.0.1/shop", r"cannot be read: expected postgresql://"),
        ("postgresql://me:secret%zz@127.0.0.1/shop", r"cannot be read: expected postgresql://"),
        ("postgresql://me:secret@[::1/shop", r"cannot be read: expected postgresql://"),
        ("secret", r"cannot be read: expected postgresql://"),
    ],
)
def test_a_database_that_leads_nowhere_is_told_in_a_sentence_without_its_password(
    tmp_path: Path, url: str, said: str
) -> None:
    (complaint,) = preflight.database(Settings(home=tmp_path, postgres_url=url))
    assert re.search(said, complaint) and "\n" not in complaint
    assert "secret" not in complaint and "se%63ret" not in complaint
