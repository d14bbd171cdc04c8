import copy
import json
from pathlib import Path

import dtlpy as dl
import pytest

from alhelpers.configurations import read
from alhelpers.dataloop.subset_filters import SubsetFilter, normalize_filter

CONFIGS = Path(__file__).parents[3] / "pipeline_configs"
BY_TAG = {"$or": [{"metadata": {"system": {"tags": {"train": True}}}}]}
TRAIN = {"filter": {"$and": [{"hidden": False}, BY_TAG, {"type": "file"}]}}


def test_a_filter_keeps_its_exact_form():
    given = copy.deepcopy(TRAIN)
    assert normalize_filter(given, "train") == TRAIN
    assert given == TRAIN


def test_filters_of_every_form_become_the_one_that_models_store():
    filters = dl.Filters(field="dir", values="/train")
    prepared = normalize_filter(filters.prepare(), "train")
    assert set(prepared) == {"filter"} and {"hidden": False} in prepared["filter"]["$and"]
    assert normalize_filter({"dir": "/a"}, "train") == {"filter": {"$and": [{"dir": "/a"}]}}
    by_or = {"$or": [{"dir": "/a"}]}
    assert normalize_filter(by_or, "train") == {"filter": {"$and": [by_or]}}
    as_text = '{"filter": {"$and": [{"dir": "/a"}]}}'
    assert normalize_filter(as_text, "t") == json.loads(as_text)
    paged = {**TRAIN, "page": 3, "pageSize": 5, "resource": "items", "join": {"filter": {"type": "box"}}}
    assert normalize_filter(paged, "train") == {**TRAIN, "join": {"filter": {"type": "box"}}}


NESTED = [{"filter": {}}, {"filter": None}, {"filter": {"$and": []}}, {"filter": {"$and": [{}, {"$or": []}]}}]


@pytest.mark.parametrize("empty", [None, {}, "", " ", "null", "{}", *NESTED, {"$or": []}, {"$or": [{}]}])
def test_an_empty_filter_is_none_not_everything(empty):
    assert normalize_filter(empty, "train") is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("not json", "train_subset 'not json' is not valid JSON"),
        ([1], r"train_subset \[1\] must be a dl.Filters, or a query such as"),
        (5, "train_subset 5 must be a dl.Filters"),
        ("[]", r"train_subset \[\] must be a dl.Filters"),
        (
            {"filter": {"$and": [{"type": "box"}]}, "resource": "annotations"},
            "train_subset.resource 'annotations' must be 'items'",
        ),
        ({**TRAIN, "pagesize": 5}, "train_subset has the unknown key 'pagesize'; known are 'filter', "),
        ({**TRAIN, "references": {"operation": "or"}}, "train_subset has the unknown key 'references'"),
        ({**TRAIN, "page": -1}, "train_subset.page -1 must be an integer, 0 or more"),
        ({"filter": [{"type": "file"}]}, r"train_subset.filter \[.*\] must be an object with"),
        (
            {"filter": {"$and": {"type": "file"}}},
            r"train_subset.filter.\$and {.*} must be a list of conditions",
        ),
        (
            {"filter": {"$or": ["train"]}},
            r"train_subset.filter.\$or\[0\] 'train' must be an object with fields",
        ),
        ({"$nor": [{"type": "file"}]}, r"train_subset.filter '\$nor' must be a field, '\$and' or '\$or'"),
        (
            {"filter": {"$and": [{"$not": {"a": 1}}]}},
            r"train_subset.filter.\$and\[0\] '\$not' must be a field",
        ),
        ({"fliter": {"$and": [{"type": "file"}]}}, r"train_subset.filter.fliter '\$and' must be an operator"),
        ({**TRAIN, "join": [1]}, r"train_subset.join \[1\] must be an object"),
    ],
)
def test_a_filter_of_anything_but_items_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        normalize_filter(wrong, "train")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*_subset_filter.json")), ids=lambda path: path.stem)
def test_the_kits_filters_pass(path):
    read(SubsetFilter, json.loads(path.read_text()), "subset")


@pytest.mark.parametrize(
    "filters",
    [
        dl.Filters(),
        dl.Filters(field="metadata.system.tags.train", values=True),
        dl.Filters(field="dir", values=["/a", "/b"], operator="in"),
        dl.Filters(field="createdAt", values="2025-01-01", operator="gt"),
    ],
)
def test_what_the_sdk_writes_passes(filters):
    filters.sort_by(field="name")
    filters.add_join(field="label", values="a")
    read(SubsetFilter, filters.prepare(), "subset")
