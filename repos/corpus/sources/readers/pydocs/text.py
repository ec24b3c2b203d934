"""Docstrings as texts to read and search: without markup for links, and the same on every machine."""

import os
import re
import sysconfig

_PACKAGES = sysconfig.get_path("purelib")
_ROLE = re.compile(r":(?:[a-z]+:)?[a-z]+:`~?([^`<]+?)(?:\s*<[^`>]*>)?`")
_MACHINE_LINE = re.compile(r"^.*Alias on this platform.*\n?", re.MULTILINE)
_ADDRESS = re.compile(r"(?<=\b[Aa]t )0x[0-9a-fA-F]{6,}\b")
# Where examples are computed on import (scipy.stats.Normal), the last digits differ from processor to processor.
_COMPUTED = "np.float64("
_DRAWN = "# may vary"
_ALL_DIGITS = re.compile(r"\b\d+\.\d{12,}(?:e[+-]?\d+)?\b")
_ESCAPED_SPACE = re.compile(r"\\ ")
_SIGNATURE_END = re.compile(r"\A(.+\))\n--\n")


def clean(doc: str) -> str:
    """A docstring without markup for links, and without what differs from machine to machine."""
    text = _ESCAPED_SPACE.sub("", _ROLE.sub(r"\1", _MACHINE_LINE.sub("", doc))).replace("``", "`")
    text = _ADDRESS.sub("0x...", _SIGNATURE_END.sub(r"\1\n", text))
    if _COMPUTED in text and text.rstrip().endswith(_DRAWN):
        text = _ALL_DIGITS.sub(lambda match: f"{round(float(match[0]), 9):.6g}", text)
    text = text.replace(_PACKAGES, "site-packages")
    home = os.environ.get("HOME", "").rstrip("/")
    return (text.replace(f"{home}/", "~/") if home else text).strip()
