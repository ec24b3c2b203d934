"""A list of the repositories with a ranker more, for tests of stacks that have several."""

from pathlib import Path

import pytest

from shared_ops import settings

ANOTHER = "another"
ENTRY = f"""
[{ANOTHER}]
owner = "@org/team"
environment = "light"
role = "rank"
queue = "{ANOTHER}"
port = 17
"""


def list_another_ranker(monkeypatch: pytest.MonkeyPatch, folder: Path) -> str:
    """Have repos.toml list one ranker more until the patch is undone; returns its name."""
    text = (settings.ROOT / settings.LIST).read_text() + ENTRY
    (folder / "repos.toml").write_text(text)
    monkeypatch.setattr(settings, "LIST", str(folder / "repos.toml"))
    return ANOTHER
