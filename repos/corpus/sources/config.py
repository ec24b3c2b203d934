"""The sources file: which sources make the corpus, and how each is read.

    max_bad_share: 0.01
    sources:
      - kind: beir
        name: cranfield
        path: ../collections/cranfield

Paths are fsspec URLs; relative paths start at the file's folder. Knows nothing of how sources are read.
"""

import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from repos.corpus.sources.collected import SourceError
from repos.corpus.sources.mistakes import explanation
from repos.corpus.sources.values import is_utf8
from shared_ops.data.snapshots import SnapshotRef
from shared_ops.data.text import SHARES, Split
from shared_ops.settings import source_repositories


def _number(value: Any) -> Any:
    """Refuse true and false, which Python takes for 1 and 0, where a number is expected."""
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {str(value).lower()}")
    return value


Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_number)]
Share = Annotated[Number, Field(ge=0, le=1)]


class _Strict(BaseModel):
    # Errors must not quote an entry: a password may stand in it.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


_TAGS = {"int": "a whole number", "float": "a number", "bool": "true or false", "timestamp": "a date"}


class _Loader(yaml.SafeLoader):
    """Refuses duplicate keys, of which PyYAML silently keeps the last, and values that do not fit their type."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if isinstance(node, yaml.ScalarNode) and ("\0" in node.value or not is_utf8(node.value)):
            raise yaml.constructor.ConstructorError(
                problem="expected text, got an escape (like \\0 or \\ud800) for what no text holds",
                problem_mark=node.start_mark,
            )
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            # The value looks like a number or a date, or is tagged as one, and PyYAML fails to convert it.
            expected = _TAGS.get(node.tag.rpartition(":")[2], "a value of its kind")
            raise yaml.constructor.ConstructorError(
                problem=f"expected {expected}, got something else; put what is text into quotation marks",
                problem_mark=node.start_mark,
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys: set[str] = set()
        pairs = node.value if isinstance(node, yaml.MappingNode) else []  # PyYAML refuses any other node
        for key in (key for key, _ in pairs if isinstance(key, yaml.ScalarNode)):
            if key.value in keys:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value[:60]!r} stands twice", problem_mark=key.start_mark
                )
            keys.add(key.value)
        return super().construct_mapping(node, deep)


class _Source(_Strict):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="what people call it; documents name it")
    max_bad_share: Share | None = Field(default=None, description="of its own; without it the file's")
    exclude_self: bool = Field(
        default=False, description="a document under a query's own id is the query itself, and no hit for it"
    )


class _Splitting(_Source):
    split: dict[Split, Share] = Field(
        default=SHARES, description="the shares of queries that have no split of their own"
    )

    @field_validator("split")
    @classmethod
    def _whole(cls, shares: dict[Split, float]) -> dict[Split, float]:
        if not math.isclose(sum(shares.values()), 1):
            raise ValueError(f"the shares must sum to 1, and sum to {sum(shares.values()):g}")
        return shares


class PydocsSource(_Splitting):
    """The API documentation of installed packages, with queries from its "See Also" lists."""

    kind: Literal["pydocs"]
    packages: dict[str, str] = Field(min_length=1, description="the source that documents name, to the module imported")
    processes: Whole = Field(default=2, ge=1, le=1000, description="packages read at the same time")
    timeout_seconds: Number = Field(default=300, gt=0, le=86_400, description="for each package")


class BeirSource(_Source):
    """A folder in BEIR's layout; its own splits are kept."""

    kind: Literal["beir"]
    path: str
    dev_share: Number = Field(default=0.2, ge=0, lt=1, description="of train, where the folder has no dev split")

    @field_validator("path")
    @classmethod
    def _located(cls, path: str, info: ValidationInfo) -> str:
        return located(path, info)


class _Columns(_Strict):
    """Our names of columns, each with its name in the table. Ids and texts must exist, the others may."""

    def required(self) -> list[str]:
        """The names of the columns that the table must have: ids and texts, and those that the sources file sets."""
        return [
            theirs
            for ours, theirs in self.model_dump(exclude={"metadata"}).items()
            if ours in ("doc_id", "query_id", "text") or ours in self.model_fields_set
        ]


class DocumentColumns(_Columns):
    """The columns of a table of documents."""

    doc_id: str = "doc_id"
    title: str = "title"
    text: str = "text"
    url: str = "url"
    metadata: list[str] = Field(default=[], description="columns that are kept as the document's metadata")


class QueryColumns(_Columns):
    """The columns of a table of queries. Without a split, a hash of the text decides."""

    query_id: str = "query_id"
    text: str = "text"
    split: str = "split"


class QrelColumns(_Columns):
    """The columns of a table of judgements. In a table of the two ids alone, each row has grade 1."""

    query_id: str = "query_id"
    doc_id: str = "doc_id"
    grade: str = "grade"


class _File(_Strict):
    path: str
    format: Literal["jsonl", "csv", "tsv", "parquet"] | None = Field(
        None, description="without it, the name's ending tells"
    )

    @field_validator("path")
    @classmethod
    def _located(cls, path: str, info: ValidationInfo) -> str:
        return located(path, info)


class DocumentFile(_File):
    """A file of documents."""

    columns: DocumentColumns = Field(default_factory=DocumentColumns)


class QueryFile(_File):
    """A file of queries."""

    columns: QueryColumns = Field(default_factory=QueryColumns)


class QrelFile(_File):
    """A file of judgements."""

    columns: QrelColumns = Field(default_factory=QrelColumns)


class _Tables(_Splitting):
    """Documents and, optionally, queries and judgements."""

    @model_validator(mode="after")
    def _judges_queries(self) -> Self:
        if getattr(self, "qrels", None) is not None and getattr(self, "queries", None) is None:
            raise ValueError("its `qrels` judge queries, and it has none; write `queries` too, or leave `qrels` out")
        return self


class TableSource(_Tables):
    """JSONL, CSV, TSV or Parquet files at any fsspec URL."""

    kind: Literal["table"]
    documents: DocumentFile
    queries: QueryFile | None = None
    qrels: QrelFile | None = None


class DocumentQuery(_Strict):
    """A statement that gives documents."""

    query: str
    columns: DocumentColumns = Field(default_factory=DocumentColumns)


class QueryQuery(_Strict):
    """A statement that gives queries."""

    query: str
    columns: QueryColumns = Field(default_factory=QueryColumns)


class QrelQuery(_Strict):
    """A statement that gives judgements."""

    query: str
    columns: QrelColumns = Field(default_factory=QrelColumns)


class SqlSource(_Tables):
    """Statements in a database that SQLAlchemy reaches."""

    kind: Literal["sql"]
    url: str = Field(description="a SQLAlchemy URL; ${NAME} in it stands for the environment variable NAME")
    batch_rows: Whole = Field(default=5000, ge=1, le=1_000_000, description="rows held at a time")
    changed_query: str | None = Field(
        default=None, description="a quick statement whose result differs when the tables do, like a max(updated_at)"
    )
    documents: DocumentQuery
    queries: QueryQuery | None = None
    qrels: QrelQuery | None = None

    @field_validator("url")
    @classmethod
    def _located(cls, url: str, info: ValidationInfo) -> str:
        """Resolve the path of a SQLite database as that of any file."""
        match = _SQLITE.match(url)
        return f"{match[1]}{located(match[2], info)}{match[3]}" if match else url


class RepositorySource(_Source):
    """What a repository with the role source has published. It stands in the list, and in no sources file."""

    kind: Literal["repository"]
    tables: SnapshotRef
    max_bad_share: Share | None = Field(
        default=1.0, description="its rows hold to the schemas already; what else is bad of them stops no other source"
    )


_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)(?!/|:memory:|file:|\$\{)([^?]+)(.*)", re.DOTALL)
"""The URL of a SQLite database at a relative path. Its groups: what precedes the path, the path, the options."""

Source = Annotated[PydocsSource | BeirSource | TableSource | SqlSource, Field(discriminator="kind")]


class Sources(_Strict):
    """A sources file."""

    sources: list[Source] = Field(min_length=1)
    max_bad_share: Share = Field(default=0.01, description="of the rows of one table, for each kind of badness")

    @model_validator(mode="after")
    def _distinct(self) -> "Sources":
        names = [source.name for source in self.sources]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"each source needs a name of its own, and {', '.join(twice)} stands twice")
        if len([source for source in self.sources if source.kind == "pydocs"]) > 1:
            raise ValueError("there can be one pydocs source; list all the packages in it")
        return self

    def bad_share_of(self, source: _Source) -> float:
        """The share of bad rows that a source may have."""
        return self.max_bad_share if source.max_bad_share is None else source.max_bad_share


def located(path: str, info: ValidationInfo) -> str:
    """A URL without a slash at its end, or a full path; relative paths start at the sources file's folder.

    Raises:
        ValueError: where the path cannot be resolved.
    """
    if "://" in path or "::" in path:
        return path.rstrip("/")
    folder: Path = (info.context or {}).get("folder", Path.cwd())
    try:
        full = folder / Path(path).expanduser()
        # Only the folder is resolved: a link keeps its own name, whose ending tells the format.
        return os.path.normpath(Path(os.path.realpath(full.parent)) / full.name)
    except (RuntimeError, OSError) as error:  # no such user's home, or a folder on the way may not be read
        raise ValueError(f"{path!r} leads nowhere: {error}") from error


def load(path: Path) -> Sources:
    """Read a sources file.

    Raises:
        SourceError: where it is missing, is no YAML, or is no valid sources file, naming each mistake.
    """
    try:
        content: Any = yaml.load(_read_bytes(path), _Loader)
    except FileNotFoundError:
        raise SourceError(f"There is no sources file at {path}. SEARCHLOOP_SOURCES names it.") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error}. Name a sources file that this process may read.") from None
    except yaml.MarkedYAMLError as error:  # str(error) quotes the line, in which a password may stand
        mark = error.problem_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise SourceError(f"{path}{where} cannot be read as YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # bytes that are no text; an escape of no character
        words = " ".join(str(error).split())
        raise SourceError(f"{path} cannot be read as YAML: {words}. See that it is YAML in UTF-8.") from None
    except RecursionError:
        raise SourceError(f"{path} cannot be read as YAML: its lists lie too deep in one another.") from None
    if not isinstance(content, dict):
        got = "it is empty" if content is None else f"it holds a {type(content).__name__}"
        raise SourceError(f"{path} is not a sources file: expected `sources:` and a list, and {got}.")
    try:
        sources = Sources.model_validate(content, context={"folder": path.resolve().parent})
    except ValidationError as error:
        raise SourceError(f"{path} is not a sources file: {explanation(error)}. See repos/corpus/README.md.") from None
    if taken := [source.name for source in sources.sources if source.name in source_repositories()]:
        raise SourceError(
            f"{path} names a source {taken[0]!r}, and repos/{taken[0]} is the repository of a source of that name: "
            "give the one in the sources file another name."
        )
    return sources


def _read_bytes(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise OSError("it is no file")
    return path.read_bytes()
