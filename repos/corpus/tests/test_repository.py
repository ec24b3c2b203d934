"""What a repository with the role source has published is a source of the corpus, beside those of the sources file."""

from pathlib import Path

import polars as pl
import pytest
from dagster import DagsterInstance

from repos.corpus import build, fingerprints, preflight
from repos.corpus.graph import jobs
from repos.corpus.lineage import snapshot_specs
from repos.corpus.sources import config
from repos.corpus.sources.collected import SourceError
from repos.corpus.tests.conftest import write_lines, write_qrels
from repos.corpus.tests.test_triggers import SourceTicks
from shared_ops import settings
from shared_ops.data.snapshots import SnapshotRef, load
from shared_ops.data.source_tables import SourceRows, typed_tables
from shared_ops.pipeline.lineage import snapshot_key, source_key
from shared_ops.pipeline.references import BECAUSE
from shared_ops.pipeline.resources import DEV, PROD
from shared_ops.settings import LIST, ROOT

CORPUS_DEV, CORPUS_PROD = jobs
ENTRY = '\n[{0}]\nowner = "@org/{0}"\nenvironment = "light"\nrole = "source"\nqueue = "{0}"\nport = {1}\n'
LAMP = {"doc_id": "lamp", "title": "The lamp", "text": "Plug it in."}


class Listed:
    """The list of the repositories, as one edits it."""

    def __init__(self, root: Path) -> None:
        self.path = root / LIST

    def write(self, *names: str) -> None:
        """Let these be the repositories that each give a source."""
        text = (ROOT / LIST).read_text()
        self.path.write_text(text + "".join(ENTRY.format(name, 400 + i) for i, name in enumerate(names)))


@pytest.fixture(autouse=True)
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Listed:
    """A list of the repositories with one that gives a source, wiki."""
    (tmp_path / "checkout" / "repos").mkdir(parents=True)
    monkeypatch.setattr(settings, "ROOT", tmp_path / "checkout")
    made = Listed(tmp_path / "checkout")
    made.write("wiki")
    return made


def publish(rows: SourceRows, name: str = "wiki") -> SnapshotRef:
    """Publish rows as the job of a source's repository does in prod."""
    area = PROD.source(name)
    ref = area.publish(typed_tables(rows, name))
    area.point_to(ref)
    return ref


def built(sources: Path) -> build.Built:
    return build.build(config.load(sources))


def ids(built: build.Built, table: str = "documents", column: str = "doc_id") -> set[str]:
    return set(built.tables[table][column])


OWN = {f"d{number}" for number in range(10)}


def test_its_documents_queries_and_judgements_join_those_of_the_file(sources: Path) -> None:
    query = {"query_id": "q", "text": "start the lamp", "split": "test"}
    publish(SourceRows([LAMP | {"metadata": {"room": 1}}], [query], [{"query_id": "q", "doc_id": "lamp", "grade": 2}]))
    made = built(sources)
    assert ids(made) == OWN | {"wiki:lamp"}, "a single source of the file keeps its own ids"
    lamp = made.tables["documents"].row(by_predicate=pl.col("doc_id") == "wiki:lamp", named=True)
    assert lamp == {**LAMP, "doc_id": "wiki:lamp", "source": "wiki", "url": None, "metadata": '{"room": 1}'}
    assert ("wiki:q", "wiki:lamp", 2) in made.tables["qrels"].rows()
    assert ("wiki:q", "start the lamp", "test", "wiki") in made.tables["queries"].rows()
    assert [(each.name, each.kind, each.documents, each.bad) for each in made.reports] == [
        ("tiny", "beir", 10, {}),
        ("wiki", "repository", 1, {}),
    ]


def test_it_renames_no_id_of_several_sources_of_the_file(sources: Path) -> None:
    sources.write_text("sources: [{kind: beir, name: a, path: collection}, {kind: beir, name: b, path: collection}]")
    before = ids(built(sources))
    publish(SourceRows([LAMP]))
    assert ids(built(sources)) - before == {"wiki:lamp"} and before <= ids(built(sources))


def test_one_that_has_published_nothing_yet_is_left_out_with_a_word(sources: Path) -> None:
    said: list[str] = []
    made = build.build(config.load(sources), said.append)
    assert ids(made) == OWN and len(made.reports) == 1
    assert "wiki has published nothing yet, and is left out: make train REPO=wiki" in said


def test_what_a_dev_job_published_does_not_count(sources: Path) -> None:
    DEV.source("wiki").point_to(DEV.source("wiki").publish(typed_tables(SourceRows([LAMP]), "wiki")))
    assert ids(built(sources)) == OWN


def test_several_of_them_do_not_collide(sources: Path, listed: Listed) -> None:
    listed.write("wiki", "manual")
    publish(SourceRows([LAMP]))
    publish(SourceRows([LAMP]), "manual")
    assert ids(built(sources)) == OWN | {"wiki:lamp", "manual:lamp"}


def test_its_bad_rows_are_left_out_and_told_and_stop_nobody(sources: Path) -> None:
    publish(SourceRows([{"doc_id": "a\tb", "text": "x"}, LAMP | {"url": "ftp://lamp"}]))
    made = built(sources)
    assert ids(made) == OWN | {"wiki:lamp"}
    bad = {kind: (each.count, each.of) for kind, each in made.reports[1].bad.items()}
    assert bad == {
        "documents: id with a control character": (1, 2),
        "documents: url that is no http address, left out": (1, 2),
    }
    build.check(made.reports)
    publish(SourceRows([{"doc_id": "a\tb", "text": "x"}]))
    build.check(built(sources).reports)


def test_a_query_that_a_source_of_the_file_holds_back_is_held_back(sources: Path, beir: Path) -> None:
    query = {"query_id": "q", "text": "What is number 7?", "split": "train"}
    publish(SourceRows([LAMP], [query], [{"query_id": "q", "doc_id": "lamp"}]))
    assert "wiki:q" not in ids(built(sources), "queries", "query_id")
    write_lines(beir / "queries.jsonl", [{"_id": f"q{i}", "text": f"number {i}"} for i in range(10)])
    write_qrels(beir / "qrels" / "test.tsv", [(f"q{i}", f"d{i}", 2) for i in range(6, 10)])
    assert "wiki:q" in ids(built(sources), "queries", "query_id")


def test_tables_that_are_not_whole_are_told_by_name(sources: Path) -> None:
    ref = publish(SourceRows([LAMP]))
    Path(ref.url.removeprefix("file://"), "documents.parquet").unlink()
    with pytest.raises(SourceError, match=r"Source 'wiki': .* make train REPO=wiki publishes its tables again\."):
        built(sources)


def test_a_source_of_the_file_with_its_name_is_refused(sources: Path, listed: Listed) -> None:
    listed.write("tiny")
    said = f"{sources} names a source 'tiny', and repos/tiny is the repository of a source of that name"
    with pytest.raises(SourceError) as told:
        config.load(sources)
    assert str(told.value).startswith(said)
    assert preflight.problems(sources) == [str(told.value)]


def test_a_sources_file_cannot_name_one(sources: Path) -> None:
    sources.write_text("sources: [{kind: repository, name: wiki}]")
    with pytest.raises(SourceError, match="its kind is 'repository'; write one of pydocs, beir, table, sql"):
        config.load(sources)


@pytest.fixture
def ticks(instance: DagsterInstance) -> SourceTicks:
    return SourceTicks(instance)


def test_new_tables_and_a_repository_that_comes_or_goes_start_a_build_each(
    sources: Path, listed: Listed, ticks: SourceTicks, instance: DagsterInstance
) -> None:
    assert CORPUS_PROD.execute_in_process(instance=instance).success
    assert ticks.tick().startswith("Nothing changed since snapshot")
    first = publish(SourceRows([LAMP]))
    assert ticks.tick().tags[BECAUSE] == "wiki was added"
    assert CORPUS_PROD.execute_in_process(instance=instance).success
    assert ticks.tick().endswith("was built: tiny, wiki.")
    assert fingerprints.recall(PROD.snapshots.url, PROD.snapshots.latest().id)["wiki"] == first.id
    publish(SourceRows([LAMP | {"text": "Plug it in again."}]))
    assert ticks.tick().tags[BECAUSE] == "wiki was changed"
    assert CORPUS_PROD.execute_in_process(instance=instance).success
    listed.write()
    assert ticks.tick().tags[BECAUSE] == "wiki was removed"
    assert CORPUS_PROD.execute_in_process(instance=instance).success
    assert set(load(PROD.snapshots.latest()).documents()["doc_id"]) == OWN


def test_dev_reads_what_prod_s_repositories_have_published(sources: Path, instance: DagsterInstance) -> None:
    publish(SourceRows([LAMP]))
    assert CORPUS_DEV.execute_in_process(instance=instance).success
    assert "wiki:lamp" in set(load(DEV.snapshots.latest()).documents()["doc_id"])


def test_the_snapshot_comes_from_it_and_its_repository_alone_tells_of_it(
    sources: Path, instance: DagsterInstance
) -> None:
    publish(SourceRows([LAMP]))
    assert CORPUS_PROD.execute_in_process(instance=instance).success
    assert instance.get_latest_materialization_event(source_key("prod", "tiny"))
    assert instance.get_latest_materialization_event(source_key("prod", "wiki")) is None
    specs = {spec.key: spec for spec in snapshot_specs(["tiny"])}
    assert source_key("prod", "wiki") not in specs and source_key("dev", "wiki") not in specs
    for deployment in settings.DEPLOYMENTS:
        deps = {dep.asset_key for dep in specs[snapshot_key(deployment)].deps}
        assert deps == {source_key(deployment, "tiny"), source_key("prod", "wiki")}


def test_documents_alone_are_enough(home: Path, listed: Listed, instance: DagsterInstance, tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    write_lines(tmp_path / "a.jsonl", [{"doc_id": "a", "text": "A."}])
    path.write_text("sources: [{kind: table, name: a, documents: {path: a.jsonl}}]")
    publish(SourceRows([LAMP]))
    config_of_run = {"ops": {"read_sources": {"config": {"sources": str(path)}}}}
    assert CORPUS_PROD.execute_in_process(config_of_run, instance).success
    content = load(PROD.snapshots.latest())
    assert set(content.documents()["doc_id"]) == {"a", "wiki:lamp"} and content.queries().is_empty()
