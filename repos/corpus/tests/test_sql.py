"""Tables in a database, against a real PostgreSQL."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from sqlalchemy import create_engine, text

from repos.corpus.sources.collected import Collected, SourceError
from repos.corpus.sources.readers import sql
from repos.corpus.tests.conftest import source_of


@pytest.fixture
def shop(postgres: str) -> Iterator[sqlalchemy.Engine]:
    """A database with 1,000 products, 100 searches and what was bought after them."""
    engine = create_engine(postgres)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS product, search, bought"))
        connection.execute(text("CREATE TABLE product (sku int, name text, about text, price float, page text)"))
        connection.execute(text("CREATE TABLE search (id int, words text)"))
        connection.execute(text("CREATE TABLE bought (search int, sku int, times int)"))
        connection.execute(
            text(
                "INSERT INTO product SELECT i, 'Product ' || i, 'What product ' || i || ' is', i / 3.0, "
                "'https://shop.example/' || i FROM generate_series(1, 1000) i"
            )
        )
        connection.execute(text("INSERT INTO search SELECT i, 'looking for ' || i FROM generate_series(1, 100) i"))
        connection.execute(text("INSERT INTO bought SELECT i, i, i % 4 FROM generate_series(1, 100) i"))
    yield engine
    engine.dispose()


def read(url: str, documents: dict[str, Any], **settings: Any) -> Collected:
    entry = {"kind": "sql", "name": "shop", "url": url, "documents": documents, **settings}
    return sql.read(source_of(entry))


PRODUCTS = {
    "query": "SELECT * FROM product",
    "columns": {"doc_id": "sku", "title": "name", "text": "about", "url": "page", "metadata": ["price"]},
}


def test_statements_give_documents_queries_and_judgements(postgres: str, shop: sqlalchemy.Engine) -> None:
    collected = read(
        postgres,
        PRODUCTS,
        queries={"query": "SELECT id AS query_id, words AS text FROM search"},
        qrels={"query": "SELECT search AS query_id, sku AS doc_id, times AS grade FROM bought"},
        batch_rows=7,
    )  # fmt: skip
    assert len(collected.documents) == 1000
    assert collected.documents[0] == {
        "doc_id": "1", "source": "shop", "title": "Product 1", "text": "What product 1 is",
        "url": "https://shop.example/1", "metadata": '{"price": 0.3333333333333333}',
    }  # fmt: skip
    assert len(collected.queries) == len(collected.qrels) == 75
    assert collected.report.notes["qrels: judged not relevant"] == 25
    assert {row["split"] for row in collected.queries} == {"train", "dev", "test"}


def test_the_order_of_rows_changes_nothing(postgres: str, shop: sqlalchemy.Engine) -> None:
    turned = {**PRODUCTS, "query": "SELECT * FROM product ORDER BY sku DESC"}
    assert read(postgres, PRODUCTS).documents == read(postgres, turned).documents


def test_rows_come_in_batches_from_a_cursor_on_the_server(postgres: str, shop: sqlalchemy.Engine) -> None:
    collected = read(postgres, {"query": "SELECT name AS doc_id, statement AS text FROM pg_cursors"})
    assert [row["text"] for row in collected.documents if "pg_cursors" in row["text"]]


def test_all_statements_see_one_moment(postgres: str, shop: sqlalchemy.Engine) -> None:
    """A row that comes while the documents are read is in none of the later statements."""

    def write_meanwhile() -> None:
        time.sleep(0.5)
        with shop.begin() as connection:
            connection.execute(text("INSERT INTO search VALUES (5000, 'came later')"))
            connection.execute(text("INSERT INTO bought VALUES (5000, 1, 1)"))

    writer = threading.Thread(target=write_meanwhile)
    writer.start()
    collected = read(
        postgres,
        {"query": "SELECT sku AS doc_id, about AS text, pg_sleep(0.002) FROM product"},
        queries={"query": "SELECT id AS query_id, words AS text FROM search"},
        qrels={"query": "SELECT search AS query_id, sku AS doc_id FROM bought"},
    )
    writer.join()
    assert len(collected.queries) == 100


def test_bad_rows_are_counted(postgres: str, shop: sqlalchemy.Engine) -> None:
    with shop.begin() as connection:
        connection.execute(text("INSERT INTO product VALUES (1, 'Again', 'x', 1, NULL), (NULL, 'No id', 'x', 1, NULL)"))
        connection.execute(text("INSERT INTO product VALUES (2001, NULL, '  ', 1, NULL)"))
    collected = read(postgres, PRODUCTS)
    assert {kind: bad.count for kind, bad in collected.report.bad.items()} == {
        "documents: duplicate id": 1,
        "documents: no id": 1,
        "documents: empty text": 1,
    }


BYTES = {
    "query": "SELECT sku AS doc_id, about AS text, page AS url FROM raw",
    "columns": {"url": "url"},
}


def test_columns_of_bytes_are_text_in_utf8_or_bad_rows(postgres: str, tmp_path: Path) -> None:
    """bytea of PostgreSQL comes as memoryview, BLOB of SQLite as bytes."""
    rows = [(b"1", "caf\u00e9".encode(), b"https://x.example/"), (b"\xff", b"x", None), (b"3", b"caf\xe9", None)]
    for url, kind in ((postgres, "bytea"), (f"sqlite:///{tmp_path}/raw.db", "BLOB")):
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE IF EXISTS raw"))
            connection.execute(text(f"CREATE TABLE raw (sku {kind}, about {kind}, page {kind})"))
            for sku, about, page in rows:
                connection.execute(text("INSERT INTO raw VALUES (:a, :b, :c)"), {"a": sku, "b": about, "c": page})
        collected = read(url, BYTES)
        assert [(row["doc_id"], row["text"], row["url"]) for row in collected.documents] == [
            ("1", "café", "https://x.example/")
        ]
        assert {kind: bad.count for kind, bad in collected.report.bad.items()} == {"documents: wrong encoding": 2}
        entry = {"kind": "sql", "name": "raw", "url": url, "documents": BYTES, "changed_query": "SELECT sku FROM raw"}
        source = source_of(entry)
        assert sql.fingerprint(source) == sql.fingerprint(source)
        engine.dispose()


def test_a_column_that_a_statement_gives_twice_is_told(postgres: str, shop: sqlalchemy.Engine) -> None:
    with pytest.raises(SourceError, match="statement for documents has more than one column 'text'"):
        read(postgres, {"query": "SELECT sku AS doc_id, name AS text, about AS text, page, page FROM product"})


def test_a_password_comes_from_the_environment_and_shows_nowhere(
    postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", "p@ss/word")
    url = sql.address("postgresql+psycopg2://reader:${SHOP_PASSWORD}@127.0.0.1:1/shop", "shop")
    assert url.password == "p@ss/word"
    with pytest.raises(SourceError, match=r"reader:\*\*\*@127.0.0.1:1/shop cannot be read") as error:
        read("postgresql+psycopg2://reader:${SHOP_PASSWORD}@127.0.0.1:1/shop", PRODUCTS)
    assert "p@ss/word" not in str(error.value)


def test_a_whole_address_may_come_from_the_environment(
    postgres: str, shop: sqlalchemy.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_DATABASE", postgres)
    assert len(read("${SHOP_DATABASE}", PRODUCTS).documents) == 1000


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("${NOT_SET_ANYWHERE}", "names the environment variable NOT_SET_ANYWHERE, which is not set"),
        ("postgresql+psycopg2://host:port/db", "is not one of SQLAlchemy's"),
        ("no url", "is not one of SQLAlchemy's"),
        ("sqlite:///${}x.db", "begin the name of an environment variable, and what follows is none. Write"),
        ("sqlite:///${1x}.db", "begin the name of an environment variable, and what follows is none"),
        ("sqlite:///${OPEN", "begin the name of an environment variable, and what follows is none"),
        ("nodialect://host/db", "cannot be read: .*nodialect. .*Write its package into envs/light/requirements.in;"),
        ("postgres://host/db", r"cannot be read: .*postgresql\+psycopg2:// for PostgreSQL"),
        ("postgresql://host/db", r"postgresql\+psycopg2:// for PostgreSQL"),
        ("sqlite:////nowhere/x\0.db", r"'/nowhere/x\\x00.db' is not there. Check the path in its url"),
        ("sqlite:////nowhere\0/x.db", r"'/nowhere\\x00/x.db' is not there. Check the path in its url"),
        (
            "postgresql+psycopg2://reader\0@127.0.0.1:1/shop",
            "cannot be read: embedded null character. Nothing was publ",
        ),
        ("postgresql+psycopg2://127.0.0.1\0:1/shop", "cannot be read: embedded null character. Nothing was published"),
        ("postgresql+psycopg2://127.0.0.1:1/shop\0", "cannot be read: embedded null character. Nothing was published"),
        ("postgresql+psycopg2://127.0.0.1:1/shop?user=a\0", "cannot be read: embedded null character. Nothing was"),
        ("mysql://host/db", "No module named 'MySQLdb'. .*Write its package into envs/light/requirements.in;"),
    ],
)
def test_a_wrong_address_is_told(url: str, told: str) -> None:
    with pytest.raises(SourceError, match=f"'shop'.*{told}"):
        read(url, PRODUCTS)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (
            "SELECT sku FROM product",
            "statement for documents has no column 'name', 'about', 'page', 'price'; it has 'sku'",
        ),
        ("SELECT * FROM nothing", 'relation "nothing" does not exist'),
    ],
)
def test_a_wrong_statement_is_told(postgres: str, shop: sqlalchemy.Engine, statement: str, told: str) -> None:
    with pytest.raises(SourceError, match=told):
        read(postgres, {**PRODUCTS, "query": statement})


def test_a_connection_lost_in_mid_read_stops_the_build(postgres: str, shop: sqlalchemy.Engine) -> None:
    def cut() -> None:
        statement = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database() AND query LIKE '%FETCH%'"
        )
        while not any(_execute(shop, statement)):
            time.sleep(0.05)

    cutter = threading.Thread(target=cut)
    cutter.start()
    with pytest.raises(SourceError, match=r"'shop'.*cannot be read: .*Nothing was published"):
        read(postgres, {"query": "SELECT sku AS doc_id, about AS text, pg_sleep(0.01) FROM product"}, batch_rows=50)
    cutter.join()


def _execute(engine: sqlalchemy.Engine, statement: sqlalchemy.TextClause) -> list[bool]:
    with engine.connect() as connection:
        return [row[0] for row in connection.execute(statement)]


def test_a_statement_reaches_the_database_as_it_was_typed(postgres: str, tmp_path: Path) -> None:
    (tmp_path / "x.db").touch()
    for url in (postgres, f"sqlite:///{tmp_path}/x.db"):
        collected = read(url, {"query": "SELECT '1' AS doc_id, ':note \\:b 100% %s %(c)s ? a::b' AS text"})
        assert [row["text"] for row in collected.documents] == [":note \\:b 100% %s %(c)s ? a::b"]
        entry = {"kind": "sql", "name": "x", "url": url, "documents": BYTES, "changed_query": "SELECT ':note %s'"}
        assert sql.fingerprint(source_of(entry))


def test_a_text_of_sqlite_that_is_no_utf8_is_one_bad_row(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "x.db") as connection:
        connection.execute("CREATE TABLE t (doc_id TEXT, text TEXT, url TEXT)")
        connection.execute("INSERT INTO t VALUES ('1', 'words', NULL), ('2', CAST(x'636166e9' AS TEXT), NULL)")
        connection.execute("INSERT INTO t VALUES ('3', 'caf\u00e9', CAST(x'e9' AS TEXT))")
    collected = read(f"sqlite:///{tmp_path}/x.db", {"query": "SELECT * FROM t"})
    assert [(row["doc_id"], row["text"], row["url"]) for row in collected.documents] == [
        ("1", "words", None),
        ("3", "caf\u00e9", None),
    ]
    assert {kind: bad.count for kind, bad in collected.report.bad.items()} == {
        "documents: wrong encoding": 1,
        "documents: wrong encoding, left out": 1,
    }


@pytest.mark.parametrize("statement", ["", "CREATE TEMPORARY TABLE t (a)", "-- SELECT"])
def test_a_statement_that_gives_no_rows_is_told(tmp_path: Path, statement: str) -> None:
    (tmp_path / "x.db").touch()
    with pytest.raises(SourceError, match=r"the statement for documents gives no rows\. Write one like SELECT"):
        read(f"sqlite:///{tmp_path}/x.db", {"query": statement})


def test_variables_are_filled_in_every_part_of_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"WHO": "ann@home", "SECRET": "a/b?c&d=e", "WHERE": "db.example", "PORT": "5433", "MODE": "verify full"}
    for name, value in parts.items():
        monkeypatch.setenv(name, value)
    url = sql.address("postgresql+psycopg2://${WHO}:${SECRET}@${WHERE}:${PORT}/shop?sslmode=${MODE}&options=a", "shop")
    assert (url.username, url.password, url.host, url.port) == ("ann@home", "a/b?c&d=e", "db.example", 5433)
    assert dict(url.query) == {"sslmode": "verify full", "options": "a"}
    monkeypatch.delenv("MODE")
    with pytest.raises(SourceError, match="environment variable MODE, which is not set"):
        sql.address("postgresql+psycopg2://localhost/shop?sslmode=${MODE}", "shop")
