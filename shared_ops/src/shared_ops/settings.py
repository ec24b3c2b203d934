"""What a stack is made of: the SEARCHLOOP_* variables of all its processes, and the list of its repositories.

Both are read and checked here and nowhere else. Knows no Dagster.
"""

import hashlib
import ipaddress
import os
import re
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parents[3]
"""The checkout: shared_ops is installed editable, so its source lies in it."""

Deployment = Literal["dev", "prod"]
DEPLOYMENTS: tuple[Deployment, ...] = get_args(Deployment)
Role = Literal["source", "data", "feedback", "search", "rank", "live"]
ONE_OF_A_KIND: tuple[Role, ...] = ("data", "feedback", "live")
"""Roles that one repository alone can have: what it makes is the stack's only one."""
OPTIONAL: tuple[Role, ...] = ("source",)
"""Roles that no repository needs to have."""
LIST = "repos/repos.toml"
NAME = re.compile(r"[a-z][a-z0-9_]*")
SEARCH_PORT, DAGIT_PORT = 0, 1
PREDICTION_PORT = 10
"""How far beyond its code server's port a family's prediction service listens."""
MOST_PORT = 500
"""The highest port that an entry may have: with the highest base, all are below 65536."""
PREFIX = "SEARCHLOOP_"
LONGEST_SOCKET_NAME = "postgres/.s.PGSQL.5432"
LONGEST_SOCKET_PATH = 103  # bytes in sun_path without the final zero: 107 on Linux, 103 on macOS (unix(7))


class ListError(ValueError):
    """A list of repositories that cannot be used; the message says where and why."""


class Repository(BaseModel):
    """One entry of repos/repos.toml."""

    owner: str
    environment: str
    role: Role
    queue: str
    port: int = Field(ge=2, le=MOST_PORT)
    """The port of its code server, as an offset from the stack's base."""
    kind: str = "python"
    """What its model is made with, as Dagit shows it."""
    feedback: bool = False
    """Whether it learns from what people clicked."""
    vectors: bool = False
    """Whether its prediction service gives the vectors of texts, too."""

    @property
    def is_family(self) -> bool:
        """Whether it trains a model and has a prediction service."""
        return self.role in ("search", "rank")

    @property
    def ports(self) -> tuple[int, ...]:
        """The offsets of all its ports: its code server's and, of a family, its prediction service's."""
        return (self.port, self.port + PREDICTION_PORT) if self.is_family else (self.port,)


def repositories() -> dict[str, Repository]:
    """The repositories by name, in the order of repos/repos.toml: data flows down that list.

    Raises:
        ListError: when the list cannot be read, or two entries clash.
    """
    return dict(listed((ROOT / LIST).read_text()))


@cache
def listed(text: str) -> dict[str, Repository]:
    """The repositories that a list names.

    Raises:
        ListError: when it cannot be read, or two entries clash.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ListError(f"{LIST} cannot be read: {error}. Mend it there.") from None
    found = {name: _entry(name, entry) for name, entry in content.items()}
    _refuse_clashes(found)
    return found


def _entry(name: str, content: object) -> Repository:
    if not NAME.fullmatch(name):
        raise ListError(f"{LIST}: [{name}] is no name: expected small letters, digits and _, a letter first.")
    try:
        return Repository.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([name, *map(str, first["loc"])])
        raise ListError(
            f"{LIST}, {where}: {first['msg']}. An entry has {', '.join(Repository.model_fields)}."
        ) from None


def _refuse_clashes(found: Mapping[str, Repository]) -> None:
    """Raises ListError where two entries have a port in common, or a role that only one can have."""
    holders = {SEARCH_PORT: "the search app", DAGIT_PORT: "Dagit"}
    roles: dict[Role, str] = {}
    for name, repository in found.items():
        for port in repository.ports:
            if port in holders:
                free = free_port(found.values(), repository.role)
                raise ListError(f"{LIST}: {holders[port]} and [{name}] both have the port {port}; {free} is free.")
            holders[port] = f"[{name}]"
        if repository.role in ONE_OF_A_KIND and repository.role in roles:
            raise ListError(
                f"{LIST}: [{roles[repository.role]}] and [{name}] both have the role {repository.role}, "
                "which one repository alone can have: remove one of them."
            )
        roles[repository.role] = name


def free_port(taken: Iterable[Repository], role: Role) -> int:
    """The lowest port, from 10 on, that a new entry with this role can have.

    Raises:
        ListError: when none is left.
    """
    used = {port for repository in taken for port in repository.ports}
    for port in range(10, MOST_PORT + 1):
        one = Repository(owner="", environment="", role=role, queue="", port=port)
        if not used & set(one.ports):
            return port
    raise ListError(f"{LIST} has no port left: all from 10 to {MOST_PORT} are taken.")


def repository_of(module: str) -> str:
    """The repository that a module belongs to, from the module's name: `repos.<repository>.definitions`."""
    return module.split(".")[1]


def families() -> dict[str, Repository]:
    """The repositories that train a model and have a prediction service."""
    return {name: repository for name, repository in repositories().items() if repository.is_family}


def source_repositories() -> list[str]:
    """The repositories that each give a source of documents, beside those of the sources file."""
    return [name for name, repository in repositories().items() if repository.role == "source"]


def search_families() -> list[str]:
    """The families whose hits a ranker orders."""
    return [name for name, repository in repositories().items() if repository.role == "search"]


def ranking_families() -> list[str]:
    """The families that order the search families' hits: in each live set, one of them does."""
    return _with_role("rank")


def data_repository() -> str:
    """The repository that makes the snapshots."""
    return _with_role("data")[0]


def live_repository() -> str:
    """The repository that moves the live set."""
    return _with_role("live")[0]


def _with_role(role: Role) -> list[str]:
    """The repositories with a role that a stack needs, in the order of the list.

    Raises:
        ListError: when the list names none.
    """
    found = [name for name, repository in repositories().items() if repository.role == role]
    if not found:
        raise ListError(f"{LIST} names no repository with the role {role}: add one.")
    return found


def python_of(environment: str) -> Path:
    """The Python of an environment in envs/ as it is now: another that is made later lies beside it."""
    return (ROOT / "envs" / environment / ".venv").resolve() / "bin" / "python"


def file_url(path: Path) -> str:
    """A local folder as fsspec reads it: unlike `Path.as_uri`, with nothing percent-encoded."""
    return f"file://{path}"


def url_of(place: str) -> str:
    """The fsspec URL of a place that somebody typed as a path, from here or from ~, or as a URL already.

    Raises:
        ValueError: where a path leads nowhere.
    """
    return place if "://" in place else file_url(absolute(Path(place)))


def absolute(path: Path) -> Path:
    """The one path that a path means.

    Raises:
        ValueError: where it means none.
    """
    try:
        return path.expanduser().resolve()
    except RuntimeError as error:  # pathlib's, of an unknown ~user and of links that lead in a circle
        raise ValueError(f"expected a path that leads somewhere ({error})") from None


class Settings(BaseSettings):
    """A stack's settings. Each field is read from SEARCHLOOP_<FIELD>; an empty one counts as not set."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="ignore")

    home: Path = ROOT / "var"
    port_base: int = Field(default=7700, ge=1024, le=65000)
    sources: Path = ROOT / "deploy" / "sources" / "pydocs.yaml"
    postgres_url: str | None = None
    staging: str | None = None
    snapshots: str | None = None
    host: str = "127.0.0.1"
    gate_margin: float = Field(
        default=0.02, gt=0, lt=1, description="the loss in nDCG@10 that every gate must rule out; few queries need more"
    )
    enough_clicks: int = Field(default=200, ge=1, description="new clicks that start the making of feedback")
    nightly_hour: int = Field(
        default=2, ge=0, le=23, description="the hour (UTC) at which the night begins: data, then searches, then ranker"
    )
    retention_days: int = Field(default=180, ge=1, description="the age at which searches and clicks are deleted")
    notify: str = ""
    """Where notifications go beside the log: apprise URLs (json://, mailto://, slack://, ...), separated by spaces."""

    read_from: str | None = Field(
        default=None, description="another stack's home, whose prod snapshots, feedback and releases are learned from"
    )
    """A path or an fsspec URL. Nothing is ever written there: what is made here lies in the own home."""

    repos: str = ""
    """The repositories whose processes this stack runs, by name and separated by spaces; empty: all."""

    feedback: bool = Field(default=True, description="whether searches and clicks are recorded")
    model_timeout_ms: int = Field(default=300, ge=1, description="how long the search app waits for a model")
    model_patience_ms: int = Field(
        default=3000, ge=1, description="how long it waits for hits where no search model has given any in that time"
    )
    # The longest query of the collections developed on has 2,083 characters.
    query_max_characters: int = Field(default=5000, ge=1, le=5000, description="a longer query is refused")
    searches_at_once: int = Field(default=8, ge=1, description="searches that are answered at the same time")
    searches_waiting: int = Field(
        default=32, ge=0, description="searches that may wait for their turn; more are refused"
    )
    searches_wait_ms: int = Field(default=500, ge=1, description="how long a search waits for its turn at most")
    learned_per_minute: int = Field(
        default=1200, ge=0, description="searches a minute that are recorded with hits and features; of more, a sample"
    )
    cache_seconds: float = Field(
        default=60, ge=0, description="how long the same query is answered from memory, by the same set; 0: never"
    )
    waiting_limit: int = Field(default=16, ge=1, description="requests that may wait for one model before it is busy")
    poll_seconds: float = Field(default=0.5, gt=0, description="how often services read the live and the proposed set")
    grace_seconds: float = Field(default=60, ge=0, description="how long a set that was replaced is still answered")
    ship_seconds: float = Field(default=1, gt=0, description="how often what was recorded is sent to Postgres")
    retry_seconds: float = Field(default=10, gt=0, description="after which a failed load of a set is tried again")

    training_gib: float | None = Field(
        default=None, ge=0.25, description="GiB of memory that a training may have; unset: half of the machine's"
    )

    drift_searches: int = Field(default=300, ge=1, description="new searches that make a period to compare for drift")
    drift_settle_seconds: float = Field(
        default=60,
        ge=0,
        description="how long a search is given to be clicked, and a full period waits to be looked at",
    )
    drift_alpha: float = Field(default=0.05, gt=0, lt=1, description="the chance of a false alarm of a look for drift")
    drift_permutations: int = Field(default=999, ge=99, description="random permutations that a look is judged by")

    @field_validator("home", "sources", mode="after")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        """The one path that it means; raises ValueError where it means none."""
        return absolute(path)

    @field_validator("read_from", mode="after")
    @classmethod
    def _url(cls, place: str | None) -> str | None:
        """The URL of the place; raises ValueError where it means none."""
        return place and url_of(place).rstrip("/")

    @field_validator("host", mode="after")
    @classmethod
    def _loopback(cls, host: str) -> str:
        """The plain IP address of a loopback host; raises ValueError for an address that other machines reach."""
        text = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
        try:
            # An address with the name of an interface (fe80::1%eth0) has no place in a URL: it is made invalid.
            address = ipaddress.ip_address(text.replace("%", " "))
        except ValueError:
            raise ValueError("expected an address that only this machine reaches, 127.0.0.1 or ::1") from None
        if not address.is_loopback:
            raise ValueError(
                "other machines would reach every port, Dagit's and the code servers' too. That takes a token, which "
                "is not built yet: expected 127.0.0.1 or ::1"
            )
        return str(address)

    @field_validator("repos", mode="after")
    @classmethod
    def _sorted(cls, names: str) -> str:
        """The same names in one order, each once."""
        return " ".join(sorted(set(names.split())))

    def runs(self, repository: str) -> bool:
        """Whether this stack runs the processes of a repository."""
        return not self.repos or repository in self.repos.split()

    @property
    def ports(self) -> dict[str, int]:
        """Every port of the stack by the name of its process."""
        offsets = {"search": SEARCH_PORT, "dagit": DAGIT_PORT}
        for name, repository in repositories().items():
            offsets |= dict(zip((f"code-{name}", name), repository.ports, strict=False))
        return {process: self.port_base + offset for process, offset in offsets.items()}

    @property
    def url_host(self) -> str:
        """The host as a URL and gRPC write it: an IPv6 address in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def url(self, process: str) -> str:
        """The address of a process, for instance `url("search")`."""
        return f"http://{self.url_host}:{self.ports[process]}"

    def staging_url(self, deployment: Deployment) -> str:
        """The root of a deployment's staging area, as an fsspec URL."""
        return f"{self._staging_root}/{deployment}"

    @property
    def code_url(self) -> str:
        """The store of the code that releases run with, whatever their deployment, as an fsspec URL."""
        return f"{self._staging_root}/code"

    @property
    def locks_url(self) -> str:
        """The store of the locks that their environments are made from, as an fsspec URL."""
        return f"{self._staging_root}/locks"

    @property
    def _staging_root(self) -> str:
        return (self.staging or file_url(self.home / "staging")).rstrip("/")

    @property
    def sockets(self) -> Path:
        """The folder of the Unix sockets: in the home, or in the temporary folder where the home's path is long or odd.

        The operating system limits the length of a socket's path. The path of Postgres' socket is part of a URL, so
        only plain characters are allowed.
        """
        folder = self.home / "sockets"
        fits = len(os.fsencode(folder / LONGEST_SOCKET_NAME)) <= LONGEST_SOCKET_PATH
        if fits and re.fullmatch(r"[\w./-]+", str(folder), re.ASCII):
            return folder
        return Path(tempfile.gettempdir()) / f"searchloop-{hashlib.sha256(bytes(self.home)).hexdigest()[:12]}"

    def input_snapshots_url(self, deployment: Deployment) -> str:
        """Where a deployment's snapshots are read: another stack's where `read_from` names one, for prod."""
        return self._elsewhere("snapshots", deployment) or self.snapshots_url(deployment)

    def input_feedback_url(self, deployment: Deployment) -> str:
        """Where a deployment's feedback is read, likewise."""
        return self._elsewhere("feedback", deployment) or self.feedback_url(deployment)

    def input_staging_url(self, deployment: Deployment) -> str:
        """Where the releases that a deployment learns from are read, likewise."""
        return self._elsewhere("staging", deployment) or self.staging_url(deployment)

    def input_source_url(self, deployment: Deployment, source: str) -> str:
        """Where the tables that a source's repository has published are read, likewise."""
        elsewhere = self._elsewhere("sources", deployment)
        return f"{elsewhere}/{source}" if elsewhere else self.source_url(deployment, source)

    def _elsewhere(self, area: str, deployment: Deployment) -> str | None:
        return f"{self.read_from}/{area}/{deployment}" if self.read_from and deployment == "prod" else None

    def feedback_url(self, deployment: Deployment) -> str:
        """The root of a deployment's published feedback, as an fsspec URL."""
        return f"{file_url(self.home / 'feedback')}/{deployment}"

    def source_url(self, deployment: Deployment, source: str) -> str:
        """The root of what a source's repository publishes, as an fsspec URL."""
        return f"{file_url(self.home / 'sources')}/{deployment}/{source}"

    def snapshots_url(self, deployment: Deployment) -> str:
        """The root of a deployment's snapshots, as an fsspec URL."""
        root = self.snapshots or file_url(self.home / "snapshots")
        return f"{root.rstrip('/')}/{deployment}"


ELSEWHERE = ("SEARCHLOOP_TORCH", "SEARCHLOOP_STACK", "SEARCHLOOP_DAGIT_URL")
"""Variables that are no settings: one is read before there is a stack, the others are the stack's processes' own."""
CODE_PORT = "PORT_CODE_"


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + field.upper()


def code_port_variable(repository: str) -> str:
    """The environment variable that workspace.yaml takes the port of a repository's code server from."""
    return f"{PREFIX}{CODE_PORT}{repository.upper()}"


def unread(names: Iterable[str]) -> dict[str, str | None]:
    """The SEARCHLOOP_* variables among `names` that nothing reads, each with the variable that was probably meant."""
    fields = {each.removeprefix(PREFIX) for each in (*map(variable, Settings.model_fields), *ELSEWHERE)}
    suggestions: dict[str, str | None] = {}
    for name in sorted(each for each in names if each.upper().startswith(PREFIX)):
        own = name.upper().removeprefix(PREFIX)
        if own not in fields and not own.startswith(CODE_PORT):
            near = get_close_matches(own, fields, n=1)
            suggestions[name] = PREFIX + near[0] if near else None
    return suggestions


def current() -> Settings:
    """The settings of the present environment, read again only when one of its variables has changed.

    Every reference and every tick asks for them, and reading them takes over a millisecond.
    """
    variables = frozenset(item for item in os.environ.items() if item[0].upper().startswith(PREFIX))
    return _read(variables, Path.cwd())


@cache
def _read(variables: frozenset[tuple[str, str]], folder: Path) -> Settings:
    """The settings, cached by what they depend on: the process's variables and its working folder."""
    return Settings()
