import copy
import json
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from helpers_mining import same
from hypothesis import given, settings
from hypothesis import strategies as st

from alhelpers import records
from alhelpers.mining import (
    MiningError,
    MissingField,
    PoolExhausted,
    UnknownOption,
    UnknownStrategy,
    _combine,
    combine,
    mine,
)
from alhelpers.mining._plan import _budgets, _kept, read_plan
from alhelpers.mining._ranks import ranks

CASCADE = {"cascade": [{"strategy": "margin", "keep": "2x"}, {"strategy": "coreset"}]}


def test_one_part_is_mining(pool, reference):
    one = {"strategy": "coreset"}
    for plan in (one, [one | {"share": 1.0}], [one | {"size": 7}]):
        found = combine(pool, plan, 7, reference=reference)
        same(found, mine(pool, "coreset", 7, reference=reference))
        assert set(found.meta["strategies"].values()) == {"coreset"}


def test_side_by_side_each_part_chooses_from_what_is_left(pool):
    plan = [
        {"strategy": "margin", "share": 0.5},
        {"strategy": "mc_dropout", "options": {"score": "bald"}, "share": 0.3},
        {"strategy": "entropy", "share": 0.2},
    ]
    found = combine(pool, plan, 20)
    ids = pool["id"].to_pylist()
    first = mine(pool, "margin", 10).ids
    left = pool.filter(np.array([id not in first for id in ids]))
    second = mine(left, "mc_dropout", 6, score="bald").ids
    left = pool.filter(np.array([id not in first + second for id in ids]))
    assert found.ids == first + second + mine(left, "entropy", 4).ids
    assert len(set(found.ids)) == 20 and found.scores.shape == (20,) and found.scores.dtype == np.float32
    assert list(found.meta["strategies"].values()) == ["margin"] * 10 + ["mc_dropout"] * 6 + ["entropy"] * 4
    assert [part["strategy"] for part in found.meta["parts"]] == ["margin", "mc_dropout", "entropy"]
    assert json.loads(json.dumps(found.meta)) == found.meta


def test_the_same_strategy_twice_never_chooses_twice(pool):
    found = combine(pool, [{"strategy": "margin", "size": 5}, {"strategy": "margin", "size": 5}], 10)
    assert found.ids == mine(pool, "margin", 10).ids


def test_a_cascade_chooses_among_what_was_kept(pool):
    last = {"strategy": "coreset", "options": {"metric": "cosine"}}
    plan = {"cascade": [{"strategy": "margin", "keep": "4x"}, last]}
    found = combine(pool, plan, 6)
    kept = mine(pool, "margin", 24).ids
    expected = mine(pool.filter(np.isin(pool["id"].to_numpy(), kept)), "coreset", 6, metric="cosine")
    assert found.ids == expected.ids
    assert set(found.meta["strategies"].values()) == {"margin > coreset"}
    assert [stage["size"] for stage in found.meta["parts"][0]["cascade"]] == [24, 6]


@pytest.mark.parametrize(("keep", "kept"), [(15, 15), ("2.5x", 15), ("1x", 6), ("100x", 60), (6, 6)])
def test_keep(keep, kept, pool):
    plan = {"cascade": [{"strategy": "margin", "keep": keep}, {"strategy": "random"}]}
    assert combine(pool, plan, 6).meta["parts"][0]["cascade"][0]["size"] == kept


def test_a_cascade_keeps_at_most_what_the_parts_before_it_left(pool):
    plan = [
        MARGIN | {"size": 20},
        {"cascade": [MARGIN | {"keep": "100x"}, {"strategy": "random"}], "size": 5},
    ]
    found = combine(pool, plan, 25)
    assert [stage["size"] for stage in found.meta["parts"][1]["cascade"]] == [40, 5]


def test_a_cascade_beside_others(pool, reference):
    plan = [
        {"strategy": "typicality", "size": 4},
        {"cascade": [{"strategy": "margin", "keep": "3x"}, {"strategy": "badge"}], "size": 6},
    ]
    found = combine(pool, plan, 10, reference=reference, seed=3)
    assert len(set(found.ids)) == 10
    assert list(found.meta["strategies"].values()) == ["typicality"] * 4 + ["margin > badge"] * 6


def budgets_of(plan, size, left=None):
    return _budgets(read_plan(plan), size, size if left is None else left)


@pytest.mark.parametrize(
    ("shares", "size", "expected"),
    [
        ([1 / 3] * 3, 10, [4, 3, 3]),
        ([0.5, 0.5], 7, [4, 3]),
        ([0.7, 0.2, 0.1], 10, [7, 2, 1]),
        ([0.99, 0.01], 5, [5]),
        ([0.15, 0.35, 0.5], 10, [2, 3, 5]),  # both lose a half: the first is rounded up
        ([0.35, 0.15, 0.5], 10, [4, 1, 5]),
        ([0.29, 0.71], 100, [29, 71]),  # 0.29 * 100 is less than 29 in floats
        ([0.5, 0.5000004], 10**8, [49_999_980, 50_000_020]),
    ],
)
def test_shares_are_rounded_to_the_whole_budget(shares, size, expected, pool):
    budgets = budgets_of([{"strategy": "random", "share": share} for share in shares], size)
    assert [budget for budget in budgets if budget] == expected
    if size <= 60:
        found = combine(pool, [{"strategy": "random", "share": share} for share in shares], size)
        assert [part["size"] for part in found.meta["parts"]] == expected


@settings(max_examples=100)
@given(
    cuts=st.lists(st.integers(1, 999), max_size=6, unique=True),
    sizes=st.lists(st.integers(1, 50), max_size=3),
    size=st.integers(1, 10**9),
)
def test_budgets_are_those_of_the_largest_remainders(cuts, sizes, size):
    thousandths = np.diff([0, *sorted(cuts), 1000]).tolist()
    expected = [part * size // 1000 for part in thousandths]
    remainders = [part * size % 1000 for part in thousandths]
    for place in sorted(range(len(expected)), key=lambda place: -remainders[place])[: size - sum(expected)]:
        expected[place] += 1
    plan = [MARGIN | {"share": part / 1000} for part in thousandths]
    assert budgets_of(plan, size) == expected == budgets_of(plan, 2 * size, size)
    whole = size + sum(sizes)
    shares = [MARGIN | {"share": part / 1000 * size / whole} for part in thousandths]
    found = budgets_of(shares + [MARGIN | {"size": each} for each in sizes], whole)
    assert found[len(shares) :] == sizes and sum(found) == whole
    assert all(abs(one - other) <= 1 for one, other in zip(found, expected, strict=False))


@pytest.mark.parametrize(
    ("keep", "budget", "kept"),
    [
        ("1.1x", 50, 55),  # more than 55 in floats
        ("1.12x", 25, 28),
        ("2.5x", 3, 8),
        ("1x", 7, 7),
        ("3x", 4, 12),
        ("1.01x", 10, 11),
        (9, 9, 9),
    ],
)
def test_kept_records_are_rounded_up(keep, budget, kept):
    assert _kept(keep, budget) == kept


def test_sizes_add_up_exactly():
    for sizes in ([5_000_000, 5_000_001], [5_000_000, 4_999_999]):
        with pytest.raises(MiningError, match="the parts of the plan ask for 1e.07 records in all"):
            budgets_of([MARGIN | {"size": size} for size in sizes], 10_000_000)


def test_every_form_of_records_gives_the_same_and_nothing_changes(pool, reference, tmp_path):
    plan = [
        CASCADE | {"share": 0.5},
        {"strategy": "novelty", "options": {"n_neighbors": 5}, "share": 0.5},
    ]
    rows, before = pool.to_pylist(), copy.deepcopy((pool.to_pylist(), plan))
    records.write(tmp_path / "pool.parquet", pool)
    records.write(tmp_path / "reference.parquet", reference)
    found = combine(pool, plan, 8, reference=reference)
    assert combine(rows, plan, 8, reference=reference.to_pylist()).ids == found.ids
    assert combine(tmp_path / "*.parquet", plan, 8, reference=reference).ids != []
    at = {"reference": tmp_path / "reference.parquet"}
    assert combine(str(tmp_path / "pool.parquet"), plan, 8, **at).ids == found.ids
    assert (rows, plan) == before
    order = np.random.default_rng(0).permutation(60)
    assert combine(pool.take(order), plan, 8, reference=reference).ids == found.ids


MARGIN = {"strategy": "margin"}
STAGES = [MARGIN | {"keep": "2x"}, {"strategy": "random"}]
BADGES = [{"strategy": "badge", "weight": 1}] * 2


def test_numbers_of_numpy_are_numbers(pool):
    plan = [
        MARGIN | {"size": np.int64(4)},
        {"cascade": [STAGES[0] | {"keep": np.int64(9)}, STAGES[1]], "share": np.float32(0.6)},
    ]
    assert len(combine(pool, plan, 10).ids) == 10


@pytest.mark.parametrize(
    ("plan", "error", "message"),
    [
        ([], MiningError, r"plan \[\] must be an object or a list of objects"),
        ("margin", MiningError, "plan 'margin' must be an object or a list"),
        (["margin"], MiningError, r"plan\[0\] 'margin' must be an object with a 'strategy'"),
        ([{"share": 1.0}], MiningError, "exactly one of 'strategy', 'cascade', 'weights' or 'goals'"),
        ([MARGIN | {"cascade": STAGES}], MiningError, "exactly one of .*'cascade'"),
        ({"weights": []}, MiningError, "a list of at least two objects"),
        ({"weights": [MARGIN | {"weight": 1}]}, MiningError, "a list of at least two objects"),
        ({"weights": [MARGIN] * 2}, MiningError, "lacks 'weight'.* a number above 0"),
        ({"weights": [MARGIN | {"weight": 0}] * 2}, MiningError, "weight 0 must be a number ab"),
        ({"weights": [MARGIN | {"weight": "2"}] * 2}, MiningError, "weight '2' must be a number"),
        *(
            (
                {"weights": [MARGIN | {"weight": weight}] * 2},
                MiningError,
                "weight .* must be a number above 0",
            )
            for weight in (-1, -0.0, float("nan"), float("inf"), True, None, 10**400)
        ),
        ([MARGIN | {"share": 10**400}], MiningError, "share inf must be a number above 0"),
        ([MARGIN | {"share": 1e300}], MiningError, "ask for 1e.300 records in all, but size=10"),
        ({"weights": [{"strategy": "margn", "weight": 2}] * 2}, UnknownStrategy, "did you mean 'margin'"),
        ({"weights": [MARGIN | {"weight": 1, "keep": 2}] * 2}, MiningError, "unknown key 'keep'"),
        ({"weights": BADGES}, MiningError, "'badge' chooses records together"),
        ({"weights": BADGES, "options": {}}, MiningError, "'options' beside each 'strategy'"),
        ([MARGIN | {"metric": 1}], MiningError, "unknown key 'metric'; known are 'strategy', 'op"),
        ([MARGIN, {"strategy": "random"}], MiningError, "either a 'share' or a 'size'"),
        ([MARGIN | {"share": 0.5, "size": 3}], MiningError, "either a 'share' or a 'size'"),
        ([MARGIN | {"share": 0.5}], MiningError, "ask for 5 records in all, but size=10"),
        ([MARGIN | {"size": 2.5}], MiningError, "size 2.5 must be a whole number"),
        ([MARGIN | {"share": -1}], MiningError, "share -1 must be a number above 0"),
        ([MARGIN | {"share": float("nan")}], MiningError, "share nan must be a number above 0"),
        ([MARGIN | {"share": True}], MiningError, "share True must be a number above 0"),
        ({"strategy": "margn"}, UnknownStrategy, "did you mean 'margin'"),
        (MARGIN | {"options": {"metric": 1}}, UnknownOption, "has no option 'metric'"),
        (MARGIN | {"options": "fast"}, MiningError, "options 'fast' must be an object"),
        ({"cascade": []}, MiningError, "must be a list of stages"),
        ({"cascade": STAGES, "options": {}}, MiningError, "'options' beside each 'strategy'"),
        ({"cascade": [STAGES[0]]}, MiningError, "'keep' in every stage but the last"),
        ({"cascade": [MARGIN, {"strategy": "random"}]}, MiningError, "as stage 1 of 2"),
        ({"cascade": [STAGES[0] | {"keep": "ten"}, STAGES[1]]}, MiningError, "such as '10x'"),
        ({"cascade": [STAGES[0] | {"keep": 5}, STAGES[1]]}, MiningError, "fewer than the 10"),
    ],
)
def test_plans_that_are_not_valid_are_named(plan, error, message, pool):
    with pytest.raises(error, match=message):
        combine(pool, plan, 10)


@pytest.mark.parametrize("given", [{"size": 0}, {"size": 2.0}, {"seed": -1}, {"seed": 0.5}, {"seed": True}])
def test_sizes_and_seeds_that_are_not_valid(given, pool):
    with pytest.raises(MiningError, match=f"{next(iter(given))} must be a whole number of at least "):
        combine(pool, MARGIN, **{"size": 3} | given)


# ------------------------------------------------------------------------------
# weights
# ------------------------------------------------------------------------------


def ranks_of(values):
    """Ranks from 1 for the lowest; equals share the mean of theirs."""
    return np.array([(np.sum(values < v) + np.sum(values <= v) + 1) / 2 for v in values])


@settings(max_examples=40)
@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=30))
def test_ranks_of_equals_are_the_mean_of_theirs(values):
    np.testing.assert_array_equal(ranks(np.array(values)), ranks_of(np.array(values)))


@pytest.mark.parametrize(
    ("weights", "parts"),
    [((3, 1), (3, 1)), ((0.7, 0.3), (7, 3)), ((3e300, 1e300), (3, 1)), ((1e308, 1e308), (1, 1)),
     ((5e-324, 5e-324), (1, 1)), ((2.5e-300, 1e-300), (5, 2)), ((1e308, 5e-324), (1, 0))],
)  # fmt: skip
def test_only_the_proportion_of_weights_counts_and_ties_go_by_id(weights, parts, pool):
    names = ["query_by_committee", "margin"]
    plan = {"weights": [{"strategy": n, "weight": w} for n, w in zip(names, weights, strict=True)]}
    found = combine(pool, plan, 60)
    total = dict.fromkeys(pool["id"].to_pylist(), Fraction(0))
    for name, weight in zip(names, parts, strict=True):
        whole = mine(pool, name, 60)
        for id, rank in zip(whole.ids, ranks_of(whole.scores), strict=True):
            total[id] += weight * Fraction(rank)
    assert found.ids == sorted(total, key=lambda id: (-total[id], id))
    assert np.isfinite(found.scores).all() and found.scores.max() <= 1


def test_weights_choose_by_the_weighted_mean_of_ranks(pool, reference):
    plan = {
        "weights": [
            {"strategy": "query_by_committee", "weight": 2},  # votes tie often
            {"strategy": "outlier", "weight": 1, "options": {"n_neighbors": 5}},
            {"strategy": "embedding_distance", "weight": 0.5},
        ]
    }
    found = combine(pool, plan, 12, reference=reference)
    total = np.zeros(60)
    ids = np.array(sorted(pool["id"].to_pylist()))
    for term in plan["weights"]:
        whole = mine(pool, term["strategy"], 60, reference=reference, **term.get("options", {}))
        values = np.empty(60)
        values[np.searchsorted(ids, whole.ids)] = whole.scores
        total += term["weight"] / 3.5 * ranks_of(values) / 60
    order = np.argsort(-total.round(9), kind="stable")[:12]
    assert found.ids == ids[order].tolist()
    np.testing.assert_allclose(found.scores, total[order], rtol=1e-6)
    assert set(found.meta["strategies"].values()) == {"query_by_committee + outlier + embedding_distance"}
    weighed = found.meta["parts"][0]
    assert [each["weight"] for each in weighed["weights"]] == [2, 1, 0.5]
    assert weighed["weights"][1]["n_neighbors"] == 5 and weighed["size"] == 12
    assert json.loads(json.dumps(found.meta)) == found.meta


def test_weights_are_a_part_and_a_stage(pool, reference):
    weights = [{"strategy": "margin", "weight": 1}, {"strategy": "entropy", "weight": 1}]
    alone = combine(pool, {"weights": weights}, 20)
    plan = {"cascade": [{"weights": weights, "keep": "2x"}, {"strategy": "coreset"}]}
    found = combine(pool, plan, 10)
    assert set(found.ids) <= set(alone.ids)
    assert set(found.meta["strategies"].values()) == {"margin + entropy > coreset"}
    beside = combine(pool, [{"weights": weights, "size": 4}, {"strategy": "random", "size": 4}], 8)
    assert beside.ids[:4] == alone.ids[:4] and len(set(beside.ids)) == 8


# ------------------------------------------------------------------------------
# pools
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", [{"strategy": "margin"}, CASCADE])
def test_no_records_at_all(plan, pool, tmp_path):
    for nothing in ([], pool.slice(0, 0)):
        with pytest.raises(records.RecordError, match="records hold no record"):
            combine(nothing, plan, 5)
    with pytest.raises(records.RecordError, match="no file matches"):
        combine(tmp_path / "*.parquet", plan, 5)


def test_a_stage_reads_of_files_only_its_own_columns(pool, tmp_path, monkeypatch):
    records.write(tmp_path / "pool.parquet", pool)
    asked, parts = [], records.parts

    def spied(source, columns=None, *more, **named):
        asked.append(set(columns))
        return parts(source, columns, *more, **named)

    monkeypatch.setattr(records, "parts", spied)
    combine(tmp_path / "pool.parquet", CASCADE, 5)
    assert {"embeddings"} in asked and {"confidences"} in asked
    assert not any({"embeddings", "confidences"} <= columns for columns in asked)


@pytest.mark.parametrize("rows", [1, 10, 100_000])
def test_what_a_stage_kept_is_in_memory_unless_it_is_large(rows, pool, tmp_path, monkeypatch):
    records.write(tmp_path / "pool.parquet", pool)
    monkeypatch.setattr(records, "PART_ROWS", rows)
    given, original = [], _combine.run_strategy
    monkeypatch.setattr(_combine, "run_strategy", lambda *all: given.append(all[2]) or original(*all))
    assert combine(tmp_path / "pool.parquet", CASCADE, 5).ids == combine(pool, CASCADE, 5).ids
    assert isinstance(given[1], records.Query if rows < 10 else pa.Table)


def test_a_field_that_a_later_stage_lacks_is_named_at_once(pool):
    left = pool.drop_columns(["embeddings", "embeddings:early"])
    with pytest.raises(MissingField, match="'coreset' needs embeddings in the records, which have: id, conf"):
        combine(left.to_pylist(), CASCADE, 5)


def test_a_pool_that_is_too_small(pool):
    with pytest.raises(PoolExhausted, match="size=70 records were asked for, but the pool holds 60"):
        combine(pool, [{"strategy": "margin", "size": 30}, {"strategy": "random", "size": 40}], 70)
