"""What the commands are given; what does not fit is told in one sentence: what was expected, what came, what to do."""

from collections.abc import Callable, Iterable
from typing import Any

import click

VARIABLES = {"number": "SET", "repository": "REPO", "query": "Q"}
"""What make calls a parameter, where that is not its name."""


class Argument(click.ParamType[Any]):
    """A value of a certain kind."""

    name = "value"

    def example(self) -> str:
        """A value that fits, as one types it."""
        raise NotImplementedError

    def expected(self) -> str:
        """What fits, in words."""
        raise NotImplementedError

    def read(self, given: Any) -> Any:
        """The value that was given as text.

        Raises:
            ValueError: where it does not fit.
        """
        raise NotImplementedError

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value, as click asks for it."""
        try:
            return self.read(value)
        except ValueError:
            self.fail(f"expected {self.expected()}, got {repr(value) if value else 'nothing'}", param, ctx)


class Number(Argument):
    """A number of at least `least`, whole where that is."""

    def __init__(self, least: float, most: float | None = None, example: str = "") -> None:
        self.least, self.most, self._example = least, most, example or f"{least}"

    def example(self) -> str:
        """A value that fits, as one types it."""
        return self._example

    def expected(self) -> str:
        """What fits, in words."""
        kind = "a whole number" if isinstance(self.least, int) else "a number"
        return f"{kind} of {self.least} or more" if self.most is None else f"{kind} from {self.least} to {self.most}"

    def read(self, given: Any) -> float:
        """The number."""
        number = type(self.least)(given)
        if not self.least <= number <= (number if self.most is None else self.most):
            raise ValueError
        return number


class Name(Argument):
    """One of the names that `known` gives: asked when a command runs, so that a list that cannot be read is told."""

    def __init__(self, known: Callable[[], Iterable[str]]) -> None:
        self.known = known

    def example(self) -> str:
        """A value that fits, as one types it."""
        return next(iter(self.known()), "<name>")

    def expected(self) -> str:
        """What fits, in words."""
        return f"one of {', '.join(self.known())}"

    def read(self, given: Any) -> str:
        """The name."""
        if given not in self.known():
            raise ValueError
        return str(given)


class Words(Argument):
    """Any text but an empty one; `what` is what the text is to be, as in "expected words to search for"."""

    def __init__(self, what: str, example: str) -> None:
        self.what, self._example = what, example

    def example(self) -> str:
        """A value that fits, as one types it."""
        return self._example

    def expected(self) -> str:
        """What fits, in words."""
        return self.what

    def read(self, given: Any) -> str:
        """The text."""
        if not str(given).strip():
            raise ValueError
        return str(given)


def argument_error(error: click.BadParameter) -> str:
    """What is said of an argument that does not fit, or is missing: what was expected, what came, what to type."""
    parameter, context = error.param, error.ctx
    if parameter is None or context is None or not isinstance(parameter.type, Argument):
        return error.format_message()
    variable = VARIABLES.get(str(parameter.name), str(parameter.name).upper())
    said = error.message or f"expected {parameter.type.expected()}, got nothing"
    return f"{variable}: {said}: make {context.command.name} {variable}={parameter.type.example()}"
