"""Walk one package's public API and write what its docstrings say to a JSON file.

    python -m repos.corpus.sources.readers.pydocs.extract <package> <file>

Run in a process of its own: importing every module of a package may print, warn, exit, or leave threads behind. It
knows nothing of documents, queries or other packages; `reader.py` and `queries.py` make those of the file.
"""

import inspect
import json
import pkgutil
import random
import re
import secrets
import sys
import textwrap
import warnings
from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

# Modules that hold no API: a package's tests and scripts, and its copies of other packages.
NOT_API = {"tests", "test", "conftest", "setup", "distutils", "examples", "externals", "vendored"}
# numpy, pandas and xarray declare their `core` private, though its name has no underscore.
PRIVATE = {"core"}
# A member that several classes share is named after the first class in the alphabet, unless one of these has it.
PREFERRED = ("pandas.DataFrame.", "pandas.Series.")
# The roles of links to pages of a manual, which are no documents here.
PAGE_ROLES = {"ref", "doc", "term"}
DEEPEST = 2
"""In how many other classes a class may be nested."""
_SECTION_UNDERLINE = re.compile(r"^\s*(-{3,}|={3,})\s*$")


@dataclass
class DocumentedObject:
    """One documented object."""

    kind: str
    module: str
    doc: str
    see_also: list[tuple[list[str], str]]
    names: list[str] = field(default_factory=list)
    """Every dotted name that reaches it, the best known one first."""


@dataclass
class Extraction:
    """What a package's docstrings say."""

    package: str
    version: str
    entries: list[DocumentedObject]
    counts: dict[str, int]
    failed: dict[str, str]
    """The modules whose import failed, each with its error."""


def is_public(path: str) -> bool:
    """Whether no part of a dotted name is private."""
    return not any(part.startswith("_") or part in PRIVATE or part in NOT_API for part in path.split("."))


class Walker:
    """Collects the documented objects of one package, each once, under all its names."""

    def __init__(self, package: str) -> None:
        self.package = package
        self.counts = dict.fromkeys(
            ("trivial_docstring", "unreadable_attribute", "unreadable_see_also", "see_also_pages"), 0
        )
        self.failed: dict[str, str] = {}
        self.objects: dict[int, Any] = {}
        """By `id`; the reference keeps the id from being given to another object."""
        self.names: dict[int, dict[str, tuple[Any, ...]]] = {}
        """By an object's `id`, its names, each with the key that orders them."""
        self.kinds: dict[int, str] = {}
        self.docs: dict[int, str] = {}

    def extract(self) -> Extraction:
        """Walk the package."""
        for path, module in sorted(self.modules().items()):
            parent, _, name = path.rpartition(".")
            if getattr(sys.modules.get(parent), name, module) is module:  # else a function has taken its module's name
                self.add(module, path, "module", module.__doc__, distance=int(path != module.__name__))
            self.walk_module(path, module)
        entries = [entry for key in self.objects if (entry := self.entry(key)) is not None]
        version = str(getattr(sys.modules.get(self.package), "__version__", ""))
        entries = sorted(merge(entries), key=lambda entry: entry.names)
        return Extraction(self.package, version, entries, self.counts, dict(sorted(self.failed.items())))

    def modules(self) -> dict[str, ModuleType]:
        """Every public module, by each public name that reaches it."""
        modules: dict[str, ModuleType] = {}
        queue = deque([self.package])
        while queue:  # breadth first: packages expect their outer modules to be imported first
            path = queue.popleft()
            try:
                module = import_module(path)
            except BaseException as error:  # a module may even exit
                if isinstance(error, KeyboardInterrupt):
                    raise
                self.failed[path] = f"{type(error).__name__}: {error}".splitlines()[0]
                continue
            modules[path] = module
            children = [f"{path}.{child.name}" for child in pkgutil.iter_modules(getattr(module, "__path__", []))]
            queue += sorted(child for child in children if is_public(child))
        for path, module in sorted(modules.items()):
            for name, value in self.members(module):
                alias = f"{path}.{name}"
                if inspect.ismodule(value) and self.owns(value) and alias not in modules:
                    shorter = alias.count(".") < value.__name__.count(".")
                    modules |= {alias: value} if shorter or not is_public(value.__name__) else {}
        return modules

    def members(self, module: ModuleType) -> Iterator[tuple[str, Any]]:
        """A module's public names and their values.

        They are those in its `__all__`. Without one they are its own functions and classes, and in a package's
        `__init__` also what it imports: that is meant for users, while other modules import for their own use.
        """
        exported = getattr(module, "__all__", None)
        for name in sorted({str(name) for name in (dir(module) if exported is None else exported)}):
            if not is_public(name):
                continue
            try:
                value = getattr(module, name)
            except Exception:  # a deprecated name may raise whatever it likes
                self.counts["unreadable_attribute"] += 1
                continue
            home = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", module.__name__)
            if exported is not None or hasattr(module, "__path__") or home == module.__name__:
                yield name, value

    def private_class_doc(self, value: Any) -> str | None:
        """The docstring of an object's class where that is private, as of `numpy.mgrid`; else None."""
        cls = type(value)
        return cls.__doc__ if self.owns(cls) and not is_public(f"{cls.__module__}.{cls.__qualname__}") else None

    def owns(self, value: Any) -> bool:
        """Whether an object is defined in this package, not imported from another."""
        module = value.__name__ if inspect.ismodule(value) else getattr(value, "__module__", None)
        if isinstance(module, str):
            return module.split(".")[0] == self.package
        # ufuncs do not name their module
        numpy = sys.modules.get("numpy")
        name = getattr(value, "__name__", "")
        return self.package == "numpy" or getattr(numpy, name or "_", None) is not value

    def walk_module(self, path: str, module: ModuleType) -> None:
        """Add the functions, classes and documented objects of a module."""
        for name, value in self.members(module):
            if inspect.ismodule(value) or not self.owns(value):
                continue
            if inspect.isclass(value):
                self.walk_class(f"{path}.{name}", value)
            else:
                doc = own_doc(value) or self.private_class_doc(value)
                self.add(value, f"{path}.{name}", "function" if callable(value) else "object", doc)

    def walk_class(self, path: str, cls: type, within: tuple[type, ...] = (), through: int = 0) -> None:
        """Add a class and its public members, inherited ones too: those are other names of the base class's.

        `within` are the classes that it is nested in; `through` is the number of classes that it was inherited through.
        """
        self.add(cls, path, "class", vars(cls).get("__doc__"), through)
        documented: set[str] = set()
        for distance, base in enumerate(cls.__mro__, start=through):
            if base is object or not self.owns(base):
                continue
            for name, raw in vars(base).items():
                if not is_public(name) or name in documented or (inspect.isclass(raw) and base is not cls):
                    continue
                nested = self.nested(cls, name, raw)
                if nested is not None and nested not in (*within, cls) and len(within) < DEEPEST:
                    self.walk_class(f"{path}.{name}", nested, (*within, cls), distance)
                    documented.add(name)
                elif nested is None and (doc := own_doc(getattr(raw, "__func__", raw))):
                    # an overriding method without a docstring is one more name of the method that it overrides
                    self.add(getattr(raw, "__func__", raw), f"{path}.{name}", member_kind(raw), doc, distance)
                    documented.add(name)

    def nested(self, cls: type, name: str, raw: Any) -> type | None:
        """The class that an attribute stands for: a nested one, or an accessor's as in `Series.str`; else None."""
        if inspect.isclass(raw):
            return raw if self.owns(raw) and raw.__qualname__.startswith(f"{cls.__qualname__}.") else None
        if isinstance(raw, FunctionType | property | staticmethod | classmethod) or not hasattr(type(raw), "__get__"):
            return None
        try:
            value = getattr(cls, name)
        except Exception:  # an accessor may refuse the bare class
            self.counts["unreadable_attribute"] += 1
            return None
        return value if inspect.isclass(value) and self.owns(value) else None

    def add(self, value: Any, path: str, kind: str, doc: Any, distance: int = 0) -> None:
        """Add the name `path` of `value`; `distance` is the number of classes that it was inherited through."""
        if not isinstance(doc, str) or not doc.strip():
            return
        key = id(value)
        if key not in self.objects:
            self.objects[key], self.names[key], self.kinds[key], self.docs[key] = value, {}, kind, doc
        defined = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
        preferred = path.startswith(PREFERRED)
        order = (not is_public(path), distance, path.count("."), path != defined, not preferred, path)
        self.names[key][path] = min(order, self.names[key].get(path, order))

    def entry(self, key: int) -> DocumentedObject | None:
        """The object's entry, or None where its docstring says nothing."""
        names = sorted(self.names[key], key=lambda path: self.names[key][path])
        module = getattr(self.objects[key], "__module__", None)
        doc, see_also = self.parse(inspect.cleandoc(self.docs[key]))
        if len(re.findall(r"\w+", doc)) < 3 or re.fullmatch(r"\w+\([^)]*\)|Alias for field number \d+", doc):
            self.counts["trivial_docstring"] += 1
            return None
        return DocumentedObject(self.kinds[key], module or names[0].rpartition(".")[0], doc, see_also, names)

    def parse(self, doc: str) -> tuple[str, list[tuple[list[str], str]]]:
        """A docstring without its "See Also" section, and that section's targets with their descriptions."""
        from numpydoc.docscrape import NumpyDocString

        rest, section = without_see_also(doc)
        references: list[tuple[list[str], str]] = []
        for item in re.split(r"\n(?=\S)", "\n".join(section).strip("\n")):
            try:  # item by item: the parser rejects a whole section for one item that it cannot read
                parsed = NumpyDocString(f"See Also\n--------\n{item}")["See Also"] if item.strip() else []
            except ValueError:
                self.counts["unreadable_see_also"] += 1
                continue
            for targets, words in parsed:
                names = [name for name, role in targets if role not in PAGE_ROLES]
                self.counts["see_also_pages"] += len(targets) - len(names)
                references.append((names, " ".join(words)))
        return rest, references


def own_doc(value: Any) -> str | None:
    """An object's own docstring, None where it only has its class's."""
    doc, of_class = getattr(value, "__doc__", None), type(value).__doc__
    # endswith: an array has the docstring of its class with a signature before it.
    return doc if isinstance(doc, str) and not (isinstance(of_class, str) and doc.endswith(of_class)) else None


def member_kind(raw: Any) -> str:
    """The kind of a class's attribute: "method" or "attribute"."""
    return "method" if callable(raw) or isinstance(raw, staticmethod | classmethod) else "attribute"


def without_see_also(doc: str) -> tuple[str, list[str]]:
    """Split a clean docstring into its text without the "See Also" section, and that section's lines."""
    lines = doc.split("\n")
    starts = [i for i in range(len(lines) - 1) if lines[i].strip() and _SECTION_UNDERLINE.match(lines[i + 1])]
    rest, section, position = [], [], 0
    for start, end in zip(starts, [*starts, len(lines)][1:], strict=True):
        if lines[start].strip().lower() == "see also":
            rest += lines[position:start]
            section += textwrap.dedent("\n".join(lines[start + 2 : end])).split("\n")
            position = end
    return "\n".join([*rest, *lines[position:]]).strip(), section


def merge(entries: list[DocumentedObject]) -> list[DocumentedObject]:
    """Merge entries that no search can tell apart: those with the same last part of the name and the same words."""
    by_words: dict[tuple[str, str], DocumentedObject] = {}
    for entry in sorted(entries, key=lambda entry: (entry.names[0].count("."), entry.names)):
        key = (entry.names[0].rpartition(".")[2], entry.doc)
        if key in by_words:
            by_words[key].names += [name for name in entry.names if name not in by_words[key].names]
        else:
            by_words[key] = entry
    return list(by_words.values())


def main(package: str, path: str) -> None:
    """Extract `package` into the JSON file at `path`."""
    warnings.simplefilter("ignore")
    # Some docstrings show numbers that are drawn on import (scipy.stats.Normal). NumPy seeds a generator without a seed
    # by this function, so those numbers are the same on every machine.
    secrets.randbits = random.Random(0).getrandbits  # type: ignore[assignment]
    extraction = Walker(package).extract()
    Path(path).write_text(json.dumps(asdict(extraction)))


if __name__ == "__main__":
    main(*sys.argv[1:])
