"""The miner's configuration, records and choice, without a platform."""

import copy
import json
from pathlib import Path

import dtlpy as dl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alhelpers import mining
from alhelpers.dataloop.mine_items import Choice, choose, complete
from alhelpers.dataloop.miner_config import NodeConfig, parse_config
from alhelpers.dataloop.mining_pool import pool_query
from alhelpers.mining import DEFAULT_CONFIG

CONFIGS = sorted((Path(__file__).parents[3] / "pipeline_configs").glob("miner_configurations*.json"))
NOT_MINED = {"metadata.user.mining": {"$exists": False}}


def records(count, seed=0, classes=4, passes=3, **more):
    rng = np.random.default_rng(seed)
    confidences = rng.dirichlet(np.ones(classes), count).astype(np.float32)
    samples = rng.dirichlet(np.ones(classes), (count, passes)).astype(np.float32)
    vectors = rng.normal(size=(count, 5)).astype(np.float32)
    return [
        {
            "id": f"{row:04}",
            "confidence": float(confidences[row].max()),
            "confidences": confidences[row],
            "embeddings": vectors[row],
            "detections": [{"confidence": 0.5, "object_certainty": 0.8, "embeddings": vectors[row]}],
            "mc_dropout": samples[row],
            "query_by_committee": samples[row],
            **more,
        }
        for row in range(count)
    ]


# ------------------------------------------------------------------------------------------- configuration


def test_nothing_given_is_the_default():
    assert parse_config(None) == parse_config({}) == parse_config(DEFAULT_CONFIG)
    parsed = parse_config({})
    assert parsed.digest == mining.parse_config({}).digest
    assert (parsed.wait_for, parsed.predict_missing, parsed.feature_set) == (1, True, None)
    assert parsed.reference_filter.filter["$and"][-1] == {"metadata": {"system": {"tags": {"train": True}}}}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_kits_configurations_choose(path):
    config = json.loads(path.read_text())
    pool, labelled = records(250, split="pool"), records(40, 1, split="train", groundtruth="cat")
    choice = choose(pool, parse_config(config), labelled)
    assert len(set(choice.ids)) == config["size"] == 20
    # what `alhelpers mine` runs, if no key is the node's own
    if not {"wait_for"} & set(config):
        assert mining.run(config, pool, labelled).ids == choice.ids


def test_the_kits_configurations_are_of_every_kind():
    assert json.loads(CONFIGS[0].read_text()) == DEFAULT_CONFIG
    configs = [json.loads(path.read_text()) for path in CONFIGS]
    keys = set().union(*configs)
    own = {"predict_missing", "feature_set", "reference_filter"}
    assert set(NodeConfig.model_fields) - keys == own | {"model_name"}
    found = {parse_config(config).strategies for config in configs}
    assert found >= {("margin",), ("entropy",), ("mc_dropout",), ("typicality",), ("novelty",)}
    assert found >= {("margin", "coreset"), ("typicality", "margin"), ("margin", "outlier")}
    assert ("margin + diversity + prediction.class_name",) in found


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([1], r"miner_configuration \[1\] must be an object such as"),
        ({"stratgy": "margin"}, "unknown key 'stratgy'; known are .*'wait_for'.*did you mean 'strategy'"),
        ({"strategy": "margn"}, "'margn' is unknown; did you mean 'margin'.*there are: .*entropy.*random"),
        ({"strategy": "random", "options": {"seed": 1}}, "no option 'seed'; its options are: none"),
        ({"plan": [{"strategy": "margin", "size": 30}]}, "ask for 30 records in all, but size=20"),
        ({"size": 0}, "size 0 must be a whole number of items a round, from 1 to 1000"),
        ({"size": 1001}, "size 1001 must be"),
        ({"size": True}, "size True must be"),
        ({"size": float("nan")}, "size nan must be"),
        ({"wait_for": 0}, "wait_for 0 must be a whole number of at least 1"),
        ({"predict_missing": 1}, "predict_missing 1 must be true"),
        ({"feature_set": ""}, "feature_set '' must be the name"),
        ({"reference_filter": {"$and": []}}, "reference_filter lacks 'filter'"),
        ({"reference_filter": {"filter": []}}, r"reference_filter.filter \[\] must be an object"),
    ],
)
def test_a_wrong_configuration_is_named(config, message):
    with pytest.raises(ValueError, match=message):
        parse_config(config)


def test_whole_numbers_may_come_as_floats_and_nothing_is_changed():
    given_config = {"plan": [{"strategy": "margin", "size": 7.0}], "size": 7.0, "wait_for": 3.0}
    before = copy.deepcopy(given_config)
    with pytest.raises(ValueError, match=r"plan\[0\].size 7.0 must be a whole number"):
        parse_config(given_config)
    given_config["plan"][0]["size"] = before["plan"][0]["size"] = 7
    parsed = parse_config(given_config)
    assert isinstance(parsed.size, int) and parsed.size == 7 and parsed.wait_for == 3
    assert given_config == before


VECTORS = {"feature_set": "of the network"}
PLAN = [
    {"cascade": [{"strategy": "margin", "keep": "2x"}, {"strategy": "coreset"}], "share": 0.5},
    {"strategy": "embedding_distance", "share": 0.5},
]
OF_CLASS_A = {"left": "class_name", "op": "=", "right": "a"}
EARLY = {"strategy": "novelty", "embeddings_field": "embeddings:early"}


@pytest.mark.parametrize(
    ("config", "predictions", "vectors"),
    [
        ({"strategy": "random"}, False, False),
        ({"strategy": "margin"}, True, False),
        ({"strategy": "margin"} | VECTORS, True, False),
        ({"strategy": "typicality"}, True, False),
        ({"strategy": "typicality"} | VECTORS, False, True),
        ({"strategy": "badge"} | VECTORS, True, True),
        ({"plan": PLAN} | VECTORS, True, True),
        (EARLY | VECTORS, True, False),
        ({"strategy": "random", "select": {"order_by": "id", "limit": 9}}, False, False),
        ({"strategy": "random", "select": {"order_by": "confidence"}}, True, False),
        ({"strategy": "random", "select": {"filters": [OF_CLASS_A]}}, True, False),
    ],
)
def test_what_is_needed_of_the_waiting_items_follows_from_the_configuration(config, predictions, vectors):
    parsed = parse_config(config)
    assert (parsed.needs_predictions, parsed.needs_vectors) == (predictions, vectors)


BY_CLASS = {"select_reference": {"filters": [{"left": "groundtruth", "op": "=", "right": "a"}]}}


@pytest.mark.parametrize(
    ("config", "predictions", "vectors", "labels"),
    [
        ({"strategy": "coreset"}, True, False, False),
        ({"strategy": "coreset"} | VECTORS, False, True, False),
        ({"strategy": "weighted_entropy"}, False, False, True),
        ({"plan": PLAN} | VECTORS, False, True, False),
        (EARLY | VECTORS, True, False, False),
        ({"strategy": "coreset"} | VECTORS | BY_CLASS, False, True, True),
        ({"strategy": "weighted_entropy", "select_reference": {"order_by": "confidence"}}, True, False, True),
    ],
)
def test_what_is_needed_of_the_labelled_items_follows_too(config, predictions, vectors, labels):
    parsed = parse_config(config)
    found = (parsed.reference_predictions, parsed.reference_vectors, parsed.reference_labels)
    assert found == (predictions, vectors, labels)


def test_the_strategies_that_look_at_labelled_items():
    for config, looking, needing in [
        ({"strategy": "margin"}, (), ()),
        ({"strategy": "typicality"}, ("typicality",), ()),
        ({"strategy": "novelty"}, ("novelty",), ("novelty",)),
        ({"plan": PLAN}, ("coreset", "embedding_distance"), ("embedding_distance",)),
    ]:
        parsed = parse_config(config)
        assert (parsed.with_reference, parsed.needing_reference) == (looking, needing)


# ------------------------------------------------------------------------------------------- the pool


def test_the_pool_is_what_no_round_has_chosen():
    everything = {"filter": {"$and": [{"hidden": False}, {"type": "file"}, NOT_MINED]}}
    assert pool_query(None) == pool_query({}) == pool_query({"page": 3, "pageSize": 10}) == everything


def test_a_pool_filter_is_narrowed_and_not_changed():
    query = {"filter": {"dir": "/x"}, "page": 0, "join": {"filter": {"type": "class"}}}
    before = copy.deepcopy(query)
    narrowed = pool_query(query)
    assert narrowed["filter"]["$and"][0] == {"dir": "/x"} and NOT_MINED in narrowed["filter"]["$and"]
    assert narrowed["join"] == query["join"] and "page" not in narrowed
    narrowed["filter"]["$and"][0]["dir"] = "/y"
    assert query == before
    assert pool_query({"dir": "/x"})["filter"]["$and"][0] == {"dir": "/x"}


def test_a_pool_filter_of_the_sdk_is_taken_and_not_changed():
    filters = dl.Filters(field="dir", values="/x")
    before = filters.prepare()
    assert {"dir": "/x"} in pool_query(filters)["filter"]["$and"][0]["$and"]
    assert filters.prepare() == before


def test_a_wrong_pool_filter_is_refused():
    with pytest.raises(ValueError, match="pool_filter 'all' must be a query"):
        pool_query("all")
    with pytest.raises(ValueError, match="pool_filter selects annotations"):
        pool_query(dl.Filters(resource=dl.FiltersResource.ANNOTATION))


# ------------------------------------------------------------------------------------------- the choice


PLANS = [
    *({"strategy": name, "options": {}} for name in ("margin", "coreset", "novelty")),
    [{"strategy": "mc_dropout", "options": {"score": "bald"}, "size": 8}, {"strategy": "random", "size": 2}],
    {"cascade": [{"strategy": "margin", "keep": "3x"}, {"strategy": "coreset"}]},
]


@pytest.mark.parametrize("plan", PLANS)
def test_the_choice_is_minings(plan):
    pool, labelled = records(60), [row | {"id": f"r{row['id']}"} for row in records(25, seed=1)]
    expected = mining.combine(pool, plan, 10, reference=labelled, seed=1)
    choice = choose(pool, parse_config({"plan": plan, "size": 10, "seed": 1}), labelled)
    assert (choice.ids, choice.scores) == (expected.ids, expected.scores.tolist())
    assert choice.strategies == [expected.meta["strategies"][id] for id in choice.ids]
    assert np.isfinite(choice.scores).all()


PARTS = [{"strategy": "margin", "size": 15}, {"strategy": "random", "size": 5}]
SIDE_BY_SIDE = mining.parse_config({"plan": PARTS})


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_neither_the_order_of_the_items_nor_a_second_run_matters(count, seed):
    pool = records(count, seed=seed % 100)
    shuffled = [pool[place] for place in np.random.default_rng(seed).permutation(count)]
    choice = choose(pool, SIDE_BY_SIDE)
    assert choose(shuffled, SIDE_BY_SIDE) == choice
    # fewer than the size are all of them, in the plan's proportions
    assert choice.pool == count
    assert len(choice.ids) == len(set(choice.ids)) == min(count, 20)
    assert abs(choice.strategies.count("random") - len(choice.ids) / 4) < 1


def test_nothing_is_chosen_where_nothing_fits_and_labelled_items_are_never_among_the_waiting():
    miner = mining.parse_config({"size": 5, "select": {"filters": [{"left": "id", "op": "<", "right": "0"}]}})
    assert choose(records(9), miner) == Choice([], [], [], 0)
    miner = mining.parse_config({"strategy": "coreset", "size": 5, "select_reference": {"limit": 3}})
    assert choose(records(9), miner).ids == mining.mine(records(9), "coreset", 5).ids


@given(st.sets(st.integers(0, 9)))
def test_a_round_that_died_is_completed_with_the_rest_of_it(taken):
    ids = [f"i{number}" for number in range(10)]
    choice = Choice(ids, [0.0] * 10, ["margin"] * 10, 10)
    done = {ids[place]: place + 1 for place in taken}
    assert complete(choice, done, 10) | done == {id: place + 1 for place, id in enumerate(ids)}


@given(st.sets(st.integers(0, 30), max_size=10), st.permutations(range(30)), st.integers(10, 20))
def test_a_round_that_died_is_never_more_than_it_was(taken, order, size):
    choice = Choice([f"i{number}" for number in order[:size]], [0.0] * size, ["margin"] * size, size)
    done = {f"i{number}": rank for rank, number in enumerate(sorted(taken), start=1)}
    rest = complete(choice, done, 10)
    assert not rest.keys() & done.keys() and len(rest) + len(done) == 10
    assert sorted([*rest.values(), *done.values()]) == list(range(1, 11))
