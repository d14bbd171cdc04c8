import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from alhelpers import mining
from alhelpers.mining import MiningError, UnknownStrategy, mine, strategies
from alhelpers.records import RecordError


def test_all_strategies_of_the_design_are_there():
    names = "confidence margin entropy weighted_entropy query_by_committee mc_dropout embedding_distance"
    names += " novelty outlier activation nearest_neighbors coreset badge typicality random label_uncertainty spread"
    names += " box_uncertainty weighted_box_uncertainty object_coreset"
    assert set(strategies()) == set(names.split())


@pytest.mark.parametrize(
    ("typo", "meant"), [("entropi", "entropy"), ("core_set", "coreset"), ("mc-dropout", "mc_dropout")]
)
def test_a_typo_suggests_the_nearest(typo, meant, pool):
    with pytest.raises(
        UnknownStrategy, match=f"strategy '{typo}' is unknown; did you mean '{meant}'.* there are: "
    ):
        mine(pool, typo, 3)


def test_what_is_nothing_like_a_strategy(pool):
    for name in ("zzzz", None, 3):
        with pytest.raises(UnknownStrategy, match="is unknown; there are: confidence, margin"):
            mine(pool, name, 3)


@pytest.mark.parametrize("engine", ["dask", 4, ThreadPoolExecutor])
def test_unknown_engines_are_named(engine, pool):
    message = "is unknown; the engines that exist are: None .*Executor.*Client"
    with pytest.raises(MiningError, match=message):
        mine(pool, "entropy", 3, engine=engine)
    with pytest.raises(MiningError, match=message):
        mining.combine(pool, {"strategy": "margin"}, 3, engine=engine)


@pytest.mark.parametrize("seed", [-1, 0.5, None, True])
def test_seeds_that_are_not_valid(seed, pool):
    with pytest.raises(MiningError, match="seed must be a whole number"):
        mine(pool, "random", 3, seed=seed)


@pytest.mark.parametrize("nothing", [[], 3, {"id": "a"}, [3]])
def test_records_that_are_not_valid(nothing):
    with pytest.raises(RecordError):
        mine(nothing, "entropy", 1)
    with pytest.raises(RecordError):
        mining.combine(nothing, {"strategy": "entropy"}, 1)


def test_the_default_is_entropy(pool):
    assert mine(pool, size=4).ids == mine(pool, "entropy", 4).ids


def test_strategies_are_listed_with_the_valid_values_of_their_options():
    found = strategies()["box_uncertainty"]
    assert "errors" in found["choices"]["of"] and {*found["choices"]} <= {*found["options"]}
    assert strategies()["random"]["choices"] == {}


def test_meta_is_plain_data(pool, reference):
    for name in strategies():
        found = mine(pool, name, 3, reference=reference, seed=2)
        assert json.loads(json.dumps(found.meta)) == found.meta
        assert found.meta["seed"] == 2
