"""The index of values proposes at least what matches: answers with it equal those of a plain matcher."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from platform_client import undone
from platform_matcher import brute, nested, single

from alhelpers.platform import index
from alhelpers.platform.query import plan_for, search
from alhelpers.platform.store import Store

SCOPE = {"datasetId": "d"}
DATES = ["2024-01-01", "2024-01-01T00:00:00.000Z", "2024-01-01T02:00:00+02:00", "2024-06-01T00:00:00Z"]
DATES += ["2024-13-01"]
TEXTS = ["", "a", "ab", "1", "true", "null", "é", "日本", "\U0010ffff", "\0", "a*", "/a/b", "\ud800", *DATES]
LONG = ["a" * (index.MAX_TEXT + extra) for extra in (-1, 0, 1)] + ["a" * index.MAX_TEXT + "b"]
NUMBERS = [0, 1, 1.0, -1, 1.5, 2, 2**53, 2**53 + 1, 2**63, -(2**64), 10**400]
SCALARS = st.sampled_from([None, True, False, *NUMBERS, *TEXTS, *LONG])
KEYS = st.sampled_from(["a", "b", "0", "x.y", "ü", ""])
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=8,
)
METADATA = st.dictionaries(KEYS, VALUES, max_size=3)
FIELDS = st.one_of(
    st.lists(KEYS, min_size=1, max_size=3).map(lambda keys: ".".join(["metadata", *keys])),
    st.sampled_from(
        ["metadata", "metadata.a", "metadata.b", "metadata.a.b", "name", "n", "metadata.system.size"]
    ),
)
ORDERED = st.sampled_from([True, False, *NUMBERS, *TEXTS, *LONG])
INNER = st.dictionaries(
    st.sampled_from(["a", "b", "a.b"]),
    st.one_of(SCALARS, st.fixed_dictionaries({"$gt": ORDERED})),
    min_size=1,
)
OPERATORS = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne"]), VALUES),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(VALUES, max_size=3)),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ORDERED),
    st.tuples(st.just("$exists"), st.booleans()),
    st.tuples(st.just("$glob"), st.sampled_from(["a*", "*", "2024*", "é*", "\U0010ffff*", "a*b", "\ud800*"])),
    st.tuples(st.just("$match"), st.one_of(INNER, st.fixed_dictionaries({"$gt": ORDERED, "$lt": ORDERED}))),
)
CONDITIONS = st.one_of(
    single(FIELDS, single(OPERATORS)),
    single(FIELDS.filter(lambda field: field != "name"), st.lists(VALUES, max_size=3)),
)
PATTERNS = single(
    st.sampled_from(["filename", "dir", "name"]),
    st.sampled_from(["/**", "/a/**", "/a*", "/a/*", "*", "**", "a*", "0*", "/\ud800*", "/a/0.png", "/*/1*"]),
)
FILTERS = nested(st.one_of(CONDITIONS, PATTERNS), max_leaves=5)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("index"))
    yield store
    store.close()


def document(store, number, metadata, scope="d"):
    directory = ["/a", "/a/b", "/"][number % 3]
    name = f"{number}.png"
    path = f"{directory.rstrip('/')}/{name}"
    place = {"datasetId": scope, "filename": path, "dir": directory, "name": name}
    return place | {"id": store.new_id(), "type": "file", "hidden": False, "n": number, "metadata": metadata}


@settings(max_examples=600, suppress_health_check=list(HealthCheck))
@given(st.lists(METADATA, max_size=6), st.lists(FILTERS, min_size=1, max_size=4), st.randoms())
def test_indexed_answers_equal_a_plain_matcher(store, metadata, filters, chance):
    with undone(store):
        documents = [document(store, number, each) for number, each in enumerate(metadata)]
        other = [document(store, 9, each, scope="elsewhere") for each in metadata]
        store.put_all("items", documents + other)
        changed = chance.sample(documents, len(documents) // 2)
        for each in changed:
            each["metadata"] = chance.choice(metadata)
        store.put_all("items", changed)
        for each in chance.sample(documents, len(documents) // 3):
            store.delete("items", id=each["id"])
            documents.remove(each)
        for condition in filters:
            # The newest come first.
            found_ids = [each["id"] for each in documents if brute(condition, each)]
            expected = sorted(found_ids, reverse=True)
            found = search(store, "items", {"filter": condition}, **SCOPE)
            assert ([row.id for row in found.rows], found.total) == (expected, len(expected))
            by_name = search(store, "items", {"filter": condition, "sort": {"n": "descending"}}, **SCOPE)
            assert [row.id for row in by_name.rows] == expected
        assert stored_entries(store) == fresh_entries(store)


def stored_entries(store):
    store._write_index()
    return set(store._database.execute("SELECT path, value, id FROM entries"))


def fresh_entries(store):
    rows = store.find("items")
    return {
        (path, value, row.id)
        for row in rows
        for path, value in index.entries("items", row.scope, store.parsed(row))
    }


def filled(store, number):
    chance = random.Random(0)
    documents = []
    for each in range(number):
        system = {"tags": {"rare": True} if each % 100 == 0 else {"common": True}}
        user = {"group": each % 10, "score": chance.random()}
        documents.append(document(store, each, {"system": system, "user": user}))
    return documents


@pytest.fixture
def large(tmp_path):
    store = Store(tmp_path)
    with store.transaction():
        store.put_all("items", filled(store, 3000))
    yield store
    store.close()


@pytest.mark.parametrize(
    ("condition", "proposed", "left"),
    [
        ({"metadata.system.tags.rare": True}, 30, 0),
        ({"metadata": {"system": {"tags": {"rare": True}}}}, 30, 0),
        ({"metadata.system.tags.rare": {"$exists": True}}, 30, 0),
        ({"$and": [{"metadata.system.tags.rare": True}, {"metadata.user.group": 0}]}, 30, 0),
        ({"$and": [{"metadata.system.tags.rare": True}, {"metadata.user.group": 1}]}, 0, 0),
        ({"$and": [{"metadata.user.group": {"$ne": 0}}, {"metadata.system.tags.rare": True}]}, 30, 1),
        ({"$or": [{"metadata.system.tags.rare": True}, {"n": {"$gte": 2990}}]}, 40, 0),
        ({"n": {"$gt": 10, "$lt": 20}}, 20, 1),
        ({"name": "299*"}, 11, 1),
        ({"metadata.user.group": {"$ne": 1}}, None, 1),
        ({"$or": [{"metadata.system.tags.rare": True}, {"metadata.user.group": {"$ne": 1}}]}, None, 1),
    ],
)
def test_what_the_index_proposes(large, condition, proposed, left):
    plan = plan_for(large, "items", {"filter": condition}, **SCOPE)
    assert (None if plan.ids is None else len(plan.ids), len(plan.rest)) == (proposed, left)


def test_a_selective_page_parses_nothing_but_its_matches(large, monkeypatch):
    parsed = []
    monkeypatch.setattr(large, "parsed", lambda row: parsed.append(row.id) or Store.parsed(large, row))
    condition = {"$and": [{"metadata.system.tags.rare": True}, {"metadata.user.score": {"$gt": 0.5}}]}
    page = search(large, "items", {"filter": condition, "pageSize": 5}, **SCOPE)
    assert len(page.rows) == 5 and page.total > 5 and parsed == []
    search(large, "items", {"filter": condition, "sort": {"name": "descending"}}, **SCOPE)
    assert set(parsed) <= {row.id for row in search(large, "items", {"filter": condition}, **SCOPE).rows}


@pytest.mark.parametrize(
    "metadata",
    [
        {f"key{number}": number for number in range(100_000)},
        {"list": list(range(100_000))},
        {"k" * 100_000: 1},
        {"text": "x" * 1_000_000},
        {"surrogate": "\udfff"},
    ],
)
def test_hostile_metadata_stays_small_and_is_still_found(store, metadata):
    deep = {}
    for _ in range(200):
        deep = {"d": deep}
    for each in (metadata, metadata | {"deep": deep}):
        with undone(store):
            store.put("items", document(store, 0, {"user": each | {"found": "me"}}))
            assert len(stored_entries(store)) <= index.MAX_ENTRIES + 10
            assert search(store, "items", {"filter": {"metadata.user.found": "me"}}, **SCOPE).total == 1
            assert search(store, "items", {"filter": {"metadata.user.found": "you"}}, **SCOPE).total == 0


@pytest.mark.parametrize("reads", [False, True])
def test_a_part_that_fails_leaves_the_index_of_what_was_there(tmp_path, reads):
    store = Store(tmp_path)
    with store.transaction():
        changed, deleted = (document(store, number, {"a": 0}) for number in (0, 1))
        store.put_all("items", [changed, deleted])
    with store.transaction():
        store.put("items", changed | {"metadata": {"a": 1}})
        with pytest.raises(RuntimeError), store.part():
            store.put("items", changed | {"metadata": {"a": 2}})
            store.put("items", document(store, 2, {"a": 3}))
            if reads:  # the index follows within the part
                assert search(store, "items", {"filter": {"metadata.a": 2}}, **SCOPE).total == 1
                store.delete("items", id=deleted["id"])
            raise RuntimeError
        if reads:
            totals = [search(store, "items", {"filter": {"metadata.a": n}}, **SCOPE).total for n in range(4)]
            assert totals == [1, 1, 0, 0]
    assert stored_entries(store) == fresh_entries(store)
    store.close()


def test_items_of_a_frequent_label_are_found_by_the_index(tmp_path, monkeypatch):
    monkeypatch.setattr("alhelpers.platform.query.MAX_PROPOSED", 2)
    store = Store(tmp_path)
    with store.transaction():
        items = [document(store, number, {}) for number in range(9)]
        store.put_all("items", items)
        for scope, number, label in [("d", n, "cat" if n % 3 else "dog") for n in range(9)] + [
            ("e", 0, "cat")
        ]:
            about = {"datasetId": scope, "itemId": items[number]["id"], "label": label, "type": "class"}
            store.put_all("annotations", [about | {"id": store.new_id()} for _ in range(2)])
    monkeypatch.setattr(store, "parsed", None)  # no annotation is read
    join = {"on": {"resource": "annotations"}, "filter": {"label": "cat"}}
    found = search(store, "items", {"filter": {}, "join": join, "sort": {"id": "ascending"}}, **SCOPE)
    assert [row.id for row in found.rows] == [items[number]["id"] for number in (1, 2, 4, 5, 7, 8)]
    store.close()


def test_only_short_paths_are_remembered():
    known = index._code.cache_info().currsize
    assert index.code("items", "d", "long" * 100, "null") == index.code("items", "d", "long" * 100, "null")
    assert index._code.cache_info().currsize == known


def test_a_database_without_an_index_gets_one(tmp_path):
    store = Store(tmp_path)
    with store.transaction():
        store.put_all("items", filled(store, 50))
    before = stored_entries(store)
    store._database.execute("DELETE FROM entries")
    store._database.execute("PRAGMA user_version = 0")
    store.close()
    store = Store(tmp_path)
    assert stored_entries(store) == before == fresh_entries(store)
    store.close()
