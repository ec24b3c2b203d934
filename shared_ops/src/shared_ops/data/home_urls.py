"""URLs that stay true when a home is moved: what lies inside it is written down relative to it.

Knows no Dagster. In memory a `HomeUrl` is an ordinary fsspec URL; in JSON one inside SEARCHLOOP_HOME is
`home:snapshots/prod/<id>`. URLs elsewhere (an object store, a folder beside the home) are written as they are.
"""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, PlainSerializer

from shared_ops.settings import current, file_url

PREFIX = "home:"
HELD = ("snapshots", "feedback", "staging")
"""The folders of a home that references lead into."""


def resolve(url: str) -> str:
    """The fsspec URL of a reference, whether it was written relative to the home or absolute.

    Homes of before hold absolute references. One that leads into another home's folders is taken to be of a home that
    was moved here where this home holds the same: snapshots and feedback are named by their content.
    """
    settings = current()
    if url.startswith(PREFIX):
        return file_url(settings.home / url.removeprefix(PREFIX))
    path = _local(url)
    if path is None:
        return url
    if path.is_relative_to(settings.home):
        return file_url(path)
    # A root that somebody chose is where they say, whatever the home holds beside.
    chosen = [root for given in (settings.staging, settings.snapshots) if given and (root := _local(given))]
    moved = None if any(map(path.is_relative_to, chosen)) else _moved(path, settings.home)
    return file_url(moved) if moved else url


def relative(url: str) -> str:
    """How the reference `url` is written down."""
    path, home = _local(url), current().home
    inside = path is not None and path.is_relative_to(home)
    return f"{PREFIX}{path.relative_to(home).as_posix()}" if path and inside else url


HomeUrl = Annotated[str, AfterValidator(resolve), PlainSerializer(relative, return_type=str)]
"""A URL in a model that is written down: relative where it lies inside the home."""


def _local(url: str) -> Path | None:
    """The absolute path that `url` names, None where it names none on this machine. Asks no other store."""
    scheme, _, name = url.rpartition("://")
    return Path(name) if scheme in ("", "file") and name.startswith("/") else None


def _moved(path: Path, home: Path) -> Path | None:
    """Where this home holds what `path` names in another; None when it holds no such thing."""
    tails = (path.parts[index:] for index, part in enumerate(path.parts) if part in HELD)
    return next((found for tail in tails if (found := home.joinpath(*tail)).exists()), None)
