"""Packages' documentation: one document for each object, queries from "See Also" lists, the same on every machine."""

import json
import os
import textwrap
from pathlib import Path

import pytest

from repos.corpus import build
from repos.corpus.sources.collected import Collected, SourceError
from repos.corpus.sources.config import load as load_sources
from repos.corpus.sources.readers.pydocs import reader as pydocs
from repos.corpus.sources.readers.pydocs.queries import tells_something
from repos.corpus.sources.readers.pydocs.text import clean
from repos.corpus.sources.readers.pydocs.urls import documentation_url
from repos.corpus.tests.conftest import source_of
from shared_ops.data.snapshots import Snapshots
from shared_ops.settings import ROOT

FILES = {
    "__init__.py": '''
        """A package of well known shapes."""
        from shapes._round import Base, Circle, area, SPOT
        from shapes import solid
        surface = area
        ''',
    "_round.py": '''
        print("a package may print")

        def area(shape):
            """Measure how much of the plane a shape covers.

            Parameters
            ----------
            shape : Circle

            See Also
            --------
            Circle : Round shape with one centre.
            Circle.grow, shapes.solid.volume : Make a thing larger or measure it.
            solid.volume : The space that a body fills.
            os.path.join : Something of another package.
            nowhere : A name that there is not.
            :ref:`area` : A page of the manual on areas.
            area : The very same function again.
            Circle.name : equivalent method

            Notes
            -----
            At 0x7f00deadbeef a :func:`~shapes.area` is ``small``.
            """

        class Base:
            """What all the shapes have in common."""

            def grow(self):
                """Enlarge by a factor, the centre stays."""

            def name(self):
                """Say what people call it.

                See Also
                --------
                grow : Enlarge by a factor,
                    the centre stays.
                solid : Bodies in three dimensions.
                """

        class Circle(Base):
            """A round shape.

            See Also
            --------
            surface : Measure how much of the plane
                a shape covers.
            """

            def name(self):
                return "circle"

        class _Spot:
            """A shape without an extent."""

        SPOT = _Spot()
        ''',
    "solid.py": '''
        """Bodies that have a volume."""
        from shapes._round import area

        def volume(body, samples=[]):
            """Measure how much of space a body fills.

            See Also
            --------
            shapes.area : measure how much of the plane a shape covers
            """
        ''',
    "leaves.py": "raise SystemExit('a module may exit')",
    "breaks.py": "import a_module_that_there_is_not",
    "tests/__init__.py": 'def check():\n    """A test is no documentation."""',
}


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that does what packages do, on the path of the process that reads it."""
    for name, content in FILES.items():
        path = tmp_path / "lib" / "shapes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(content).lstrip())
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "lib"))
    return tmp_path / "lib"


def read(packages: dict[str, str], **settings: int) -> Collected:
    entry = {"kind": "pydocs", "name": "docs", "packages": packages, **settings}
    return pydocs.read(source_of(entry))


def answers(found: Collected) -> dict[str, list[str]]:
    texts = {query["query_id"]: query["text"] for query in found.queries}
    result: dict[str, list[str]] = {}
    for row in found.qrels:
        result.setdefault(texts[row["query_id"]], []).append(row["doc_id"])
    return result


def test_each_object_is_one_document_under_the_name_that_people_know(shapes: Path) -> None:
    documents = {row["doc_id"]: row for row in read({"Shapes": "shapes"}).documents}
    assert sorted(documents) == [
        "shapes",
        "shapes.Base",
        "shapes.Base.grow",
        "shapes.Base.name",
        "shapes.Circle",
        "shapes.SPOT",
        "shapes.area",
        "shapes.solid",
        "shapes.solid.volume",
    ]
    assert json.loads(documents["shapes.area"]["metadata"])["aliases"] == ["shapes.surface"]
    assert json.loads(documents["shapes.Base.grow"]["metadata"])["aliases"] == ["shapes.Circle.grow"]
    assert documents["shapes.area"]["source"] == "Shapes"


def test_see_also_leaves_the_text_and_so_does_what_differs_between_machines(shapes: Path) -> None:
    text = {row["doc_id"]: row for row in read({"Shapes": "shapes"}).documents}["shapes.area"]["text"]
    assert "See Also" not in text and "Round shape" not in text
    assert "Parameters" in text
    assert text.endswith("At 0x... a shapes.area is `small`.")


def test_descriptions_are_queries_answered_by_what_their_target_means(shapes: Path) -> None:
    assert answers(read({"Shapes": "shapes"})) == {
        "Round shape with one centre.": ["shapes.Circle"],
        "Make a thing larger or measure it.": ["shapes.Base.grow", "shapes.solid.volume"],
        "The space that a body fills.": ["shapes.solid.volume"],
        "Enlarge by a factor, the centre stays.": ["shapes.Base.grow"],
        "Bodies in three dimensions.": ["shapes.solid"],
        "Measure how much of the plane a shape covers.": ["shapes.area"],
    }


def test_what_makes_no_query_is_counted_with_its_reason(shapes: Path) -> None:
    notes = read({"Shapes": "shapes"}).report.notes
    assert notes["see also: target not found"] == 2
    assert notes["see also: target is the document itself"] == 1
    assert notes["see also: no description, or one that tells nothing"] == 1
    assert notes["Shapes: see also pages"] == 1


def test_a_query_is_verbatim_where_its_words_stand_in_its_answer(shapes: Path) -> None:
    collected = read({"Shapes": "shapes"})
    texts = {query["query_id"]: query["text"] for query in collected.queries}
    slices = {texts[row["query_id"]]: row["slice"] for row in collected.slices}
    assert {text for text, name in slices.items() if name == "verbatim"} == {
        "Enlarge by a factor, the centre stays.",
        "Measure how much of the plane a shape covers.",
    }
    assert set(slices.values()) == {"verbatim", "paraphrase"} and len(slices) == len(texts)


def test_modules_and_packages_that_fail_or_exit_are_reported_and_end_nothing(shapes: Path) -> None:
    (shapes / "crash").mkdir()
    (shapes / "crash" / "__init__.py").write_text("import os\nos._exit(7)")
    collected = read({"Shapes": "shapes", "Crash": "crash", "None": "no_such_package"})
    assert len(collected.documents) == 9
    assert collected.report.notes["Shapes: failed import of shapes.leaves"] == "SystemExit: a module may exit"
    assert "ModuleNotFoundError" in str(collected.report.notes["Shapes: failed import of shapes.breaks"])
    assert "status 7" in str(collected.report.notes["Crash: failed import of crash"])
    assert "ModuleNotFoundError" in str(collected.report.notes["None: failed import of no_such_package"])


def test_a_package_that_hangs_is_given_up_after_its_time(shapes: Path) -> None:
    (shapes / "hang").mkdir()
    (shapes / "hang" / "__init__.py").write_text("import time\ntime.sleep(600)")
    collected = read({"Hang": "hang"}, timeout_seconds=2)
    assert collected.report.notes["Hang: failed import of hang"] == "not read within 2 s; see timeout_seconds"
    with pytest.raises(SourceError, match="'docs' gives no documents"):
        build.check([collected.report])


@pytest.mark.parametrize(
    ("description", "tells"),
    [
        ("Norm of a matrix.", True),
        ("Detect missing values.", True),
        ("Function.", False),
        ("numpy.dot", False),
        ("Equivalent method for Series.", False),
        ("which should be used for new code.", False),
    ],
)
def test_a_description_must_tell_something(description: str, tells: bool) -> None:
    assert tells_something(description) is tells


def test_examples_computed_on_import_are_shortened_because_processors_differ_in_the_last_digits() -> None:
    computed = "(np.float64(0.2572915634331659), np.float64(1.4418186690070737e-15))"
    assert clean(f"{computed}\narray([1.])  # may vary") == (
        "(np.float64(0.257292), np.float64(0))\narray([1.])  # may vary"
    )
    assert clean(computed) == computed


def test_markup_for_links_becomes_what_a_reader_sees() -> None:
    assert clean(r"A :class:`~a.B`\ s, :func:`text <a.b>`, ``x``.") == "A a.Bs, text, `x`."


@pytest.mark.parametrize(
    ("package", "kind", "name", "module", "url"),
    [
        ("numpy", "function", "numpy.linalg.norm", "numpy.linalg",
         "https://numpy.org/doc/stable/reference/generated/numpy.linalg.norm.html"),
        ("sklearn", "method", "sklearn.svm.SVC.fit", "sklearn.svm._classes",
         "https://scikit-learn.org/stable/modules/generated/sklearn.svm.SVC.html#sklearn.svm.SVC.fit"),
        ("networkx", "function", "networkx.shortest_path", "networkx.algorithms.shortest_paths.generic",
         "https://networkx.org/documentation/stable/reference/algorithms/generated/"
         "networkx.algorithms.shortest_paths.generic.shortest_path.html"),
        ("statsmodels", "class", "statsmodels.api.OLS", "statsmodels.regression.linear_model",
         "https://www.statsmodels.org/stable/generated/statsmodels.regression.linear_model.OLS.html"),
        ("skimage", "function", "skimage.filters.gaussian", "skimage.filters._gaussian",
         "https://scikit-image.org/docs/stable/api/skimage.filters.html#skimage.filters.gaussian"),
        ("numpy", "module", "numpy.linalg", "numpy.linalg", None),
        ("unknown", "function", "unknown.f", "unknown", None),
    ],
)  # fmt: skip
def test_a_document_links_to_its_page_where_the_project_has_one(
    package: str, kind: str, name: str, module: str, url: str | None
) -> None:
    names = [name, "statsmodels.regression.linear_model.OLS"]
    assert documentation_url(package, kind, name, names, module) == url


@pytest.mark.slow
def test_the_default_corpus_is_large_and_the_same_wherever_it_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = load_sources(ROOT / "deploy" / "sources" / "pydocs.yaml")
    first = build.build(sources)
    build.check(first.reports)
    assert len(first.tables["documents"]) >= 10_000
    assert len(first.tables["queries"]) >= 3_000
    assert set(first.tables["slices"]["slice"]) == {"verbatim", "paraphrase"}
    well_known = {"numpy.linalg.norm", "pandas.DataFrame.head", "networkx.shortest_path", "sklearn.linear_model.Ridge"}
    assert well_known <= set(first.tables["documents"]["doc_id"])
    assert set(sources.sources[0].packages) == set(first.tables["documents"]["source"])

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONHASHSEED", str(os.getpid()))
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    second = build.build(sources)
    ids = [Snapshots(f"file://{tmp_path}/{n}").publish(built.tables).id for n, built in enumerate((first, second))]
    assert ids[0] == ids[1]
