"""What `make predict` asks of a job that answers queries in bulk."""

from typing import Any

from shared_ops.settings import families, live_repository, url_of


class AskedError(ValueError):
    """A wish for answers in bulk that names too much or too little."""


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


def _source(queries: str | None, sql: str | None, database: str | None) -> dict[str, Any]:
    if bool(queries) == bool(sql) or bool(sql) != bool(database):
        raise AskedError(
            'Expected QUERIES=<url of a .parquet, .csv, .tsv or .jsonl>, or SQL="SELECT ..." with DATABASE=<the '
            "environment variable that holds the database's address, where the stack was started>."
        )
    return {"sql": sql, "database": {"env": database}} if sql else {"queries": url_of(str(queries))}
