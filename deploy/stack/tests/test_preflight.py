"""What keeps a stack from starting is said, with what to do."""

import os
import socket

from deploy.stack import preflight
from deploy.stack.processes import Process
from shared_ops.settings import Settings


def listening_on(port):
    return Process("search", [], ready=lambda: None, phase=2, port=port)


def test_a_taken_port_is_told_with_who_holds_it():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (complaint,) = preflight._port("127.0.0.1", listening_on(port))
    assert f"port {port} (search) is taken by pid {os.getpid()}" in complaint
    assert "SEARCHLOOP_PORT_BASE" in complaint
    assert preflight._port("127.0.0.1", listening_on(port)) == []


def test_short_memory_is_told():
    assert preflight._memory(preflight.MEMORY_GIB * preflight.GIB) == []
    assert "memory is short: 1.0 GiB available" in preflight._memory(preflight.GIB)[0]


def test_a_short_disk_is_told_even_where_the_home_is_not_there_yet(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "DISK_GIB", 10**6)
    (complaint,) = preflight._disk(tmp_path / "not" / "yet")
    assert f"free at {tmp_path}" in complaint and "SEARCHLOOP_HOME" in complaint


def test_a_machine_with_room_has_nothing_to_complain_of(tmp_path, monkeypatch):
    monkeypatch.setattr(preflight, "MEMORY_GIB", 0)
    monkeypatch.setattr(preflight, "DISK_GIB", 0)
    assert preflight.complaints(Settings(home=tmp_path), []) == []
