"""Reads what statements give in a database that SQLAlchemy reaches, with a mapping from their columns to ours."""

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, CursorResult, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import NoSuchModuleError, SQLAlchemyError

from repos.corpus.sources.checked import Checked
from repos.corpus.sources.collected import SECRET, Collected, Row, SourceError, installing
from repos.corpus.sources.config import DocumentQuery, QrelQuery, QueryQuery, SqlSource
from repos.corpus.sources.readers.table import read_mapped
from repos.corpus.sources.wanted import WantedColumns

_VARIABLE = re.compile(r"\$\{([^{}]*)\}")


def read(source: SqlSource, most: int | None = None) -> Collected:
    """Read a sql source: at most `most` rows of each statement, or all (None).

    All rows are as they were at one moment, where the database offers that (PostgreSQL, MySQL).

    Raises:
        SourceError: where the database cannot be reached or read, the connection is lost, or a column is missing.
    """
    checked = Checked(source.name, source.kind, source.exclude_self, most)

    def rows(
        table: str, statement: DocumentQuery | QueryQuery | QrelQuery, wanted: WantedColumns
    ) -> Iterator[tuple[str, Row]]:
        what = f"the statement for {table}"
        connection.execution_options(stream_results=True, yield_per=source.batch_rows)
        with _execute(connection, statement.query, what, source.name) as result:
            wanted.check(list(result.keys()), what, source.name)
            for number, row in enumerate(result.mappings(), start=1):
                if checked.collected.enough(table):
                    return
                checked.collected.rows_read[table] += 1
                yield f"{table} statement, row {number}", dict(row)

    with _connection(source) as connection:
        _read_one_state(connection)
        return read_mapped(source, checked, rows)


def fingerprint(source: SqlSource) -> str | None:
    """The hash of the result of `changed_query`, None for a source without one: there only reading tells of a change.

    Raises:
        SourceError: where the database cannot be reached or the statement fails.
    """
    if source.changed_query is None:
        return None
    with _connection(source) as connection:
        rows = _execute(connection, source.changed_query, "its changed_query", source.name)
        values = [[bytes(each) if isinstance(each, memoryview) else each for each in row] for row in rows]
    return hashlib.sha256(repr(values).encode()).hexdigest()


def _execute(connection: Connection, statement: str, what: str, source: str) -> CursorResult[Any]:
    """The rows of a statement, sent exactly as it was typed: colons and percent signs begin no parameters."""
    result = connection.execution_options(no_parameters=True).exec_driver_sql(statement)
    if not result.returns_rows:
        raise SourceError(f"Source {source!r}: {what} gives no rows. Write one like SELECT.")
    return result


@contextmanager
def _connection(source: SqlSource) -> Iterator[Connection]:
    """A connection for the block; database errors in it become SourceErrors that name the source."""
    url = address(source.url, source.name)
    # Without a limit, a host that drops packets would block for minutes.
    limits = {"connect_timeout": 10} if url.drivername == "postgresql+psycopg2" else {}
    _check_file(url, source.name)
    try:
        engine = create_engine(url, connect_args=limits)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _any_bytes)
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError, ValueError, TypeError) as error:
        # From None: Dagster would log the driver's own message, in which the password may stand.
        advice = (
            "The url begins with the database and behind a + its driver, as postgresql+psycopg2:// for PostgreSQL. "
            f"Is it not installed? {installing('its package')}"
            if isinstance(error, ImportError | NoSuchModuleError)
            else "Check the address, the statements and the connection; then build again."
        )
        why = _without_secrets(str(error).partition("\n")[0], url).rstrip(".")
        raise SourceError(
            f"Source {source.name!r}: {url.set(query={}).render_as_string(hide_password=True)} cannot be read: {why}. "
            f"Nothing was published. {advice}"
        ) from None


def _any_bytes(driver: Any, _: object) -> None:
    """Read texts of SQLite that are no UTF-8, which would raise: their bytes become lone surrogates."""
    driver.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")


def _check_file(url: URL, source: str) -> None:
    """Check that the file of a SQLite database exists: connecting would make an empty one."""
    database = url.database or ""
    if url.get_backend_name() != "sqlite" or not database or database.startswith((":memory:", "file:")):
        return
    try:
        exists = Path(database).is_file()
    except ValueError:  # a NUL
        exists = False
    if not exists:
        raise SourceError(f"Source {source!r}: {database!r} is not there. Check the path in its url.")


def address(template: str, source: str) -> URL:
    """A SQLAlchemy URL whose `${NAME}`s are filled in from the environment, so that no file needs to hold a password.

    Raises:
        SourceError: where a variable is not set, or the result is no URL.
    """
    missing = [name for name in _VARIABLE.findall(template) if name not in os.environ]
    if not all(map(str.isidentifier, missing)) or "${" in _VARIABLE.sub("", template):
        raise SourceError(
            f"Source {source!r}: a ${{ in its url should begin the name of an environment variable, and what follows "
            "is none. Write ${NAME}, in letters, digits and _, no digit first."
        )
    if missing:
        raise SourceError(
            f"Source {source!r}: its url names the environment variable {missing[0]}, which is not set. Set it where "
            "the stack is started."
        )
    try:
        if whole := _VARIABLE.fullmatch(template):
            return make_url(os.environ[whole[1]])
        # Numbers are filled in before parsing, since a port must be one; other values after it, for they may hold any
        # character.
        url = make_url(_VARIABLE.sub(lambda match: _value(match) if _value(match).isdecimal() else match[0], template))
        return url.set(
            username=_fill_in(url.username),
            password=_fill_in(url.password),
            host=_fill_in(url.host),
            database=_fill_in(url.database),
            query={
                name: _fill_in(value) if isinstance(value, str) else [_fill_in(each) for each in value]
                for name, value in url.query.items()
            },
        )
    except (SQLAlchemyError, ValueError):  # its message may hold the password; a ValueError is about the port
        raise SourceError(
            f"Source {source!r}: its url is not one of SQLAlchemy's, like dialect://user@host:5432/name, with "
            "a number for the port."
        ) from None


def _value(match: re.Match[str]) -> str:
    return os.environ[match[1]]


Part = TypeVar("Part", str, str | None)


def _fill_in(part: Part) -> Part:
    return part and _VARIABLE.sub(_value, part)


def _without_secrets(text: str, url: URL) -> str:
    """A driver's message without the password and the other secrets of its URL."""
    values = [value for name, value in url.normalized_query.items() if SECRET.search(name)]
    for secret in filter(None, [url.password, *chain.from_iterable(values)]):
        text = text.replace(str(secret), "***")
    return text


def _read_one_state(connection: Connection) -> None:
    """Let all statements of a connection see the database at one moment, whatever is written meanwhile."""
    if connection.dialect.name in ("postgresql", "mysql", "mariadb"):
        connection.execution_options(isolation_level="REPEATABLE READ")
