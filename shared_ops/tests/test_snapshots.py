"""A snapshot is named by its content, never changes, and is refused when it is not what it says."""

import json
from pathlib import Path

import polars as pl
import pytest

from shared_ops.data import published, storage, tables
from shared_ops.data.published import PublishedError
from shared_ops.data.snapshots import SnapshotRef, Snapshots, load, sample


def test_equal_content_has_one_id_in_any_order_of_rows(snapshots: Snapshots, content: dict[str, pl.DataFrame]) -> None:
    first = snapshots.publish(content)
    assert snapshots.publish({name: frame.reverse() for name, frame in content.items()}) == first


def test_the_id_does_not_depend_on_where_it_lies(
    snapshots: Snapshots, content: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    elsewhere = Snapshots((tmp_path / "elsewhere").as_uri())
    assert elsewhere.publish(content).id == snapshots.publish(content).id


def test_one_changed_word_is_another_snapshot(snapshots: Snapshots, content: dict[str, pl.DataFrame]) -> None:
    first = snapshots.publish(content)
    content["documents"] = content["documents"].with_columns(pl.col("text").str.replace("median", "middle"))
    assert snapshots.publish(content).id != first.id


def test_publishing_again_leaves_the_files_alone(snapshots: Snapshots, content: dict[str, pl.DataFrame]) -> None:
    ref = snapshots.publish(content)
    path = storage.local_path(ref.url) / "documents.parquet"
    before = path.stat().st_mtime_ns
    snapshots.publish(content)
    assert path.stat().st_mtime_ns == before


def test_tables_come_back_as_they_were(snapshot: SnapshotRef, content: dict[str, pl.DataFrame]) -> None:
    assert load(snapshot).documents().equals(content["documents"].sort("doc_id"))
    assert load(snapshot).queries("test")["query_id"].to_list() == ["q4", "q5", "q6"]
    assert load(snapshot).qrels("dev")["doc_id"].to_list() == ["numpy.std"]


def test_a_table_that_breaks_its_schema_is_not_published(
    snapshots: Snapshots, content: dict[str, pl.DataFrame], tmp_path: Path
) -> None:
    content["qrels"] = content["qrels"].with_columns(pl.lit(0, dtype=pl.Int64).alias("grade"))
    with pytest.raises(tables.TableError, match=r"'qrels'.*grade: .*greater_than_or_equal_to"):
        snapshots.publish(content)
    assert storage.names(snapshots.url) == []


@pytest.mark.parametrize("value", [{"grade": 10**19}, {"grade": 1e30}, {"doc_id": "\ud800"}, {"doc_id": b"d"}])
def test_a_value_that_its_column_cannot_hold_breaks_the_schema_too(value: dict[str, bytes | float | str]) -> None:
    with pytest.raises(tables.TableError, match="'qrels' does not hold to its schema: a value: "):
        tables.make("qrels", [{"query_id": "q", "doc_id": "d", "grade": 1} | value])


def test_a_missing_snapshot_says_how_to_build_one(tmp_path: Path) -> None:
    with pytest.raises(PublishedError, match="Build one: make train"):
        load(SnapshotRef(id="none", url=(tmp_path / "none").as_uri()))


def test_a_newer_schema_is_refused(snapshot: SnapshotRef) -> None:
    path = storage.local_path(snapshot.url) / published.MANIFEST
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"schema_version": tables.SCHEMA_VERSION + 1}))
    with pytest.raises(PublishedError, match="Update the code"):
        load(snapshot)


def test_a_file_that_the_manifest_does_not_name_is_refused_by_name(snapshot: SnapshotRef) -> None:
    stranger = storage.local_path(snapshot.url) / "passages.parquet"
    stranger.write_bytes(b"of nobody")
    with pytest.raises(PublishedError, match=f"snapshot {snapshot.id} holds files that .* not name: passages.parquet"):
        load(snapshot)
    stranger.unlink()
    assert len(load(snapshot).documents())


def test_latest_is_what_was_pointed_to(snapshots: Snapshots, snapshot: SnapshotRef) -> None:
    assert snapshots.latest() is None
    snapshots.point_to(snapshot)
    assert snapshots.latest() == snapshot


def test_a_sample_keeps_whole_queries_and_is_the_same_each_time(snapshot: SnapshotRef, snapshots: Snapshots) -> None:
    cut = sample(load(snapshot), documents=4, seed=1)
    assert len(cut["documents"]) == 4
    assert cut["qrels"].join(cut["documents"], on="doc_id", how="anti").is_empty()
    assert 0 < len(cut["queries"]) < 6
    assert snapshots.publish(cut) == snapshots.publish(sample(load(snapshot), documents=4, seed=1))


@pytest.mark.parametrize("root", ["memory://stamped", "file://{tmp_path}"])
def test_a_folders_stamp_differs_once_a_file_was_written_and_is_no_other_for_being_read(
    root: str, tmp_path: Path
) -> None:
    url = storage.join(root.format(tmp_path=tmp_path), "folder")
    stamps = [storage.stamp(url)]
    for content in (b"first", b"second", b"third"):
        storage.write_atomic(storage.join(url, "deep", "table"), content)
        stamps.append(storage.stamp(url))
        storage.read_bytes(storage.join(url, "deep", "table"))
        assert storage.stamp(url) == stamps[-1]
    assert len(set(stamps)) == 4


def test_a_store_that_is_no_folder_works_the_same(content: dict[str, pl.DataFrame]) -> None:
    memory = Snapshots("memory://snapshots")
    ref = memory.publish(content)
    assert load(ref).documents().equals(content["documents"].sort("doc_id"))
    assert memory.publish(content) == ref
