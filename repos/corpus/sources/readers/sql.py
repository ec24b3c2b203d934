"""Statements in a database that SQLAlchemy reaches, read in batches, with a mapping from their columns to ours."""

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
from repos.corpus.sources.collected import SECRET, Collected, Row, SourceError
from repos.corpus.sources.config import DocumentQuery, QrelQuery, QueryQuery, SqlSource
from repos.corpus.sources.readers.table import read_mapped
from repos.corpus.sources.wanted import WantedColumns

_VARIABLE = re.compile(r"\$\{([^{}]*)\}")


def read(source: SqlSource, most: int | None = None) -> Collected:
    """The rows of a sql source, all as they were at one moment where the database can tell (PostgreSQL, MySQL).

    `most`: of each statement, at most this many rows.

    Raises:
        SourceError: where the database cannot be reached or read, the connection is lost, or a column is missing.
    """
    checked = Checked(source.name, source.kind, source.exclude_self, most)

    def rows(
        table: str, statement: DocumentQuery | QueryQuery | QrelQuery, wanted: WantedColumns
    ) -> Iterator[tuple[str, Row]]:
        what = f"the statement for {table}"
        connection.execution_options(stream_results=True, yield_per=source.batch_rows)
        with _asked(connection, statement.query, what, source.name) as result:
            wanted.check(list(result.keys()), what, source.name)
            for number, row in enumerate(result.mappings(), start=1):
                if checked.collected.enough(table):
                    return
                checked.collected.rows_read[table] += 1
                yield f"{table} statement, row {number}", dict(row)

    with _connected(source) as connection:
        _at_one_moment(connection)
        return read_mapped(source, checked, rows)


def fingerprint(source: SqlSource) -> str | None:
    """The hash of what `changed_query` gives, None for a source without one: only reading it all tells of a change.

    Raises:
        SourceError: where the database cannot be reached or the statement fails.
    """
    if source.changed_query is None:
        return None
    with _connected(source) as connection:
        rows = _asked(connection, source.changed_query, "its changed_query", source.name)
        found = [[bytes(each) if isinstance(each, memoryview) else each for each in row] for row in rows]
    return hashlib.sha256(repr(found).encode()).hexdigest()


def _asked(connection: Connection, statement: str, what: str, source: str) -> CursorResult[Any]:
    """The rows of a statement, which the database gets as it was typed: a colon and a percent sign mean nothing."""
    result = connection.execution_options(no_parameters=True).exec_driver_sql(statement)
    if not result.returns_rows:
        raise SourceError(f"Source {source!r}: {what} gives no rows. Write one like SELECT.")
    return result


@contextmanager
def _connected(source: SqlSource) -> Iterator[Connection]:
    """A connection for the block, whose errors tell of the source."""
    url = address(source.url, source.name)
    # A host that swallows packets would hold whoever asks for minutes.
    patience = {"connect_timeout": 10} if url.drivername == "postgresql+psycopg2" else {}
    _see_file(url, source.name)
    try:
        engine = create_engine(url, connect_args=patience)
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _any_bytes)
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()
    except (SQLAlchemyError, ImportError, ValueError, TypeError) as error:
        # From None: Dagster would write down what the driver said, in whose words the password may stand.
        advice = (
            "A database's driver has to stand in envs/light/requirements.in (then run make lock and make envs), and "
            "in the url behind a + (for PostgreSQL: postgresql+psycopg2://)"
            if isinstance(error, ImportError | NoSuchModuleError)
            else "Check the address, the statements and the connection; then build again"
        )
        told = _without_secrets(str(error).partition("\n")[0], url).rstrip(".")
        raise SourceError(
            f"Source {source.name!r}: {url.set(query={}).render_as_string(hide_password=True)} cannot be read: {told}. "
            f"Nothing was published. {advice}."
        ) from None


def _any_bytes(driver: Any, _: object) -> None:
    """Any bytes may be a text of SQLite, which would stop there: what is no UTF-8 becomes lone surrogates."""
    driver.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")


def _see_file(url: URL, source: str) -> None:
    """See that a database that is a file is there: SQLite would make an empty one."""
    database = url.database or ""
    if url.get_backend_name() != "sqlite" or not database or database.startswith((":memory:", "file:")):
        return
    try:
        there = Path(database).is_file()
    except ValueError:  # a NUL
        there = False
    if not there:
        raise SourceError(f"Source {source!r}: {database!r} is not there. Check the path in its url.")


def address(template: str, source: str) -> URL:
    """A SQLAlchemy URL whose `${NAME}`s are filled in from the environment, so that no file needs to hold a password.

    Raises:
        SourceError: where a variable is not set, or what comes out is no URL.
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
        # A port has to be a number before the rest can be told apart; in the rest, any character may stand.
        url = make_url(_VARIABLE.sub(lambda match: _value(match) if _value(match).isdecimal() else match[0], template))
        return url.set(
            username=_filled(url.username),
            password=_filled(url.password),
            host=_filled(url.host),
            database=_filled(url.database),
            query={
                name: _filled(value) if isinstance(value, str) else [_filled(each) for each in value]
                for name, value in url.query.items()
            },
        )
    except (SQLAlchemyError, ValueError):  # whose words may hold the password; a ValueError is of the port
        raise SourceError(
            f"Source {source!r}: its url is not one of SQLAlchemy's, like dialect://user@host:5432/name, with "
            "a number for the port."
        ) from None


def _value(match: re.Match[str]) -> str:
    return os.environ[match[1]]


Part = TypeVar("Part", str, str | None)


def _filled(part: Part) -> Part:
    return part and _VARIABLE.sub(_value, part)


def _without_secrets(text: str, url: URL) -> str:
    """What a driver said, without the password and what else of its URL is secret."""
    named = [value for name, value in url.normalized_query.items() if SECRET.search(name)]
    for secret in filter(None, [url.password, *chain.from_iterable(named)]):
        text = text.replace(str(secret), "***")
    return text


def _at_one_moment(connection: Connection) -> None:
    """Let all the statements see the database as it is now, whatever is written meanwhile."""
    if connection.dialect.name in ("postgresql", "mysql", "mariadb"):
        connection.execution_options(isolation_level="REPEATABLE READ")
