import copy
import json

import numpy as np
import pytest
from helpers_mining import NAMES, make_table, same
from jsonschema import Draft202012Validator

from alhelpers import mining, records
from alhelpers.mining import CONFIG_SCHEMA, DEFAULT_CONFIG, MiningError, parse_config, run


def where(left, op, right):
    return {"left": left, "op": op, "right": right}


def of(strategy, **options):
    return {"strategy": strategy, "options": options}


def rows(table):
    return {row["id"]: row for row in table.to_pylist()}


# ------------------------------------------------------------------------------
# reading a configuration
# ------------------------------------------------------------------------------


def test_nothing_given_is_the_default():
    assert parse_config(None) == parse_config({}) == parse_config(DEFAULT_CONFIG)
    parsed = parse_config({})
    assert parsed.stages == [("margin", {})] and (parsed.size, parsed.seed) == (20, 0)
    assert parsed.select == parsed.select_reference and parsed.select.arguments() == {}
    assert parsed.model_name is None


def test_the_schema_is_valid():
    Draft202012Validator.check_schema(CONFIG_SCHEMA)


CHOICE = {"filters": [where("split", "=", "pool")], "limit": 50, "order_by": "confidence", "desc": True}


def test_every_key_is_read():
    parsed = parse_config(
        {
            "strategy": "novelty",
            "options": {"n_neighbors": 5},
            "size": 7,
            "seed": 3,
            "select": CHOICE,
            "select_reference": CHOICE | {"limit": 9.0},
            "embeddings_field": "embeddings:early",
            "metric": "cosine",
            "model_name": "second",
        }
    )
    options = {"metric": "cosine", "layer": "early", "n_neighbors": 5}
    assert parsed.stages == [("novelty", options)] and parsed.strategies == ("novelty",)
    assert (parsed.size, parsed.seed, parsed.model_name) == (7, 3, "second")
    assert parsed.select.arguments() == CHOICE
    assert parsed.select_reference.arguments() == CHOICE | {"limit": 9}


def test_layer_and_metric_go_to_every_strategy_that_has_them_and_sets_none_itself():
    cascade = [{"strategy": "margin", "keep": "5x"}, of("coreset", metric="euclidean")]
    plan = [{"cascade": cascade, "share": 0.5}, {"strategy": "outlier", "share": 0.5}]
    config = {"plan": plan, "metric": "cosine", "embeddings_field": "embeddings:early"}
    before = copy.deepcopy(config)
    assert parse_config(config).stages == [
        ("margin", {}),
        ("coreset", {"layer": "early", "metric": "euclidean"}),
        ("outlier", {"layer": "early", "metric": "cosine"}),
    ]
    assert config == before
    weights = [{"strategy": "margin", "weight": 2}, {"strategy": "outlier", "weight": 1}]
    cascade = [{"weights": weights, "keep": "2x"}, {"strategy": "badge"}]
    config = {"plan": {"cascade": cascade}, "embeddings_field": "embeddings:early"}
    early = {"layer": "early"}
    assert parse_config(config).stages == [("margin", {}), ("outlier", early), ("badge", early)]
    plain = parse_config({"strategy": "activation", "embeddings_field": "embeddings"})
    assert plain.stages == [("activation", {"layer": None})]


def test_whole_numbers_may_come_as_floats():
    parsed = parse_config({"size": 7.0, "seed": 2.0, "select": {"limit": 5.0}})
    assert [type(value) for value in (parsed.size, parsed.seed, parsed.select.limit)] == [int] * 3


def test_every_strategy_is_taken_with_its_options_as_they_are_and_as_many_neighbours_as_one_likes():
    for name, known in mining.strategies().items():
        assert parse_config(of(name, **known["options"])).stages == [(name, known["options"])]
    for name in ("novelty", "outlier", "typicality"):
        assert parse_config(of(name, n_neighbors=5000)).strategies == (name,)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([1], r"miner_configuration \[1\] must be an object such as"),
        ({"stratgy": "margin"}, "unknown key 'stratgy'; known are 'strategy', 'options', 'plan', 'size'"),
        ({"strategy": 3}, "strategy 3 must be the name of a strategy"),
        ({"strategy": "margn"}, "'margn' is unknown; did you mean 'margin'"),
        (of("mc_dropout", scor=1), "no option 'scor'; its options are: score"),
        (of("mc_dropout", score="bold"), "option score of .* must be one of .*got 'bold'"),
        (of("coreset", metric="cosin"), "option metric of .* got 'cosin'"),
        (of("novelty", n_neighbors=0), "option n_neighbors of .* at least 1, got 0"),
        (of("activation", source="x", layer="early"), "option source of .* got 'x'"),
        (
            {"plan": {"cascade": [of("margin", over=1) | {"keep": "2x"}, of("random")]}},
            "option over of strategy 'margin' must be one of .* got 1",
        ),
        ({"options": {"score": "bald"}}, "'options' without the 'strategy'"),
        ({"plan": [{"strategy": "margin"}], "strategy": "margin"}, "a 'plan' beside a 'strategy'"),
        ({"plan": []}, r"plan \[\] must be what alhelpers.mining.combine takes"),
        ({"plan": ["margin"]}, r"plan\[0\] 'margin' must be an object with a 'strategy'"),
        ({"plan": [{"strategy": "margin", "size": 30}]}, "ask for 30 records in all, but size=20"),
        ({"size": 0}, "size 0 must be a whole number of records a round, at least 1"),
        ({"size": True}, "size True must be"),
        ({"size": 2.5}, "size 2.5 must be"),
        ({"seed": -1}, "seed -1 must be a whole number of at least 0"),
        ({"select": []}, r"select \[\] must be an object with 'filters', 'limit'"),
        ({"select": {"filter": []}}, "select has the unknown key 'filter'; known are 'filters', 'limit'"),
        ({"select": {"limit": 0}}, "select.limit 0 must be a whole number of at least 1"),
        ({"select": {"limit": "9"}}, "select.limit '9' must be"),
        ({"select": {"order_by": ""}}, "select.order_by '' must be the name of the field"),
        ({"select": {"desc": "yes"}}, "select.desc 'yes' must be true"),
        ({"select": {"filters": where("id", "=", 1)}}, "select.filters {.*} must be a list of conditions"),
        ({"select": {"filters": [{"left": "id", "op": "="}]}}, r"select.filters\[0\] lacks 'right'"),
        ({"select": {"filters": [where(3, "=", 1)]}}, r"filters\[0\].left 3 must be the name of a field"),
        ({"select": {"filters": [where("id", "==", 1)]}}, r"op '==' must be one of <, <=, .*, not like"),
        ({"select": {"filters": [where("id", "=", 1) | {"or": 1}]}}, "unknown key 'or'"),
        ({"select_reference": {"limit": 0}}, "select_reference.limit 0 must be"),
        ({"embeddings_field": "logits"}, "embeddings_field 'logits' must be 'embeddings', or 'embeddings:'"),
        ({"embeddings_field": "embeddings:"}, "embeddings_field 'embeddings:' must be"),
        (
            {"embeddings_field": "embeddings"},
            "embeddings_field 'embed.* an option 'layer', which margin lack",
        ),
        ({"strategy": "coreset", "metric": "cosin"}, "metric 'cosin' must be one of euclidean, cosine"),
        (of("badge") | {"metric": "cosine"}, "metric 'cosine' is for .* an option 'metric', which badge"),
        ({"model_name": ""}, "model_name '' must be the name of a model"),
        ({"wait_for": 3}, "unknown key 'wait_for'"),
    ],
)
def test_a_wrong_configuration_is_named(config, message):
    with pytest.raises(ValueError, match=message):
        parse_config(config)


def test_equal_configurations_have_equal_digests():
    plain = parse_config({"strategy": "margin"}).digest
    for equal in ({"size": 20.0}, {"plan": {"strategy": "margin", "options": {}}}):
        assert parse_config(equal).digest == plain
    others = [of("entropy"), {"size": 21}, {"seed": 1}, {"select": {"limit": 5}}, {"model_name": "m"}]
    digests = {plain, *(parse_config(other).digest for other in others)}
    assert len(digests) == 6 and all(len(digest) == 16 for digest in digests)


def test_values_of_numpy_are_those_of_json(pool):
    for config in (of("outlier", n_neighbors=np.int64(5)), {"size": 20} | of("outlier", n_neighbors=5)):
        assert parse_config(config).digest == parse_config(of("outlier", n_neighbors=5)).digest
        json.dumps(run(config, pool).meta["parts"])
    some = pool["id"].to_numpy()[:9]
    left = run({"size": 9, "select": {"filters": [where("id", "in", some)]}}, pool)
    assert set(left.ids) == set(some)


@pytest.mark.parametrize("right", [float("nan"), float("inf"), {"a"}, b"a", object()])
def test_values_that_json_cannot_hold_are_refused(right):
    with pytest.raises(MiningError, match="miner_configuration holds a value that JSON cannot: "):
        parse_config({"select": {"filters": [where("id", "=", right)]}})


# ------------------------------------------------------------------------------
# running it
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", mining.strategies())
def test_a_run_is_mining(strategy, pool, reference):
    found = run({"strategy": strategy, "size": 9, "seed": 5}, pool, reference)
    same(found, mining.mine(pool, strategy, 9, reference=reference, seed=5))
    assert set(found.meta["strategies"].values()) == {strategy} and found.meta["pool"] == 60
    assert json.loads(json.dumps(found.meta)) == found.meta


def test_a_run_of_a_plan_is_combining(pool, reference):
    plan = [
        {"cascade": [{"strategy": "margin", "keep": "3x"}, {"strategy": "coreset"}], "size": 6},
        {"strategy": "random", "size": 3},
    ]
    config = {"plan": plan, "size": 9, "seed": 5}
    found, expected = run(config, pool, reference), mining.combine(pool, plan, 9, reference=reference, seed=5)
    assert found.ids == expected.ids and found.meta["strategies"] == expected.meta["strategies"]
    assert run(parse_config(config), pool, reference).ids == found.ids


def test_select_limits_the_pool(pool):
    select = {"filters": [where("class_name", "in", ["cat", "dog"])], "limit": 12, "order_by": "confidence"}
    found = run({"size": 5, "select": select}, pool)
    fitting = sorted(
        (row for row in rows(pool).values() if row["class_name"] in ("cat", "dog")),
        key=lambda row: (row["confidence"], row["id"]),
    )
    assert found.ids == mining.mine(fitting[:12], "margin", 5).ids and found.meta["pool"] == 12
    last = run({"strategy": "random", "size": 12, "select": select | {"desc": True}}, pool)
    assert set(last.ids) == {row["id"] for row in fitting[-12:]}


def test_what_was_picked_is_not_chosen_again_and_the_limit_counts_what_is_left(pool):
    config = {"size": 4, "select": {"limit": 6, "order_by": "confidence"}}
    order = sorted(rows(pool).values(), key=lambda row: (row["confidence"], row["id"]))
    picked = []
    for _ in range(3):
        left = [row for row in order if row["id"] not in picked]
        found = run(config, pool, picked=picked)
        assert found.ids == mining.mine(left[:6], "margin", 4).ids
        picked += found.ids


@pytest.mark.parametrize("strategy", ["margin", "confidence", "mc_dropout", "random"])
def test_rounds_of_pointwise_scores_are_one_large_round(strategy, pool):
    picked = []
    for size in (7, 1, 40, 30):
        picked += run({"strategy": strategy, "size": size}, pool, picked=picked).ids
    assert picked == mining.mine(pool, strategy, 60).ids


def test_few_that_are_left_are_all_taken_in_the_plans_proportions(pool):
    plan = [{"strategy": "margin", "size": 75}, {"strategy": "random", "size": 25}]
    found = run({"plan": plan, "size": 100}, pool)
    assert sorted(found.ids) == sorted(pool["id"].to_pylist())
    assert list(found.meta["strategies"].values()).count("random") == 15
    assert len(run({"plan": {"strategy": "margin", "size": 100}, "size": 100}, pool)) == 60


def test_an_exhausted_pool_is_named(pool):
    ids = pool["id"].to_pylist()
    with pytest.raises(mining.PoolExhausted, match="every record was picked before .60 picks, 60 records"):
        run({}, pool, picked=ids)
    select = {"filters": [where("class_name", "=", "cow")]}
    with pytest.raises(mining.PoolExhausted, match="none of 60 records fits select {.*'cow'.*}"):
        run({"select": select}, pool)


def test_one_source_may_hold_the_pool_and_the_reference(pool, reference, tmp_path):
    both = [row | {"split": "pool"} for row in pool.to_pylist()]
    both += [row | {"split": "train"} for row in reference.to_pylist()]
    config = {
        "strategy": "embedding_distance",
        "size": 8,
        "metric": "cosine",
        "embeddings_field": "embeddings:early",
        "select": {"filters": [where("split", "=", "pool")]},
        "select_reference": {"filters": [where("split", "=", "train"), where("groundtruth", "!=", "cat")]},
    }
    labelled = [row for row in reference.to_pylist() if row["groundtruth"] != "cat"]
    expected = mining.mine(pool, "embedding_distance", 8, reference=labelled, metric="cosine", layer="early")
    records.write(tmp_path / "both.parquet", both)
    for source in (both, tmp_path / "both.parquet", str(tmp_path / "*.parquet")):
        assert run(config, source).ids == expected.ids
    assert run({key: config[key] for key in config if key != "select"}, pool, both).ids == expected.ids


def test_a_reference_that_is_given_needs_no_choice(pool, reference):
    found = run({"strategy": "coreset", "size": 8}, pool, reference)
    assert found.ids == mining.mine(pool, "coreset", 8, reference=reference).ids
    assert found.ids != run({"strategy": "coreset", "size": 8}, pool).ids


def test_a_choice_of_no_labelled_record_is_an_error_only_where_one_is_needed(pool, reference):
    none = {"select_reference": {"filters": [where("groundtruth", "=", "cow")]}, "size": 8}
    assert run(none | {"strategy": "coreset"}, pool, reference).ids == mining.mine(pool, "coreset", 8).ids
    message = "'novelty' needs labelled.*select_reference chooses none: .*'cow'"
    with pytest.raises(mining.MissingField, match=message):
        run(none | {"strategy": "novelty"}, pool, reference)


def by_model(table, name, prefix=""):
    return [row | {"id": prefix + row["id"], "metadata": {"model_name": name}} for row in table.to_pylist()]


def test_the_predictions_of_one_model_count(tmp_path):
    # several models' records of the same items lie in a file each, as an id is there once in a file
    first, second = make_table(seed=1), make_table(seed=2)
    for name, table in (("first", first), ("second", second)):
        records.write(tmp_path / f"{name}.parquet", by_model(table, name))
    for name, table in (("first", first), ("second", second)):
        found = run({"size": 7, "model_name": name}, tmp_path / "*.parquet")
        assert found.ids == mining.mine(table, "margin", 7).ids and found.meta["pool"] == 60
    with pytest.raises(mining.PoolExhausted, match="none of 120 records fits model_name 'third'"):
        run({"model_name": "third"}, tmp_path / "*.parquet")


def test_the_reference_is_the_models_too(pool):
    labelled = by_model(make_table(25, seed=3), "m", "m") + by_model(make_table(25, seed=4), "n", "n")
    config = {"strategy": "novelty", "size": 7, "model_name": "m"}
    expected = mining.mine(pool, "novelty", 7, reference=labelled[:25])
    assert run(config, by_model(pool, "m"), labelled).ids == expected.ids


def test_a_missing_model_name_is_named(pool, reference):
    message = "model_name 'm' selects .* the records have no metadata.model_name"
    with pytest.raises(mining.MissingField, match=message):
        run({"model_name": "m"}, pool)
    with pytest.raises(mining.MissingField, match="the reference have no metadata.model_name"):
        run({"model_name": "m", "strategy": "novelty"}, by_model(pool, "m"), reference)


def test_fields_that_are_not_there_are_named(pool):
    with pytest.raises(records.RecordError, match="field 'splt' is unknown"):
        run({"select": {"filters": [where("splt", "=", "x")]}}, pool)
    with pytest.raises(records.RecordError, match="field 'confidnce' is unknown.*did you mean 'confidence'"):
        run({"select": {"order_by": "confidnce"}}, pool)
    with pytest.raises(mining.MissingField, match="needs embeddings:late"):
        run({"strategy": "outlier", "embeddings_field": "embeddings:late"}, pool)


def test_picks_of_other_records_are_named(pool):
    with pytest.raises(MiningError, match="not ids of these records: 7 is among them, and .* type string"):
        run({}, pool, picked=[7])
    numbered = [row | {"id": place} for place, row in enumerate(pool.to_pylist())]
    with pytest.raises(MiningError, match="'a' is among them, and .* type int64"):
        run({}, numbered, picked=["a"])
    with pytest.raises(MiningError, match="not ids of these records: 7 is among them"):
        run({}, pool, picked=["r0001", 7])
    assert run({"size": 60}, numbered, picked=[3]).ids.count(3) == 0


def test_nothing_that_is_given_changes(pool, reference):
    given_rows, labelled, picked = pool.to_pylist(), reference.to_pylist(), ["r0001"]
    config = {
        "plan": {"cascade": [{"strategy": "margin", "keep": "2x"}, {"strategy": "coreset"}]},
        "select": {"filters": [where("class_name", "in", NAMES)]},
        "select_reference": {"limit": 20},
        "metric": "cosine",
    }
    before = copy.deepcopy((config, given_rows, labelled, picked))
    first = run(config, given_rows, labelled, picked=picked)
    assert (config, given_rows, labelled, picked) == before
    shuffled = [given_rows[place] for place in np.random.default_rng(0).permutation(60)]
    assert run(config, shuffled, labelled, picked=picked).ids == first.ids
