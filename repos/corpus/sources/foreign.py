"""Recognises by its first bytes a file of another format than expected, and says what to do.

Knows which formats people confuse, not how any is read.
"""

import json
import re

_SAVE = "Save it as CSV in UTF-8 (in a spreadsheet: 'CSV UTF-8')."
_COMPRESSED = "Give its name the ending that says so ({0}), or unpack it."
_AGAIN = "Unpack it, or compress it with gzip."
_UNPACK = "Unpack it, and name the file in it that holds the table."
_BYTES: list[tuple[bytes, str, str]] = [
    (b"\xff\xfe\0\0", "text in UTF-32", "Save it as UTF-8, for example with iconv -f UTF-32 -t UTF-8."),
    (b"\0\0\xfe\xff", "text in UTF-32", "Save it as UTF-8, for example with iconv -f UTF-32 -t UTF-8."),
    (b"\xff\xfe", "text in UTF-16", "Save it as UTF-8, for example with iconv -f UTF-16 -t UTF-8."),
    (b"\xfe\xff", "text in UTF-16", "Save it as UTF-8, for example with iconv -f UTF-16 -t UTF-8."),
    (b"PK\x03\x04", "an Excel workbook or another ZIP archive", f"{_SAVE} An archive needs the ending .zip."),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", _SAVE),
    (b"PAR1", "a Parquet file", "Read it with `kind: table` and `format: parquet`."),
    (b"\x1f\x8b", "compressed by gzip", _COMPRESSED.format(".gz")),
    (b"BZh", "compressed by bzip2", _COMPRESSED.format(".bz2")),
    (b"\xfd7zXZ", "compressed by xz", _COMPRESSED.format(".xz")),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard", _AGAIN),
    (b"\x04\x22\x4d\x18", "compressed by LZ4", _AGAIN),
    (b"\x1f\x9d", "compressed by compress", _AGAIN),
    (b"\xff\x06\0\0sNaPpY", "compressed by Snappy", _AGAIN),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"ARROW1", "an Arrow file", "Write it as Parquet."),
    (b"Obj\x01", "an Avro file", "Write it as Parquet."),
    (b"ORC", "an ORC file", "Write it as Parquet."),
    (b"{\\rtf", "a document in RTF", _SAVE),
    (b"SQLite format 3", "an SQLite database", "Read it with `kind: sql` and the url sqlite:///PATH."),
    (b"%PDF", "a PDF", "Extract a table of documents from it."),
    (b"version https://git-lfs", "a pointer of Git LFS, and not the file itself", "Fetch the file with git lfs pull."),
]
_PAGE = re.compile(rb"<(!doctype|html|\?xml)", re.IGNORECASE)
_NUL_SHARE = 0.2
"""A greater share of NUL bytes tells that a file is no UTF-8.

In UTF-16 without its mark, every second byte of English is a NUL. In UTF-8 a stray one only spoils its own row.
"""


def explanation(head: bytes, form: str | None) -> str | None:
    """What a file is, by its first bytes `head`, and what to do; None where it seems to be of the format `form`.

    With `form` None, no format is expected.
    """
    for start, what, advice in _BYTES:
        if head.startswith(start) and not (form == "parquet" and start == b"PAR1"):
            return f"it is {what}. {advice}"
    if head[257:262] == b"ustar":
        return f"it is a TAR archive. {_UNPACK}"
    if form == "parquet":
        return None
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    first_line = text.splitlines()[0].rstrip() if text else b""
    if head.count(0) > _NUL_SHARE * len(head):
        return (
            "it is no text in UTF-8: it is full of NUL bytes, as UTF-16, UTF-32 and binary files are. Save it as UTF-8."
        )
    if _PAGE.match(text):
        return "it is a page of HTML or XML. Save the data themselves, not the page that shows them."
    if form in ("jsonl", None) and _is_row(first_line):
        return (
            "its lines are lists, where JSONL has an object with names on each line. Give the values their names, for "
            "example with jq -c '{doc_id: .[0], text: .[1]}'."
        )
    if form in ("jsonl", None) and (text.startswith(b"[") or first_line == b"{"):
        return (
            "it is one JSON document, where JSONL has an object on each line. Turn it into the lines of a .jsonl file, "
            f"for example with jq -c '{'.[]' if text.startswith(b'[') else '.'}'."
        )
    if form == "jsonl" and text and not any(line.lstrip().startswith(b"{") for line in text.splitlines()):
        return (
            f"none of its first lines is a JSON object; the first is {first_line.decode(errors='replace')!r:.80}. "
            "Write an object on each line, or name the format that it has under `format`."
        )
    if form != "jsonl" and text.startswith(b'{"'):
        return "it is JSON. Where each line is an object, read it with `kind: table` and `format: jsonl`."
    return None


def _is_row(line: bytes) -> bool:
    """Whether a line is a JSON list without objects in it."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, list) and not any(isinstance(value, dict) for value in row)
