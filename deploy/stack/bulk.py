"""What `make predict` asks of a job that answers queries in bulk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fsspec.utils import get_protocol

from shared_ops.data import questions, storage
from shared_ops.data.questions import Columns, QuestionsError
from shared_ops.judge.bulk import BulkError, refuse_taken
from shared_ops.settings import families, live_repository, url_of


class AskedError(ValueError):
    """A wish for answers in bulk that names too much or too little, or what its run could not read or write."""


def asked(
    *,
    queries: str | None,
    sql: str | None,
    database: str | None,
    columns: str | None,
    out: str,
    k: int,
    release: str | None,
    family: str | None,
    number: int | None,
) -> tuple[str, dict[str, Any]]:
    """The repository whose `<repository>_predict` answers, and the configuration of its op.

    Raises:
        AskedError: saying what was expected.
    """
    if len([each for each in (release, family, number) if each]) > 1:
        raise AskedError("Expected one of RELEASE=, FAMILY= and SET=, or none for the live set.")
    config: dict[str, Any] = {"out": url_of(out), "k": k, **_source(queries, sql, database)}
    if columns:
        names = columns.split(",")
        if len(names) != 2 or not all(names):
            raise AskedError(f"COLUMNS: expected two names, <id>,<text>, got {columns!r}.")
        config |= {"id_column": names[0], "text_column": names[1]}
    if release:
        family, _, config["version"] = release.partition("/")
        if family not in families() or not config["version"]:
            raise AskedError(f"RELEASE: expected <family>/<version>, a family of {', '.join(families())}.")
    if family:
        return family, config
    return live_repository(), config | ({"set_number": number} if number else {})


def refuse_unfit(config: Mapping[str, Any]) -> None:
    """See that a run with this configuration can read its queries and write its answers, where they lie here.

    Of other stores, and of databases, the run tells it: it has what they ask for.

    Raises:
        AskedError: saying what it would fail by.
    """
    columns = Columns(config.get("id_column", Columns.query_id), config.get("text_column", Columns.text))
    try:
        if path := _here(config.get("queries", "")):
            questions.check_file(path, columns)
        if _here(config["out"]):
            refuse_taken(config["out"])
    except QuestionsError as error:
        raise AskedError(f"QUERIES: {error}") from error
    except BulkError as error:
        raise AskedError(f"OUT: {error}") from error


def _here(url: str) -> Path | None:
    """The path of a URL's file on this machine; the packages that other stores need may not be here."""
    return storage.local_path(url) if url and get_protocol(url) == "file" else None


def _source(queries: str | None, sql: str | None, database: str | None) -> dict[str, Any]:
    if bool(queries) == bool(sql) or bool(sql) != bool(database):
        raise AskedError(
            'Expected QUERIES=<url of a .parquet, .csv, .tsv or .jsonl>, or SQL="SELECT ..." with DATABASE=<the '
            "environment variable that holds the database's address, where the stack was started>."
        )
    return {"sql": sql, "database": {"env": database}} if sql else {"queries": url_of(str(queries))}
