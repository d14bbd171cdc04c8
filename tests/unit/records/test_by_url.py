"""Records by URL: read by ranges, written whole or not at all, and no secret is shown."""

import logging
import os
import pickle
import subprocess
import sys
import uuid
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from object_storage import OPTIONS, TOKEN

from alhelpers import records
from alhelpers.records import Files, RecordError


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    confidences = rng.dirichlet(np.ones(4), 2500).astype("f4")
    embeddings = rng.normal(size=(2500, 16)).astype("f4")
    return records.from_arrays(
        [f"r{k:05d}" for k in range(2500)], confidences=confidences, embeddings=embeddings
    )


@pytest.fixture
def pool(storage, table):
    """Write the table to two files of several row groups."""
    folder = storage.folder / "bucket" / "pool"
    folder.mkdir()
    pq.write_table(table.slice(0, 1500), folder / "a.parquet", row_group_size=500)
    pq.write_table(table.slice(1500), folder / "b.parquet", row_group_size=500)
    return f"{storage.url}/bucket/pool"


def of(url):
    return Files(url, OPTIONS)


def test_files_globs_folders_and_several_are_read(pool, table, storage):
    local = storage.folder / "bucket" / "pool"
    for paths in (
        f"{pool}/*.parquet",
        f"{pool}/",
        [f"{pool}/a.parquet", f"{pool}/b.parquet"],
        [f"{pool}/a.parquet", local / "b.parquet"],
        local,
        [local / "a.parquet", str(local / "b.parquet")],
    ):
        assert records.read(of(paths)).equals(table)
    assert records.count(of(f"{pool}/a.parquet")) == 1500
    assert records.field_names(of(pool + "/")) == table.column_names


def test_queries_are_made_of_urls(pool, table):
    chosen = [{"left": "confidence", "op": ">", "right": 0.6}]
    found = records.select(of(f"{pool}/*.parquet"), chosen, limit=9, order_by="confidence", desc=True)
    assert found.equals(records.select(table, chosen, limit=9, order_by="confidence", desc=True))


def test_only_the_columns_and_row_groups_of_a_part_are_fetched(pool, table, storage, monkeypatch):
    monkeypatch.setattr("alhelpers.storage._GAP", 0)
    parts = records.parts(of(f"{pool}/*.parquet"), ["confidences"], rows=500)
    assert len(parts) == 5
    footers = storage.requests[:]
    assert sorted(name for _, name, _ in footers) == ["a.parquet", "b.parquet"]  # one request for each file
    storage.requests.clear()
    assert parts[1].load().equals(table.select(["id", "confidences"]).slice(500, 500))
    assert len(storage.requests) <= 3  # the footer and the columns, at once
    folder = storage.folder / "bucket" / "pool"
    metadata = pq.read_metadata(folder / "a.parquet")
    group = metadata.row_group(1)
    chunks = {group.column(k).path_in_schema.split(".")[0]: group.column(k) for k in range(group.num_columns)}
    needed = sum(chunks[name].total_compressed_size for name in ("id", "confidences"))
    assert storage.bytes_read() == needed + metadata.serialized_size + 8


def test_large_row_groups_are_not_cut_in_object_storage(pool, storage):
    assert len(records.parts(of(f"{pool}/*.parquet"), rows=100)) == 5
    assert len(records.parts(storage.folder / "bucket" / "pool", rows=100)) == 25


def test_long_footers_and_long_columns_are_read_in_pieces(pool, table, monkeypatch):
    monkeypatch.setattr("alhelpers.storage._TAIL", 16)
    monkeypatch.setattr("alhelpers.storage._PIECE", 1000)
    monkeypatch.setattr("alhelpers.storage._GAP", 0)
    from alhelpers import storage

    (file,) = storage.find(f"{pool}/a.parquet", OPTIONS)
    short = storage.StoredFile(file.url, file.size, file.options, tail=16)
    found = records.partition.parts_of_files([short], None, 500, "records")
    assert found[2].load().equals(table.slice(1000, 500))


def test_writing_replaces_whole_objects(storage, table):
    url = f"{storage.url}/bucket/new/pool.parquet"
    records.write(of(url), table)
    assert records.read(of(url)).equals(table)
    records.write(of(url), records.query(of(url), limit=7))  # of itself
    assert records.count(of(url)) == 7
    before = (storage.folder / "bucket" / "new" / "pool.parquet").read_bytes()
    with pytest.raises(RecordError, match="comes more than once"):
        records.write(of(url), [{"id": "a"}, {"id": "a"}])
    assert (storage.folder / "bucket" / "new" / "pool.parquet").read_bytes() == before
    assert [name for name in os.listdir(storage.folder) if name != "bucket"] == []


@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_other_storages(protocol, tmp_path, table):
    url = f"{protocol}://{tmp_path if protocol == 'file' else ''}/{uuid.uuid4().hex}"
    records.write(f"{url}/in/a.parquet", table.slice(0, 10))
    records.write(f"{url}/in/b.parquet", table.slice(10, 10))
    assert records.read(f"{url}/in").equals(table.slice(0, 20))
    assert records.read(f"{url}/in/*.parquet").equals(table.slice(0, 20))
    if protocol == "file":
        assert all(name.endswith(".parquet") for _, _, names in os.walk(tmp_path) for name in names)


def test_what_cannot_be_read_is_named_and_shows_no_secret(pool, storage, table):
    (storage.folder / "bucket" / "text.parquet").write_text("no parquet at all")
    (storage.folder / "bucket" / "empty.parquet").touch()
    stranger = {"client_kwargs": {"headers": {"Authorization": "Bearer another-secret"}}}
    url = storage.url
    for source, message in (
        (of(f"{url}/bucket/none.parquet"), "none.parquet.*no file matches"),
        (of(f"{url}/bucket/none-*.parquet"), "no file matches"),
        (of(f"{url}/nowhere/pool.parquet"), "no file matches"),
        (of(f"{url}/bucket/text.parquet"), "is not a Parquet file of records"),
        (of(f"{url}/bucket/empty.parquet"), "is not a Parquet file of records"),
        ("http://127.0.0.1:1/pool/a.parquet", "a.parquet cannot be read: Cannot connect"),
        (Files(f"{pool}/a.parquet", stranger), "a.parquet cannot be read: no permission"),
        (f"{pool}/a.parquet?signature=another-secret", "no permission"),
        (f"nothing-{uuid.uuid4().hex[:4]}://a/b.parquet", "cannot be read: Protocol not known"),
    ):
        with pytest.raises(RecordError, match=message) as error:
            records.read(source)
        assert "secret" not in str(error.value) and TOKEN not in str(error.value)
        assert error.value.__cause__ is None or "secret" not in repr(error.value.__cause__)


def test_what_cannot_be_written_is_named(storage, table):
    stranger = {"client_kwargs": {"headers": {"Authorization": "Bearer another-secret"}}}
    for target, message in (
        (Files(f"{storage.url}/bucket/a.parquet", stranger), "cannot be written: no permission"),
        (of(f"{storage.url}/nowhere/a.parquet"), "a.parquet cannot be written: "),
        (of(f"{storage.url}/bucket/"), "name one file"),
        (of(f"{storage.url}/bucket/*.parquet"), "name one file"),
        (of([f"{storage.url}/bucket/a", f"{storage.url}/bucket/b"]), "name one file"),
    ):
        with pytest.raises(RecordError, match=message) as error:
            records.write(target, table)
        assert "secret" not in str(error.value)
    assert not list((storage.folder / "bucket").iterdir())


def test_a_file_that_is_changed_or_deleted_meanwhile_is_named(pool, table, storage):
    parts = records.parts(of(f"{pool}/a.parquet"), ["confidences"], rows=500)
    file = storage.folder / "bucket" / "pool" / "a.parquet"
    pq.write_table(table.slice(0, 1400), file, row_group_size=500)
    with pytest.raises(RecordError, match="changed"):
        parts[0].load()
    file.unlink()
    with pytest.raises(RecordError, match="a.parquet cannot be read: No such file"):
        parts[0].load()


def test_neighbours_are_fetched_by_one_request(pool, table, storage):
    parts = records.parts(of(f"{pool}/b.parquet"), ["confidences"], rows=500)
    storage.requests.clear()
    assert parts[1].load()["id"].equals(table["id"].slice(2000, 500))
    assert len(storage.requests) == 1


def test_a_file_of_the_same_size_with_other_records_is_noticed(storage, table):
    url = of(f"{storage.url}/bucket/a.parquet")
    folder = storage.folder / "bucket"
    plain = {"compression": "none", "use_dictionary": False}
    pq.write_table(table.slice(0, 1000), folder / "a.parquet", **plain)
    pq.write_table(table.slice(1000, 1000), folder / "b.parquet", **plain)
    assert (folder / "a.parquet").stat().st_size == (folder / "b.parquet").stat().st_size
    (part,) = records.parts(url, ["confidences"])
    os.replace(folder / "b.parquet", folder / "a.parquet")
    with pytest.raises(RecordError, match="a.parquet was changed while its records were read"):
        part.load()


def test_secrets_are_in_no_text_of_parts_and_logs(pool, caplog):
    caplog.set_level(logging.DEBUG)
    source = of(f"{pool}/*.parquet")
    parts = records.parts(source)
    records.read(source)
    shown = [repr(source), str(source), repr(parts), repr(records.query(source)), caplog.text]
    assert not [text for text in shown if TOKEN in text]
    with pytest.raises(RecordError, match="storage_options must be a dict") as error:
        Files("s3://bucket/a.parquet", TOKEN)
    assert TOKEN not in str(error.value)
    assert repr(Files("ftp://me:word@host/a.parquet")) == "Files('ftp://***@host/a.parquet')"
    assert "q=1" not in repr(Files("https://host/a.parquet?q=1"))
    assert pickle.loads(pickle.dumps(parts[0])).load().equals(parts[0].load())


def test_a_missing_package_is_named():
    with pytest.raises(RecordError, match="s3://bucket/a.parquet needs a package .*Install s3fs"):
        records.read("s3://bucket/a.parquet")
    with pytest.raises(RecordError, match="without its second slash"):
        records.read(Path("s3://bucket/a.parquet"))
    code = (
        "import sys\n"
        "import alhelpers.mining, alhelpers.records as records\n"
        "assert not {'fsspec', 'dask', 'aiohttp'} & set(sys.modules)\n"
        "sys.modules['fsspec.core'] = None\n"
        "try:\n    records.read('s3://bucket/a.parquet')\n"
        "except records.RecordError as error:\n    print(error)"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert (
        said
        == 's3://bucket/a.parquet needs fsspec, here and on every worker: pip install "alhelpers[dask]"\n'
    )
