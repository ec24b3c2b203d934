"""Files as people bring them: read where their meaning is plain; else a message says what to do, and why."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import polars as pl
import pytest

from repos.corpus import build, fingerprints
from repos.corpus.sources.collected import SourceError, SourceReport
from repos.corpus.sources.config import Sources, load
from repos.corpus.tests.conftest import write_lines

ROWS = "doc_id,title,text\n1,One,first words\n2,Two,second words\n"


def read(path: Path | str, **settings: Any) -> tuple[pl.DataFrame, SourceReport]:
    """The tables and the report of a table source with these documents."""
    columns = settings.pop("columns", {})
    entry = {"kind": "table", "name": "faq", "documents": {"path": str(path), "columns": columns, **settings}}
    built = build.build(Sources.model_validate({"sources": [entry]}))
    return built.tables["documents"], built.reports[0]


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "content",
    [
        ROWS.replace("\n", "\r\n"),
        ROWS.replace("\n", "\r"),
        ROWS.replace(",", ";"),
        ROWS.replace(",", "\t"),
        ROWS.replace(",", "|").replace("\n", "\r"),
        "\ufeff" + ROWS,
        ROWS.replace("doc_id", '"doc_id"') + ",,\n\n",
        "\n" + ROWS,
        " \r\n,,,\r\n" + ROWS.replace("\n", "\r\n"),
        "sep=;\n" + ROWS.replace(",", ";"),
        'doc_id;title;text;"notes, long"\r1;One;first words;"a;\r\nb"\r2;Two;second words;\r',
    ],
)
def test_a_csv_file_as_spreadsheets_write_it_is_read(tmp_path: Path, content: str) -> None:
    documents, report = read(write(tmp_path / "d.csv", content))
    assert documents.select("doc_id", "title", "text").rows() == [
        ("1", "One", "first words"),
        ("2", "Two", "second words"),
    ]
    assert not report.bad


def test_a_stray_carriage_return_does_not_cut_a_row_in_two(tmp_path: Path) -> None:
    documents, report = read(write(tmp_path / "d.csv", ROWS + "3,Three,cut\rhere\n4,Four,fourth words\n"))
    assert documents["doc_id"].to_list() == ["1", "2", "4"]
    assert report.bad["documents: broken line"].examples == [
        f"{tmp_path}/d.csv, line 4: a quotation mark or a line end is out of place; quote whole fields, "
        "a space after all commas or none"
    ]


@pytest.mark.parametrize(("name", "tab"), [("d.csv", ","), ("d.tsv", "\t")])
def test_after_blank_lines_rows_keep_their_places(tmp_path: Path, name: str, tab: str) -> None:
    content = "\n\n" + ROWS.replace(",", tab) + "3\n"
    documents, report = read(write(tmp_path / name, content))
    assert documents["doc_id"].to_list() == ["1", "2"]
    assert report.bad["documents: broken line"].examples == [f"{tmp_path}/{name}, line 6: fields: 1, columns: 3"]


def test_a_broken_line_of_json_says_what_breaks_it(tmp_path: Path) -> None:
    lines = ['{"doc_id": "1", "text": "x"},', '{"doc_id": "2", "text": "a", "text": "b"}', '["3", "x"]']
    _, report = read(write_lines(tmp_path / "d.jsonl", lines))
    assert report.bad["documents: broken line"].examples == [
        f"{tmp_path}/d.jsonl, line 1: Extra data",
        f"{tmp_path}/d.jsonl, line 2: a name stands twice",
        f"{tmp_path}/d.jsonl, line 3: no object with names",
    ]


def test_a_link_has_the_format_of_its_own_name(tmp_path: Path) -> None:
    """As in caches of downloads, which keep files under their hashes and links under their names."""
    write(tmp_path / "9f86d081", ROWS)
    (tmp_path / "d.csv").symlink_to("9f86d081")
    (tmp_path / "sources.yaml").write_text("sources: [{kind: table, name: faq, documents: {path: d.csv}}]")
    assert len(build.build(load(tmp_path / "sources.yaml")).tables["documents"]) == 2


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/dev.tsv", "qrels/test.tsv"])
def test_a_link_to_what_is_not_there_is_told(beir: Path, name: str) -> None:
    (beir / name).unlink(missing_ok=True)
    (beir / name).symlink_to("nowhere")
    (beir.parent / "sources.yaml").write_text(f"sources: [{{kind: beir, name: it, path: {beir}}}]")
    message = f"'it': {beir}/{name} is a link to nowhere, which is not there. Bring the file back, or remove the link"
    with pytest.raises(SourceError, match=message):
        build.build(load(beir.parent / "sources.yaml"))
    with pytest.raises(SourceError, match=message):
        fingerprints.take(beir.parent / "sources.yaml", {})


@pytest.mark.parametrize(
    ("url", "package"), [("s3://b/d.csv", "s3fs"), ("gs://b/d.csv", "gcsfs"), ("az://b/d.csv", "adlfs")]
)
def test_the_package_that_an_address_needs_is_named(monkeypatch: pytest.MonkeyPatch, url: str, package: str) -> None:
    def missing(url: str) -> None:
        raise ImportError("no such package")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    scheme = url.partition("://")[0]
    with pytest.raises(
        SourceError, match=f"what reads {scheme}:// is not installed. Write {package} into .* copy the file"
    ):
        read(url)


def test_columns_under_other_names_are_told_as_the_file_has_them(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv", "id;body\n1;words, and words\n")
    with pytest.raises(SourceError, match=r"has no column 'doc_id', 'text'; it has 'id', 'body'. Name its columns"):
        read(path)
    documents, _ = read(path, columns={"doc_id": "id", "text": "body"})
    assert documents["text"].to_list() == ["words, and words"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('doc_id,"title,text\n1,One,x\n', "a quotation mark in that line is not in its place: 'doc_id,\"title,text'"),
        ('doc_id,"ti"tle,text\n1,One,x\n', "begin with a line that names its columns, and a quotation mark"),
        (
            "doc_id,text,text\n1,One,x\n",
            "has more than one column 'text', and which .* it has 'doc_id', 'text', 'text'",
        ),
        ("doc_id,title,text,title\n1,a,b,c\n", "has more than one column 'title'"),
        (b"doc_id,text,gr\xf6\xdfe\n1,a,b\n", "header line of .* is not in UTF-8. Save the file as UTF-8"),
    ],
)
def test_a_header_that_cannot_be_understood_is_told(tmp_path: Path, content: bytes | str, told: str) -> None:
    with pytest.raises(SourceError, match=f"'faq': .*{told}"):
        read(write(tmp_path / "d.csv", content))


def test_a_column_that_nobody_reads_may_stand_twice(tmp_path: Path) -> None:
    documents, _ = read(write(tmp_path / "d.csv", "doc_id,text,,,note,note\n1,words,,,a,b\n"))
    assert documents["text"].to_list() == ["words"]


def test_json_lines_need_their_columns_in_some_row_and_no_name_twice(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "d.jsonl", [{"id": "1", "body": "words"}, {"id": "2", "body": "words"}])
    with pytest.raises(SourceError, match=r"d.jsonl has no column 'doc_id', 'text'; it has 'id', 'body'. Name its"):
        read(path)
    lines = [{"doc_id": "1", "text": "words"}, '{"doc_id": "2", "text": "a", "text": "b"}', {"doc_id": "3"}]
    documents, report = read(write_lines(tmp_path / "d.jsonl", lines))
    assert documents["doc_id"].to_list() == ["1"]
    assert set(report.bad) == {"documents: broken line", "documents: empty text"}


def workbook() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
    return packed.getvalue()


def tarred() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("d.csv"))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("d.csv", ROWS.encode("utf-16"), "text in UTF-16. Save it as UTF-8"),
        (
            "d.csv",
            ROWS.encode("utf-16-le"),
            "full of NUL bytes, as UTF-16, UTF-32 and binary files are. Save it as UTF-8",
        ),
        ("d.csv", ROWS.encode("utf-32"), "text in UTF-32. Save it as UTF-8, for example with iconv -f UTF-32"),
        ("d.csv", b"\0\0\xfe\xff" + ROWS.encode("utf-32-be"), "text in UTF-32. Save it as UTF-8"),
        ("d.csv", workbook(), "Excel workbook or another ZIP archive. Save it as CSV in UTF-8"),
        ("d.csv", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "an Excel workbook. Save it as CSV"),
        ("d.csv", gzip.compress(ROWS.encode()), "compressed by gzip. Give its name the ending"),
        ("d.csv", "<!DOCTYPE html><html><title>Sign in</title>", "a page of HTML or XML. Save the data themselves"),
        ("d.csv", '{"doc_id": "1", "text": "x"}\n', "it is JSON. Where each line is an object, .*`format: jsonl`"),
        ("d.csv", "", "has no column 'doc_id', 'text'; it has none"),
        ("d.jsonl", '[{"doc_id": "1", "text": "x"}]', r"one JSON document, .*jq -c '\.\[\]'"),
        ("d.jsonl", '{\n  "doc_id": "1",\n  "text": "x"\n}\n', r"one JSON document, .*jq -c '\.'"),
        (
            "d.jsonl",
            '["doc_id", "text"]\n["1", "x"]\n',
            r"its lines are lists, .* names, for example with jq -c '\{doc_id",
        ),
        ("d.jsonl", '[1, "x"]\n[2, "y"]\n', "its lines are lists, where JSONL has an object with names on each line"),
        ("d.jsonl", ROWS, "none of its first lines is a JSON object; the first is 'doc_id,title,text'. Write"),
        ("d.jsonl", '"x"\n"y"\n', "none of its first lines is a JSON object"),
        ("d.json", '[{"doc_id": "1"}]', r"does not tell its format, and it is one JSON document.*jq -c '\.\[\]'"),
        ("d.json", '{"doc_id": "1"}\n{"doc_id": "2"}\n', "does not tell its format, and it is JSON. .*`format: jsonl`"),
        ("d.xlsx", workbook(), "does not tell its format, and it is an Excel workbook .* Save it as CSV in UTF-8"),
        ("d.tgz", gzip.compress(ROWS.encode()), "does not tell its format, and it is compressed by gzip"),
        (
            "d.txt",
            ROWS,
            "does not tell its format. Write `format:` and one of jsonl, csv, tsv, parquet beside its path",
        ),
        ("d.csv.tar.gz", gzip.compress(tarred()), "a TAR archive. Unpack it, and name the file in it that holds the t"),
        ("d.tar", tarred(), "a TAR archive. Unpack it"),
        ("d.csv.7z", b"7z\xbc\xaf\x27\x1c" + bytes(300), "a 7z archive. Unpack it"),
        ("d.csv.rar", b"Rar!\x1a\7\0" + bytes(300), "a RAR archive. Unpack it"),
        ("d.csv.lz4", b"\x04\x22\x4d\x18" + bytes(300), "compressed by LZ4. Unpack it, or compress it with gzip"),
        ("d.csv.Z", b"\x1f\x9d" + bytes(300), "compressed by compress. Unpack it, or compress it with gzip"),
        ("d.csv", b"ARROW1\0\0" + bytes(300), "an Arrow file. Write it as Parquet"),
        ("d.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        ("d.parquet", ROWS, "cannot be read: ComputeError"),
        ("d.parquet", gzip.compress(ROWS.encode()), "compressed by gzip"),
        ("d.csv.gz", ROWS, "cannot be read: BadGzipFile"),
        ("d.csv.zip", ROWS, "cannot be read: BadZipFile"),
    ],
)
def test_a_file_of_another_kind_is_named_with_the_way_out(
    tmp_path: Path, name: str, content: bytes | str, told: str
) -> None:
    with pytest.raises(SourceError, match=f"'faq': .*{name} cannot be read.*{told}|'faq': .*{told}"):
        read(write(tmp_path / name, content))


def zipped(content: bytes | str, *more: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("export")
        archive.writestr("export/d.csv", content)
        archive.writestr("__MACOSX/export/._d.csv", b"\0\5\26\7")
        for name in more:
            archive.writestr(name, content)
    return packed.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zip": zipped,
}
LONG = "doc_id,text\n" + "".join(f"{i},words {i * i}\n" for i in range(2000))


@pytest.mark.parametrize("ending", PACKED)
def test_a_flipped_byte_in_a_compressed_file_is_told_as_the_sources_own_error(tmp_path: Path, ending: str) -> None:
    packed = PACKED[ending](LONG.encode())
    assert len(read(write(tmp_path / f"d.csv.{ending}", packed))[0]) == 2000
    for place in range(len(packed) // 3, len(packed) // 2, 401):
        broken = packed[:place] + bytes([packed[place] ^ 4]) + packed[place + 1 :]
        with pytest.raises(SourceError, match=rf"'faq': .*d.csv.{ending} cannot be read: .*Check that it is there and"):
            read(write(tmp_path / f"d.csv.{ending}", broken))


def test_an_archive_of_several_files_is_not_read_in_part(tmp_path: Path) -> None:
    path = write(tmp_path / "d.csv.zip", zipped(ROWS, "other.csv"))
    with pytest.raises(SourceError, match=r"holds 2 \(export/d.csv, other.csv\); unpack it and name one of them"):
        read(path)


def test_parquet_ids_that_were_rounded_are_bad_rows_and_null_is_none(tmp_path: Path) -> None:
    ids = [1.0, 2.5, float(2**53 + 1), None, float("nan")]
    pl.DataFrame({"doc_id": ids, "text": ["words"] * 5}).write_parquet(tmp_path / "d.parquet")
    documents, report = read(tmp_path / "d.parquet")
    assert documents["doc_id"].to_list() == ["1"]
    assert {kind: bad.count for kind, bad in report.bad.items()} == {
        "documents: id that is neither text nor a whole number (as a float: one below 2^53, or 2^24 in 32 bits)": 2,
        "documents: no id": 2,
    }
    ids = [2**53 + 1, 2**53, None]
    pl.DataFrame({"doc_id": ids, "text": ["words"] * 3}).write_parquet(tmp_path / "d.parquet")
    documents, report = read(tmp_path / "d.parquet")
    assert documents["doc_id"].to_list() == ["9007199254740992", "9007199254740993"]
    assert report.bad["documents: no id"].count == 1


@pytest.mark.parametrize(("kind", "exact_below"), [(pl.Float16, 2**11), (pl.Float32, 2**24), (pl.Float64, 2**53)])
def test_parquet_ids_that_their_columns_type_may_have_rounded_are_bad_rows(
    tmp_path: Path, kind: type[pl.DataType], exact_below: int
) -> None:
    ids = pl.Series([7, exact_below - 1, exact_below + 1, exact_below + 3, -exact_below]).cast(kind)
    weights = pl.Series([0.5, 2.0**24, 0.5, 0.5, 0.5], dtype=pl.Float32)
    pl.DataFrame({"doc_id": ids, "text": ["words"] * 5, "weight": weights}).write_parquet(tmp_path / "d.parquet")
    documents, report = read(tmp_path / "d.parquet", columns={"metadata": ["weight"]})
    assert dict(documents.select("doc_id", "metadata").rows()) == {
        "7": '{"weight": 0.5}',
        str(exact_below - 1): '{"weight": 16777216.0}',
    }
    assert [bad.count for bad in report.bad.values()] == [3]


def test_parquet_columns_of_bytes_are_text_in_utf8_or_bad_rows(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {
            "doc_id": [b"1", b"\xff", b"3", b"4"],
            "text": ["caf\u00e9".encode(), b"words", b"caf\xe9", b"\0\1"],
            "url": [b"https://example.org/1", None, None, None],
            "lang": [b"fr", b"en", b"fr", b"en"],
            "image": [b"\x89PNG", b"", b"", b""],
        }
    )
    frame.write_parquet(tmp_path / "d.parquet")
    documents, report = read(tmp_path / "d.parquet", columns={"metadata": ["lang", "image"]})
    assert documents.row(0) == ("1", "faq", "", "café", "https://example.org/1", '{"lang": "fr"}')
    assert {kind: bad.count for kind, bad in report.bad.items()} == {
        "documents: wrong encoding": 2,
        "documents: NUL character": 1,
        "documents: metadata: wrong encoding, left out": 1,
    }
    assert not any("b'" in str(value) or "memory at" in str(value) for value in documents.row(0))


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


def test_whatever_a_row_holds_it_is_a_bad_row_at_worst(beir: Path) -> None:
    lines = [
        {"_id": "deep", "text": "words", "metadata": {"deep": nested(900), "lang": "en"}},
        {"_id": "a\ud800", "text": "words"},
        {"_id": "a\0b", "text": "words"},
        {"_id": "url", "text": "words", "metadata": {"url": "https://example.org/\ud800"}},
        {"_id": ["l"], "text": "words"},
        {"_id": 2**60, "text": "words"},
        '{"_id": "big", "text": "words", "n": ' + "9" * 5000 + "}",
        '{"_id": "very deep", "text": ' + "[" * 100_000 + "}",
    ]
    write_lines(beir / "corpus.jsonl", lines)
    write_lines(beir / "queries.jsonl", [{"_id": "q6", "text": "words"}, {"_id": "q7", "text": "a\0"}])
    judged = [("q6", "deep", 1), ("q6", 2**60, "1e19"), ("q6", "url", 1e30), ("q7", "url", 2), ("q6", "a\0b", 1)]
    write_lines(beir / "qrels" / "test.tsv", ["query-id\tcorpus-id\tscore", *("\t".join(map(str, e)) for e in judged)])
    (beir / "qrels" / "train.tsv").unlink()
    built = build.build(Sources.model_validate({"sources": [{"kind": "beir", "name": "it", "path": str(beir)}]}))
    assert built.tables["documents"]["doc_id"].to_list() == [str(2**60), "deep", "url"]
    assert built.tables["documents"]["metadata"].to_list() == ["{}", '{"lang": "en"}', "{}"]
    assert built.tables["qrels"].rows() == [("q6", "deep", 1)]
    assert {kind: bad.count for kind, bad in built.reports[0].bad.items()} == {
        "documents: metadata: nested more than 100 deep, left out": 1,
        "documents: wrong encoding": 1,
        "documents: id with a control character": 1,
        "documents: metadata: wrong encoding, left out": 1,
        "documents: wrong encoding, left out": 1,
        "documents: id that is neither text nor a whole number (as a float: one below 2^53, or 2^24 in 32 bits)": 1,
        "documents: broken line": 2,
        "queries: NUL character": 1,
        "qrels: grade above 1000": 2,
        "qrels: id with a control character": 1,
    }
    build.summary(built.reports).encode()


def test_a_path_of_links_in_a_circle_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(SourceError, match=r"'faq': .* cannot be read: .*[Ss]ymbolic links"):
        read(tmp_path / "a", format="csv")
    with pytest.raises(SourceError, match=r"'it': .* cannot be read: .*[Ss]ymbolic links"):
        build.build(Sources.model_validate({"sources": [{"kind": "beir", "name": "it", "path": str(tmp_path / "a")}]}))


@pytest.fixture
def not_root() -> Iterator[None]:
    """Root may read everything, so this process becomes another user during a test."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


@pytest.fixture
def locked(beir: Path) -> Iterator[Path]:
    beir.chmod(0)
    yield beir
    beir.chmod(0o755)


def test_a_folder_that_may_not_be_read_is_not_called_empty(locked: Path, not_root: None) -> None:
    with pytest.raises(SourceError, match=r"'it': .* cannot be read: PermissionError.*this process may read it"):
        build.build(Sources.model_validate({"sources": [{"kind": "beir", "name": "it", "path": str(locked)}]}))
