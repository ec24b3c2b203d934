"""What a file is that is not what it was taken for: told by its first bytes, with the way out.

Knows what people mistake for one another, not how anything is read.
"""

import re

_SAVE = "Save it as CSV in UTF-8 (in a spreadsheet: 'CSV UTF-8')."
_COMPRESSED = "Give its name the ending that says so ({0}), or unpack it."
_BYTES: list[tuple[bytes, str, str]] = [
    (b"\xff\xfe", "text in UTF-16", "Save it as UTF-8, for example with iconv -f UTF-16 -t UTF-8."),
    (b"\xfe\xff", "text in UTF-16", "Save it as UTF-8, for example with iconv -f UTF-16 -t UTF-8."),
    (b"PK\x03\x04", "an Excel workbook or another ZIP archive", f"{_SAVE} An archive needs the ending .zip."),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook", _SAVE),
    (b"PAR1", "a Parquet file", "Read it with `kind: table` and `format: parquet`."),
    (b"\x1f\x8b", "compressed by gzip", _COMPRESSED.format(".gz")),
    (b"BZh", "compressed by bzip2", _COMPRESSED.format(".bz2")),
    (b"\xfd7zXZ", "compressed by xz", _COMPRESSED.format(".xz")),
    (b"\x28\xb5\x2f\xfd", "compressed by Zstandard", "Unpack it, or compress it with gzip."),
    (b"SQLite format 3", "an SQLite database", "Read it with `kind: sql` and the url sqlite:///PATH."),
    (b"%PDF", "a PDF", "Extract a table of documents from it."),
    (b"version https://git-lfs", "a pointer of Git LFS, and not the file itself", "Fetch the file with git lfs pull."),
]
_PAGE = re.compile(rb"<(!doctype|html|\?xml)", re.IGNORECASE)
_NUL_SHARE = 0.2
"""UTF-16 without its mark has a NUL for every second byte of English; a stray one is only in its own row."""


def told(head: bytes, form: str) -> str | None:
    """What the beginning of a file says it is, and what to do, where that is not the format `form`; else None."""
    for start, what, advice in _BYTES:
        if head.startswith(start) and not (form == "parquet" and start == b"PAR1"):
            return f"it is {what}. {advice}"
    if form == "parquet":
        return None
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    first_line = text.splitlines()[0].rstrip() if text else b""
    if head.count(0) > _NUL_SHARE * len(head):
        return "it is no text in UTF-8: it is full of NUL bytes, as UTF-16 and binary files are. Save it as UTF-8."
    if _PAGE.match(text):
        return "it is a page of HTML or XML. Save the data themselves, not the page that shows them."
    if form == "jsonl" and (text.startswith(b"[") or first_line == b"{"):
        return (
            "it is one JSON document, where JSONL has an object on each line. Turn it into lines, for example with "
            f"jq -c '{'.[]' if text.startswith(b'[') else '.'}'."
        )
    if form != "jsonl" and text.startswith(b'{"'):
        return "it is JSON. Where each line is an object, read it with `kind: table` and `format: jsonl`."
    return None
