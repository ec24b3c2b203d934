"""The sources file: which sources make the corpus, and how each is read.

    max_bad_share: 0.01
    sources:
      - kind: beir
        name: cranfield
        path: ../collections/cranfield

Paths are fsspec URLs; relative ones are relative to the file's folder. Knows nothing of how sources are read.
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
from repos.corpus.sources.mistakes import told
from repos.corpus.sources.values import is_utf8
from shared_ops.data.text import Split


def _number(value: Any) -> Any:
    """Python takes true for 1, and whoever writes it in the place of a number means something else."""
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {str(value).lower()}")
    return value


Number = Annotated[float, BeforeValidator(_number)]
Whole = Annotated[int, BeforeValidator(_number)]
Share = Annotated[Number, Field(ge=0, le=1)]
SHARES: dict[Split, Share] = {"train": 0.6, "dev": 0.1, "test": 0.3}


class _Strict(BaseModel):
    # What is wrong with an entry is told without the entry, in which a password may stand.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


_TAGS = {"int": "a whole number", "float": "a number", "bool": "true or false", "timestamp": "a date"}


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice, of which the first would be dropped without a word, and a value of no sense."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if isinstance(node, yaml.ScalarNode) and ("\0" in node.value or not is_utf8(node.value)):
            raise yaml.constructor.ConstructorError(
                problem="expected text, got an escape (like \\0 or \\ud800) for what no text holds",
                problem_mark=node.start_mark,
            )
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            # It looks like a number or a date, or is called one, and YAML's reader trusts that it is.
            expected = _TAGS.get(node.tag.rpartition(":")[2], "a value of its kind")
            raise yaml.constructor.ConstructorError(
                problem=f"expected {expected}, got something else; put what is text into quotation marks",
                problem_mark=node.start_mark,
            ) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        pairs = node.value if isinstance(node, yaml.MappingNode) else []  # what else it may be, YAML's reader refuses
        for key in (key for key, _ in pairs if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value[:60]!r} stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
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
    """The API documentation of installed packages, and what their "See Also" lists say of each other."""

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
    """The columns of a table, by what each is to us: ids and texts must be there, the others may be."""

    def required(self) -> list[str]:
        """The columns that the table must have: those that we cannot do without, and those that were named."""
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
    """The columns of a table of judgements. Without a grade, and any other column, a row is relevant with grade 1."""

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
    """Documents, and where there are some, queries and judgements of them."""

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
        """A database that is a file lies where paths of files do."""
        found = _SQLITE.match(url)
        return f"{found[1]}{located(found[2], info)}{found[3]}" if found else url


_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)(?!/|:memory:|file:|\$\{)([^?]+)(.*)", re.DOTALL)
"""The address of a SQLite database by a relative path: what stands before it, the path, and the options."""

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
    """`path` as it stands if it is a URL or absolute, else from the folder that the sources file lies in."""
    if "://" in path or "::" in path:
        return path.rstrip("/")
    folder: Path = (info.context or {}).get("folder", Path.cwd())
    try:
        full = folder / Path(path).expanduser()
        # A file keeps the name that it was given, which tells its format, where that is a link.
        return os.path.normpath(Path(os.path.realpath(full.parent)) / full.name)
    except (RuntimeError, OSError) as error:  # nobody has that home, or a folder on the way may not be read
        raise ValueError(f"{path!r} leads nowhere: {error}") from error


def load(path: Path) -> Sources:
    """Read a sources file.

    Raises:
        SourceError: where it is missing, is no YAML, or does not say what a sources file says, with each mistake.
    """
    try:
        content: Any = yaml.load(_written(path), _Loader)
    except FileNotFoundError:
        raise SourceError(f"There is no sources file at {path}. SEARCHLOOP_SOURCES names it.") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error}. Name a sources file that this process may read.") from None
    except yaml.MarkedYAMLError as error:  # in its own words it quotes the line, in which a password may stand
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
        return Sources.model_validate(content, context={"folder": path.resolve().parent})
    except ValidationError as error:
        raise SourceError(f"{path} is not a sources file: {told(error)}. See repos/corpus/README.md.") from None


def _written(path: Path) -> bytes:
    if path.exists() and not path.is_file():  # a pipe would be waited for, for ever
        raise OSError("it is no file")
    return path.read_bytes()
