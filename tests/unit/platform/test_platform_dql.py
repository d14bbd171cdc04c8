"""The query language: rules one by one, and against an independent matcher on generated documents."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from platform_matcher import brute, nested, single

from alhelpers.platform import dql
from alhelpers.platform.errors import ApiError


def matches(query, document):
    return dql.compile_filter(dql.parse(query))(document)


@pytest.mark.parametrize(
    ("query", "document", "expected"),
    [
        ({}, {}, True),
        (None, {"a": 1}, True),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": None}, {}, True),
        ({"a": None}, {"a": None}, True),
        ({"a": {"$in": [None]}}, {"b": 1}, True),
        ({"a": {"$ne": None}}, {"a": 0}, True),
        ({"a": [1, 2]}, {"a": [1, 2]}, True),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": 2}, {"a": [1, 2]}, True),
        ({"a": {"$ne": 2}}, {"a": [1, 2]}, False),
        ({"a": {"$nin": [3]}}, {"a": [1, 2]}, True),
        ({"a": {"$eq": {"b": 1}}}, {"a": {"b": 1}}, True),
        ({"a": {"$eq": {"b": 1}}}, {"a": {"b": 1, "c": 2}}, False),
        ({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}, True),
        ({"a": {"b": {"c": {"$gt": 1}}}}, {"a": {"b": {"c": 2}}}, True),
        ({"a.b.c": {"$gt": 1}}, {"a": {"b": {"c": 2}}}, True),
        ({"a": {"$gt": 1, "$lt": 3}}, {"a": 2}, True),
        ({"a": {"$gt": "b"}}, {"a": 3}, False),
        ({"a": {"$lt": 5}}, {"a": False}, False),
        ({"a.b": 1}, {"a": [{"b": 2}, {"b": 1}]}, True),
        ({"a.1": "y"}, {"a": ["x", "y"]}, True),
        ({"a-b_c": 1}, {"a-b_c": 1}, True),
        ({"a.b": {"$exists": True}}, {"a": {"b": None}}, True),
        ({"a.b": {"$exists": False}}, {"a": 1}, True),
        ({"a": {"$exists": False}}, {"a": []}, False),
        ({"$or": []}, {}, False),
        ({"$and": []}, {}, True),
        ({"$or": [{"a": 1}, {"b": 1}], "$and": [{"c": 1}]}, {"b": 1, "c": 1}, True),
        ({"$or": [{"a": 1}, {"b": 1}], "$and": [{"c": 1}]}, {"b": 1}, False),
        ({"a": {"$or": [{"$lt": 1}, {"$gt": 5}, 3]}}, {"a": 3}, True),
        ({"a": {"$and": [{"$gt": 1}, {"$lt": 5}]}}, {"a": 5}, False),
        ({"a": {"$match": {"b": 1, "c": 2}}}, {"a": [{"b": 1, "c": 1}, {"b": 2, "c": 2}]}, False),
        ({"a": {"$match": {"b": 1, "c": 2}}}, {"a": [{"b": 1, "c": 2}]}, True),
        ({"a": {"$match": {"$gt": 1, "$lt": 3}}}, {"a": [0, 4]}, False),
        ({"a": {"$match": {"$gt": 1, "$lt": 3}}}, {"a": [0, 2]}, True),
        ({"t": "2024-01-01T00:00:00Z"}, {"t": "2024-01-01T00:00:00.000Z"}, True),
        ({"t": {"$gte": "2024-01-01"}}, {"t": "2024-01-01T00:00:00.000Z"}, True),
        ({"t": {"$gt": "2024-01-01T02:00:00+02:00"}}, {"t": "2024-01-01T00:00:00.001Z"}, True),
        ({"dir": "/a*"}, {"dir": "/ab"}, True),
        ({"dir": "/a*"}, {"dir": "/ab/c"}, True),
        ({"dir": "/a/"}, {"dir": "/a"}, True),
        ({"dir": "/"}, {"dir": "/"}, True),
        ({"dir": {"$in": ["/a/", "/b"]}}, {"dir": "/a"}, True),
        ({"size": {"$gt": "9"}}, {"size": 10}, True),
        ({"size": {"$lt": "9.5"}}, {"size": 10}, False),
        ({"size": {"$gt": "9"}}, {"size": "10"}, False),
        ({"size": {"$gt": "9"}}, {"size": None}, False),
        ({"filename": {"$match": "*.jpg"}}, {"filename": "/a/x.jpg"}, True),
        ({"filename": "**/x.jpg"}, {"filename": "/a/x.jpg"}, True),
        ({"filename": "**/x.jpg"}, {"filename": "/a/ax.jpg"}, False),
        ({"filename": {"$match": "/*.jpg"}}, {"filename": "/x.jpg"}, True),
        ({"filename": "/a/**"}, {"filename": "/a/b/c.png"}, True),
        ({"filename": "/a/**"}, {"filename": "/ab"}, False),
        ({"filename": "/**"}, {"filename": "/x"}, True),
        ({"filename": {"$in": ["/x", "/a/*"]}}, {"filename": "/a/b"}, True),
        ({"filename": {"$ne": "/a/*"}}, {"filename": "/a/b"}, False),
        ({"name": "*cat*"}, {"name": "a cat.png"}, True),
        ({"metadata.system.mimetype": "video*"}, {"metadata": {"system": {"mimetype": "video/mp4"}}}, True),
        ({"label": "a*"}, {"label": "ab"}, False),
        ({"label": ["a", "b"]}, {"label": "b"}, True),
        ({"label": ["a", "b"]}, {"label": "c"}, False),
        ({"name": ["a*", "b"]}, {"name": "ab"}, True),
        ({"dir": ["/a/", "/b"]}, {"dir": "/a"}, True),
        ({"tags": ["a", "b"]}, {"tags": ["a", "b"]}, True),
        ({"tags": ["a"]}, {"tags": ["a", "b"]}, False),
        ({"tags": ["a", "b"]}, {"tags": ["a"]}, False),
        ({"tags": []}, {"tags": []}, True),
        ({"tags": []}, {"tags": ["a"]}, False),
        ({"refs.id": ["x", "y"]}, {"refs": [{"id": "z"}, {"id": "x"}]}, True),
        ({"label": {"$glob": "a*b"}}, {"label": "a/b"}, True),
        (
            {"r": {"$match": {"id": "x", "m": {"s": {"$eq": "done"}, "t": {"$gt": "2024-01-01T00:00:00Z"}}}}},
            {"r": [{"id": "x", "m": {"s": "done", "t": "2024-01-02T00:00:00Z"}}]},
            True,
        ),
    ],
)
def test_rules(query, document, expected):
    assert matches(query, document) is expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"a": {"$almost": 1}}, r"unknown operator '\$almost' on 'a'.*\$and, \$or, \$eq"),
        ({"$nor": []}, r"unknown operator '\$nor'"),
        ({"a": {"b": {"$regex": ".*"}}}, r"unknown operator '\$regex' on 'a.b'"),
        ({"$eq": 1}, "needs a field"),
        ([], "must be an object, got list"),
        ({"$and": [1]}, "must be an object"),
        ({"a": {"$exists": 1}}, "needs true or false"),
        ({"a": {"$gt": None}}, "needs a number or a string"),
        ({"a": {"$gt": [1]}}, "needs a number or a string"),
        ({"a": {"$glob": 1}}, "needs a string"),
        ({"a": {"$match": 1}}, "needs an object of conditions"),
        ({"name": "*" * 5000}, "at most 4096"),
        ({"a": {"$in": list(range(20_001))}}, "more than 20000 conditions"),
    ],
)
def test_malformed(query, message):
    with pytest.raises(ApiError, match=message) as caught:
        dql.parse(query)
    assert caught.value.status == 400


def test_depth_is_limited_however_a_filter_nests():
    wraps = (lambda each: {"a": each}), (lambda each: {"$or": [each]}), (lambda each: {"a": {"$match": each}})
    for wrap in wraps:
        query = {"a": 1}
        for _ in range(60):
            query = wrap(query)
        with pytest.raises(ApiError, match="deeper than 40"):
            dql.parse(query)


def test_a_hostile_pattern_takes_no_time():
    pattern = dql.glob("/*a" + "*a" * 200 + "b")
    begin = time.perf_counter()
    assert not pattern("a" * 1000)
    assert dql.glob("*" * 4001 + "b")("a" * 1000 + "b")
    assert not dql.glob("**a" * 200 + "b")("a" * 1000)
    assert time.perf_counter() - begin < 2.0


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-2, 3), st.sampled_from(["", "a", "b", "a/b"]))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "b", "0"]), inner, max_size=2)
    ),
    max_leaves=6,
)
DOCUMENTS = st.dictionaries(st.sampled_from(["a", "b"]), VALUES, max_size=2)
PATHS = st.lists(st.sampled_from(["a", "b", "0"]), min_size=1, max_size=3).map(".".join)
ORDERABLE = st.one_of(st.integers(-2, 3), st.sampled_from(["", "a", "b"]), st.booleans())
OPERATORS = st.one_of(
    st.tuples(st.sampled_from(["$eq", "$ne"]), VALUES),
    st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(VALUES, max_size=3)),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ORDERABLE),
    st.tuples(st.just("$exists"), st.booleans()),
)
FIELDS = st.one_of(single(PATHS, single(OPERATORS)), single(PATHS, st.lists(VALUES, max_size=3)))
QUERIES = nested(FIELDS, max_leaves=5)


@settings(max_examples=1500)
@given(QUERIES, DOCUMENTS)
def test_generated_queries_agree_with_the_plain_matcher(query, document):
    assert matches(query, document) == brute(query, document)


@settings(max_examples=300)
@given(st.lists(st.sampled_from(["a", "b", "/", "*", "**", "."]), max_size=8), st.text("ab/.", max_size=8))
def test_generated_patterns_agree_with_regular_expressions(tokens, text):
    pattern = "".join(tokens)
    expression = ".*".join(map(re.escape, pattern.split("*")))
    assert dql.glob(pattern)(text) == bool(re.fullmatch(expression, text))


@settings(max_examples=300)
@given(st.lists(DOCUMENTS, max_size=6), PATHS)
def test_any_documents_can_be_sorted(documents, path):
    keys = sorted(dql.sort_key(document, path) for document in documents)
    assert len(keys) == len(documents)
