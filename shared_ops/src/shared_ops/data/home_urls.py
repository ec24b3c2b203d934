"""URLs that stay valid when a home is moved: those inside the home are written down relative to it.

Knows no Dagster. In memory a `HomeUrl` is an ordinary fsspec URL; in JSON a URL inside SEARCHLOOP_HOME is written
`home:snapshots/prod/<id>`. Other URLs (an object store, a folder beside the home) are written as they are.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer

from shared_ops.settings import current, file_url

PREFIX = "home:"
FOLDERS = ("snapshots", "feedback", "staging")
"""The folders of a home that references lead into."""


def resolve(url: str) -> str:
    """The fsspec URL of a reference, whether it was written relative to the home or absolute.

    Homes that older code wrote hold absolute URLs. Where such a URL leads into another home's folders and this home
    holds the same path, the home is taken to have been moved here: snapshots and feedback are named by their content.
    """
    settings = current()
    if url.startswith(PREFIX):
        inside = url.removeprefix(PREFIX)
        # What is read from another stack's home is written relative to that; data is named by its content.
        elsewhere = settings.read_from and not (settings.home / inside).exists()
        return f"{settings.read_from}/{inside}" if elsewhere else file_url(settings.home / inside)
    path = _local(url)
    if path is None:
        return url
    if path.is_relative_to(settings.home):
        return file_url(path)
    # A root that a setting names is used as it is, whatever the home holds.
    named = (settings.staging, settings.snapshots, settings.read_from)
    chosen = [root for setting in named if setting and (root := _local(setting))]
    moved = None if any(map(path.is_relative_to, chosen)) else _moved(path, settings.home)
    return file_url(moved) if moved else url


def relative(url: str) -> str:
    """The form in which the reference `url` is written down: relative to the home where it lies inside it."""
    path, home = _local(url), current().home
    inside = path is not None and path.is_relative_to(home)
    return f"{PREFIX}{path.relative_to(home).as_posix()}" if path and inside else url


HomeUrl = Annotated[str, AfterValidator(resolve), PlainSerializer(relative, return_type=str)]
"""A URL in a model that is written down: relative where it lies inside the home."""


def _local(url: str) -> Path | None:
    """The absolute path that `url` names on this machine; None where it names another store, which is not asked."""
    scheme, _, name = url.rpartition("://")
    return Path(name) if scheme in ("", "file") and name.startswith("/") else None


def _moved(path: Path, home: Path) -> Path | None:
    """Where this home holds what `path` names in another home; None when it does not hold it."""
    tails = (path.parts[index:] for index, part in enumerate(path.parts) if part in FOLDERS)
    return next((place for tail in tails if (place := home.joinpath(*tail)).exists()), None)
