"""The store: transactions, ids, blobs, and queries that give the same answer by SQL and without it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from platform_matcher import nested

from alhelpers.platform.query import Plan, matching, plan_for, search
from alhelpers.platform.store import Store, is_id
from alhelpers.platform.validation import merge


def item(store, number, **fields):
    name = f"/{'abc'[number % 3]}/{number}.png"
    hidden = number % 4 == 0
    document = {"id": store.new_id(), "datasetId": "d", "filename": name, "dir": name[:2], "hidden": hidden}
    kind = "dir" if number % 5 == 0 else "file"
    return document | {"type": kind, "name": f"{number}.png", "n": number} | fields


def test_a_failed_transaction_leaves_nothing(store):
    with pytest.raises(RuntimeError), store.transaction():
        store.put("items", item(store, 1))
        raise RuntimeError
    assert store.count("items") == 0


def test_bytes_go_with_the_transaction(store, monkeypatch):
    with store.transaction():
        document = item(store, 1)
        store.put("items", document, blob=store.write_blob(b"x"))
    path = store.blob_path(store.row("items", document["id"]).blob)
    with pytest.raises(RuntimeError), store.transaction():
        store.delete("items", id=document["id"])
        raise RuntimeError
    assert path.read_bytes() == b"x" and store.count("items") == 1
    with store.transaction():
        store.delete("items", id=document["id"])
    assert path.read_bytes() == b"x"  # for those who have just been told of it
    monkeypatch.setattr("alhelpers.platform.store.DROPPED_KEPT", 0.0)
    with store.transaction():
        pass
    assert not path.exists()


def test_a_document_is_found_by_what_it_was_last(store):
    """Written again, several times in one call too, and with its bytes kept."""
    with store.transaction():
        first = item(store, 1)
        store.put("items", first, blob=store.write_blob(b"x"))
        second = item(store, 2) | {"hidden": False}
        moved = first | {"datasetId": "e", "dir": "/new", "hidden": True}
        store.put_all("items", [first, moved, second, second | {"filename": "other.png"}])
    assert store.count("items", datasetId="d", filename="other.png", hidden=False) == 1
    assert store.count("items", datasetId="e", dir="/new", hidden=True) == 1
    with store.transaction():
        store.put_all("items", [moved | {"filename": "between.png"}, first])
    assert store.count("items", datasetId="e") == store.count("items", filename="between.png") == 0
    assert (
        store.count("items", datasetId="d", dir=first["dir"], filename=first["filename"], hidden=False) == 1
    )
    assert store.blob_path(store.row("items", first["id"]).blob).read_bytes() == b"x"


def test_a_failed_transaction_leaves_no_bytes(store):
    with pytest.raises(RuntimeError), store.transaction():
        path = store.blob_path(store.write_blob(b"x"))
        raise RuntimeError
    with store.transaction():
        assert path.parent.is_dir()
    assert not path.exists()


def test_what_is_kept_parsed_has_a_size(store, monkeypatch):
    """120 documents of a megabyte took 1.4 GiB."""
    monkeypatch.setattr("alhelpers.platform.store.CACHED_TEXT", 100_000)
    with store.transaction():
        store.put_all("items", [item(store, number, text="x" * 1000) for number in range(200)])
    for _ in range(2):
        parsed = [store.parsed(row) for row in store.find("items")]
        assert [each["n"] for each in parsed] == list(range(200))
        assert sum(len(text) for text, _ in store._parsed.values()) <= 100_000


def test_ids_only_grow_even_when_the_clock_goes_back(tmp_path, monkeypatch):
    store = Store(tmp_path)
    with store.transaction():
        ids = [store.new_id() for _ in range(1000)]
    store.close()
    monkeypatch.setattr("alhelpers.platform.store.time.time_ns", lambda: 1_000_000_000)
    store = Store(tmp_path)
    ids.append(store.new_id())
    store.close()
    assert ids == sorted(set(ids)) and all(map(is_id, ids))


def test_leftovers_of_a_crash_are_swept(tmp_path):
    store = Store(tmp_path)
    with store.transaction():
        store.put("items", item(store, 1), blob=store.write_blob(b"kept"))
    (tmp_path / "incoming" / ("a" * 32)).write_bytes(b"half")
    (tmp_path / "blobs" / "aa").mkdir()
    (tmp_path / "blobs" / "aa" / ("a" * 24)).write_bytes(b"orphan")
    store.close()
    store = Store(tmp_path)
    assert [path.read_bytes() for path in tmp_path.glob("blobs/*/*")] == [b"kept"]
    assert list((tmp_path / "incoming").iterdir()) == []
    store.close()


def test_merge_applies_a_diff():
    document = {"a": {"b": 1, "c": {"d": 2}}, "e": [1]}
    merge(document, {"a": {"b": None, "c": {"x": 3}}, "e": [2], "f": {"g": None, "h": 1}})
    assert document == {"a": {"c": {"d": 2, "x": 3}}, "e": [2], "f": {"h": 1}}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    with store.transaction():
        store.put_all("items", [item(store, number) for number in range(40)])
    yield store
    store.close()


DIRECTORIES = st.lists(st.sampled_from(["/a", "/b", "/c*"]), max_size=2)
CONDITIONS = st.one_of(
    st.fixed_dictionaries({"hidden": st.booleans()}),
    st.fixed_dictionaries({"type": st.sampled_from(["file", "dir", "other"])}),
    st.fixed_dictionaries({"dir": st.sampled_from(["/a", "/b", "/*", "/zzz"])}),
    st.fixed_dictionaries({"dir": st.fixed_dictionaries({"$in": DIRECTORIES})}),
    st.fixed_dictionaries({"filename": st.sampled_from(["/a/**", "/b/1.png", "/a/3.png", "/**"])}),
    st.fixed_dictionaries({"n": st.fixed_dictionaries({"$gt": st.integers(0, 40)})}),
)
TREES = nested(CONDITIONS, max_leaves=6)


@settings(max_examples=300)
@given(TREES, st.integers(0, 3), st.integers(0, 12), st.sampled_from(["ascending", "descending"]))
def test_sql_and_python_agree(filled, condition, page, size, direction):
    query = {"filter": condition, "page": page, "pageSize": size, "sort": {"id": direction}}
    scope = {"datasetId": "d"}
    found = search(filled, "items", query, **scope)
    plan = plan_for(filled, "items", {"filter": {"$or": [condition]}}, **scope)
    expected = sorted((row.id for row in matching(filled, plan)), reverse=direction == "descending")
    assert isinstance(plan, Plan) and found.total == len(expected)
    assert [row.id for row in found.rows] == expected[page * size : (page + 1) * size]


def test_paging_by_id_reaches_everything_once(filled):
    scope, last, seen = {"datasetId": "d"}, "", []
    while True:
        condition = {"$and": [{"type": "file"}, {"id": {"$gt": last}}]}
        query = {"filter": condition, "pageSize": 7, "sort": {"id": "ascending"}}
        page = search(filled, "items", query, **scope)
        if not page.rows:
            break
        seen += [row.id for row in page.rows]
        last = seen[-1]
    assert len(seen) == len(set(seen)) == 32 and seen == sorted(seen)
