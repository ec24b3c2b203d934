"""What the commands print. Nothing that a document, a query or an error holds reaches the terminal as a command."""

import os
import re
import signal
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

BIDIRECTIONAL = (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)
"""Characters that make a terminal show a line in another order than it is."""
SHOWN = {
    number: chr(number).encode("unicode_escape").decode()
    for number in (*range(0x20), *range(0x7F, 0xA0), *BIDIRECTIONAL)
    if chr(number) not in "\n\t"
}


def hear_interrupts() -> None:
    """Have Ctrl-C end a wait at once, whatever is waited for.

    Polars, once imported, handles the signal with SA_RESTART, and a wait without a timeout is then begun anew
    (signal(7), sigaction(2)).
    """
    signal.siginterrupt(signal.SIGINT, True)


def visible(text: str) -> str:
    r"""The text with its control characters as one would write them: `\x1b` for the escape character."""
    return text.translate(SHOWN)


class VisibleConsole(Console):
    """A console on which every string, also one in a table or a tree, is shown as it is: no markup, nothing hidden."""

    def on_broken_pipe(self) -> None:
        """Whoever reads this has read enough (`| head`): the command goes on, and nothing more is shown."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def render_str(self, text: str, **options: Any) -> Text:
        """The string as it is shown."""
        return super().render_str(visible(text), **options)


WIDE = 10_000
"""Columns of what is no terminal: tables and trees take what they need there, and nothing is cut."""

console = VisibleConsole(
    highlight=False, markup=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDE
)


RELEASE = re.compile(r"\b\d{8}-\d{9}-([0-9a-f]{8})\b")
"""A release's version: when it was made, and the hash by which it is told from others."""


def brief(text: str) -> str:
    """The text with releases by their hash alone, where it is read in a terminal; elsewhere as it is."""
    return RELEASE.sub(r"\1", text) if console.is_terminal else text


def cut(line: str) -> str:
    """The line made brief, and cut where the terminal ends; elsewhere as it is."""
    if not console.is_terminal:
        return line
    shown = brief(line)
    return shown if len(shown) <= console.width else f"{shown[: console.width - 1]}…"


def say(line: str) -> None:
    """Print a line as it is, at once."""
    console.print(line)
