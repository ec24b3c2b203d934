"""Which room imports which: shown as a table, with no circle and no arrow back to what stands above."""

from collections import Counter

import grimp
import pytest
from tabulate import tabulate

ROOMS = {
    "shared_ops": [
        "settings",
        "causes",
        "refused",
        "waiting",
        "notifications",
        "data",
        "release",
        "judge",
        "pipeline",
        "answering",
        "reproduce",
    ],
    "deploy.stack": [
        "terminal",
        "arguments",
        "dagit",
        "processes",
        "search",
        "bulk",
        "history",
        "saves",
        "sources",
        "status",
        "traffic",
        "doctor",
        "commands",
        "__main__",
    ],
}
"""In their order: each may import those before it."""


def room_of(module: str, package: str) -> str:
    return module.removeprefix(f"{package}.").split(".")[0]


def arrows(package: str) -> Counter[tuple[str, str]]:
    """How many imports lead from one room to another."""
    graph = grimp.build_graph(package.split(".")[0])
    modules = [each for each in graph.modules if each.startswith(f"{package}.") and ".tests" not in each]
    counts: Counter[tuple[str, str]] = Counter()
    for module in modules:
        for other in graph.find_modules_directly_imported_by(module):
            if other in modules and room_of(other, package) != room_of(module, package):
                counts[room_of(module, package), room_of(other, package)] += 1
    return counts


@pytest.mark.parametrize("package", ROOMS)
def test_no_room_imports_one_that_stands_above_it(package: str, capsys: pytest.CaptureFixture[str]) -> None:
    rooms, counts = ROOMS[package], arrows(package)
    assert {room for pair in counts for room in pair} <= set(rooms), "a room that is not in the list"
    rows = [[room, *(counts[room, other] or "" for other in rooms)] for room in rooms]
    with capsys.disabled():
        print(f"\n{package}: how many imports lead from a room (row) to another\n{tabulate(rows, ['', *rooms])}")
    back = [f"{room} -> {other}" for room, other in counts if rooms.index(room) < rooms.index(other)]
    assert back == []


@pytest.mark.parametrize("package", ROOMS)
def test_no_module_imports_itself_by_way_of_others(package: str) -> None:
    graph = grimp.build_graph(package.split(".")[0])
    modules = sorted(each for each in graph.modules if each.startswith(f"{package}.") and ".tests" not in each)
    circles = [
        module
        for module in modules
        for other in graph.find_modules_directly_imported_by(module)
        if other in modules and graph.find_shortest_chain(other, module)
    ]
    assert circles == []
