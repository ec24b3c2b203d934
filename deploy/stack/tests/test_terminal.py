"""What a document or a query holds is shown, and does nothing, in the terminal."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.table import Table
from rich.tree import Tree

from deploy.stack import terminal
from deploy.stack.terminal import VisibleConsole, brief, console, cut, say

ODD = "a\x1b]0;owned\x07\x1b[31m red\x9b2J\r\b\u202egnp[bold]b[/]:smile:"
SHOWN = r"a\x1b]0;owned\x07\x1b[31m red\x9b2J\r\x08\u202egnp[bold]b[/]:smile:"


def in_a_table() -> None:
    table = Table("title")
    table.add_row(ODD)
    console.print(table)


def in_a_tree() -> None:
    tree = Tree(ODD)
    tree.add(ODD)
    console.print(tree)


@pytest.mark.parametrize("show", [lambda: say(ODD), in_a_table, in_a_tree])
def test_control_characters_are_shown_as_one_would_write_them(
    show: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    show()
    said = capsys.readouterr().out
    assert SHOWN in said
    assert not any(character in said for character in "\x1b\x07\x9b\r\x08\u202e")


def test_letters_of_any_script_and_lines_stay_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    say("naïve Привет 数组\n\tjust so")
    assert capsys.readouterr().out == "naïve Привет 数组\n        just so\n"


def test_a_command_whose_reader_has_read_enough_goes_on_to_its_end(tmp_path: Path) -> None:
    command = (
        "from pathlib import Path; from deploy.stack.terminal import say\n"
        f"for number in range(1000): say('line ' * 100)\nPath({str(tmp_path / 'ended')!r}).touch()"
    )
    with subprocess.Popen([sys.executable, "-c", command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 0 and process.stderr.read() == b""
    assert (tmp_path / "ended").exists()


NOTE = "ranker 20261201-015105975-c25fbdd2, by run 7b222313: its gate accepted it (trained because: make up)"


def test_in_a_terminal_a_release_is_its_hash_and_a_line_ends_where_the_terminal_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(terminal, "console", VisibleConsole(force_terminal=True, width=40))
    assert brief(NOTE).startswith("ranker c25fbdd2, by run 7b222313: ")
    assert cut(NOTE) == "ranker c25fbdd2, by run 7b222313: its g…" and len(cut(NOTE)) == 40
    assert cut("short") == "short"


def test_what_is_no_terminal_gets_every_line_whole() -> None:
    assert brief(NOTE) == cut(NOTE) == NOTE
