"""What a document or a query holds is shown, and does nothing, in the terminal."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.table import Table
from rich.tree import Tree

from deploy.stack.terminal import console, say

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
