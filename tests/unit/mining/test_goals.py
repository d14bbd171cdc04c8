"""Sampling goals with weights, against a greedy choice in plain Python that computes every gain anew."""

import json
import warnings
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from helpers_mining import make_table, same
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alhelpers import mining, records
from alhelpers.mining import MiningError, MissingField, PoolExhausted, UnknownOption, _goals, combine, mine
from alhelpers.records import RecordError

WEATHER = ["sun", "rain", "snow"]
MARGIN = {"strategy": "margin", "weight": 1}
PREDICTED = {"field": "prediction.class_name", "weight": 1}


def with_weather(table, seed=0, values=WEATHER):
    chosen = np.random.default_rng(seed).choice(
        len(values), size=table.num_rows, p=[0.7, 0.2, 0.1][: len(values)]
    )
    rows = table.to_pylist()
    return records.as_table(
        [row | {"metadata": {"weather": values[k]}} for row, k in zip(rows, chosen, strict=True)]
    )


@pytest.fixture
def weathered(pool):
    return with_weather(pool)


# ------------------------------------------------------------------------------
# the definition
# ------------------------------------------------------------------------------


def distance(one, other, metric):
    """As float32, as the kit computes it from differences."""
    one, other = (np.asarray(each, dtype=np.float32) for each in (one, other))
    if metric == "cosine":
        one, other = (each / abs(each).max() for each in (one, other))
        one, other = (each / np.linalg.norm(each[None], axis=1)[0] for each in (one, other))
    squared = np.einsum("ij,ij->i", (one - other)[None], (one - other)[None])[0]
    return float(np.float32(squared / 2 if metric == "cosine" else np.sqrt(squared)))


def greedy(rows, goals, size, scores, labelled=()):
    """Return the picks and their gains: each is the record that gains most, ties to the smaller id."""
    rows = sorted(rows, key=lambda row: row["id"])
    metric, least = goals.get("metric", "euclidean"), goals.get("min_distance", 0)
    compares = "diversity" in goals or least
    weights = [term["weight"] for term in goals.get("scores", [])]
    weights += [goals[name] for name in ("diversity",) if name in goals]
    weights += [term["weight"] for term in goals.get("balance", [])]

    def nearest(row, others):
        return min(
            (distance(row["embeddings"], other["embeddings"], metric) for other in others), default=np.inf
        )

    def quota(term, value):
        there = {value_of(row, term["field"]) for row in rows}
        target = term.get("target", "uniform")
        target = dict.fromkeys(there, 1) if target == "uniform" else target
        return target.get(value, 0) / sum(target.values()) * size

    picks, gains, scale = [], [], None
    if labelled:
        scale = max(nearest(row, labelled) for row in rows) if compares else None
    while len(picks) < size:
        best, most = None, -np.inf
        for row in rows:
            far = nearest(row, [*labelled, *picks]) if compares else np.inf
            if row in picks or far < least:
                continue
            gain = sum(
                term["weight"] * scores[place][row["id"]]
                for place, term in enumerate(goals.get("scores", []))
            )
            if "diversity" in goals:
                gain += goals["diversity"] * (1 if scale is None else far / scale if scale else 0)
            for term in goals.get("balance", []):
                value = value_of(row, term["field"])
                counted = sum(value_of(pick, term["field"]) == value for pick in picks)
                wanted = quota(term, value)
                gain += term["weight"] * max(0, 1 - counted / wanted) if wanted else 0
            if gain > most + 1e-9:
                best, most = row, gain
        if best is None:
            break
        picks.append(best)
        gains.append(most / sum(weights))
        if scale is None and compares:
            scale = max(nearest(row, picks) for row in rows)
    return [pick["id"] for pick in picks], gains


def value_of(row, field):
    return row["metadata"]["weather"] if field == "metadata.weather" else row["class_name"]


def ranks_by_id(table, name, reference=None, **options):
    """The rank of each record's score, divided by their number; equals share the mean."""
    whole = mine(table, name, table.num_rows, reference=reference, **options)
    values = whole.scores
    shared = [(np.sum(values < v) + np.sum(values <= v) + 1) / 2 / len(values) for v in values]
    return dict(zip(whole.ids, shared, strict=True))


def check(table, goals, size, reference=None):
    """The selection is that of the definition."""
    scores = [
        ranks_by_id(table, term["strategy"], reference, **term.get("options", {}))
        for term in goals.get("scores", [])
    ]
    labelled = [] if reference is None else reference.to_pylist()
    ids, gains = greedy(table.to_pylist(), goals, size, scores, labelled)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if len(ids) < size else "error")
        found = combine(table, {"goals": goals}, size, reference=reference)
    assert found.ids == ids
    np.testing.assert_allclose(found.scores, gains, rtol=1e-5, atol=1e-6)
    assert (np.diff(found.scores) <= 0).all() and found.scores.max() <= 1
    assert json.loads(json.dumps(found.meta)) == found.meta
    return found


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize(
    "goals",
    [
        {"scores": [MARGIN]},
        {"diversity": 1},
        {"diversity": 2, "metric": "cosine"},
        {"balance": [PREDICTED]},
        {"scores": [MARGIN], "diversity": 1},
        {"scores": [MARGIN], "diversity": 0.5, "min_distance": 4.0},
        {"scores": [MARGIN], "min_distance": 0.05, "metric": "cosine"},
        {"scores": [MARGIN, {"strategy": "query_by_committee", "weight": 3}], "balance": [PREDICTED]},
        {"balance": [PREDICTED, {"field": "metadata.weather", "weight": 2}], "diversity": 0.3},
        {
            "balance": [{"field": "metadata.weather", "weight": 1, "target": {"snow": 2, "rain": 1}}],
            "scores": [MARGIN],
        },
        {
            "scores": [
                MARGIN | {"weight": 2},
                {"strategy": "mc_dropout", "weight": 1, "options": {"score": "bald"}},
            ],
            "diversity": 1.5,
            "balance": [PREDICTED, {"field": "metadata.weather", "weight": 0.5}],
            "min_distance": 3.0,
        },
    ],
    ids=str,
)
def test_each_pick_is_that_of_the_definition(goals, labelled, weathered, reference):
    check(weathered, goals, 15, reference if labelled else None)


@settings(max_examples=60, deadline=None)
@example([(0, 0)] * 14, 56, (1, 0, 0), None, 13, False)  # equal gains whose sums differ in their last digit
@given(
    points=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=2, max_size=14),
    seed=st.integers(0, 99),
    weights=st.tuples(*[st.sampled_from([0, 1, 2, 0.5])] * 3),
    least=st.sampled_from([None, 0.5, 1.5]),
    size=st.integers(1, 14),
    labelled=st.booleans(),
)
def test_any_goals_are_those_of_the_definition(points, seed, weights, least, size, labelled):
    rng = np.random.default_rng(seed)
    count = len(points)
    table = records.from_arrays(
        [f"r{k:02d}" for k in rng.permutation(count)],
        confidence=(rng.integers(0, 5, size=count) / 4).astype(np.float32),
        class_name=[str(k) for k in rng.integers(0, 3, size=count)],
        embeddings=np.array(points, dtype=np.float32),  # whole numbers: many distances are equal
    )
    scores, diversity, balance = weights
    goals = {"balance": [PREDICTED | {"weight": balance or 1}]}
    if scores:
        goals["scores"] = [{"strategy": "confidence", "weight": scores}]
    if diversity:
        goals["diversity"] = diversity
    if least:
        goals["min_distance"] = least
    reference = None
    if labelled:
        reference = records.from_arrays(["x", "y"], embeddings=np.array([[9, 9], [7, 0]], dtype=np.float32))
    check(table, goals, min(size, count), reference)


@pytest.mark.parametrize(
    "goals", [{"diversity": 1}, {"diversity": 0.2, "scores": [MARGIN], "min_distance": 3.0}]
)
def test_distances_that_are_computed_late_change_no_pick(goals, reference, monkeypatch):
    table = make_table(700, seed=4)
    whole = combine(table, {"goals": goals}, 60, reference=reference)
    with monkeypatch.context() as patched:
        for block in (1, 5, 10_000):
            patched.setattr(_goals, "_BLOCK", block)
            same(whole, combine(table, {"goals": goals}, 60, reference=reference))
    with ProcessPoolExecutor(1) as engine:
        same(whole, combine(table, {"goals": goals}, 60, reference=reference, engine=engine))


def test_one_goal_alone_is_the_strategy_of_that_goal(weathered, reference):
    assert combine(weathered, {"goals": {"scores": [MARGIN]}}, 20).ids == mine(weathered, "margin", 20).ids
    cover = combine(weathered, {"goals": {"diversity": 1}}, 20, reference=reference)
    assert cover.ids == mine(weathered, "coreset", 20, reference=reference).ids


@pytest.mark.parametrize(
    "target", ["uniform", {"snow": 1, "rain": 1, "sun": 1}, {"sun": 3, "rain": 2, "snow": 1}]
)
def test_a_balance_is_met_where_the_pool_has_enough(target):
    table = with_weather(make_table(300))
    plan = {"goals": {"balance": [{"field": "metadata.weather", "weight": 1, "target": target}]}}
    found = combine(table, plan, 18)
    weather = {row["id"]: row["metadata"]["weather"] for row in table.to_pylist()}
    counts = {value: [weather[id] for id in found.ids].count(value) for value in WEATHER}
    shares = dict.fromkeys(WEATHER, 1) if target == "uniform" else target
    assert counts == {value: 18 * share / sum(shares.values()) for value, share in shares.items()}
    (note,) = found.meta["parts"][0]["goals"]
    assert note["picked"] == counts and note["wanted"] == {value: float(counts[value]) for value in WEATHER}


def test_predicted_classes_without_names_are_balanced_by_their_number(pool):
    plan = {"goals": {"scores": [MARGIN], "balance": [PREDICTED]}}
    found = combine(pool, plan, 12)
    for kept in (["id", "confidences"], ["id", "confidences", "class_names"]):
        assert combine(pool.select(kept), plan, 12).ids == found.ids
    numbered = combine(pool.select(["id", "confidences"]), plan, 12).meta["parts"][0]["goals"][1]
    assert set(numbered["wanted"]) == {"0", "1", "2", "3"}


def test_near_duplicates_are_never_picked(pool, reference):
    rows = pool.to_pylist()
    copies = [
        row | {"id": f"z{row['id']}", "embeddings": np.float32(row["embeddings"]) + 1e-3} for row in rows
    ]
    doubled = records.as_table([row | {"embeddings": np.float32(row["embeddings"])} for row in rows] + copies)
    plan = {"goals": {"scores": [MARGIN], "min_distance": 0.1}}
    found = combine(doubled, plan, 30)
    assert found.ids == mine(pool, "margin", 30).ids  # the copy has the larger id
    assert len({id.removeprefix("z") for id in mine(doubled, "margin", 30).ids}) == 15
    with pytest.warns(
        UserWarning, match="goals chose 60 records, not 90: every other record is nearer than min_dist"
    ):
        assert sorted(combine(doubled, plan, 90).ids) == sorted(pool["id"].to_pylist())
    labelled = doubled.slice(0, 40)
    assert not {id.removeprefix("z") for id in combine(doubled, plan, 20, reference=labelled).ids} & set(
        labelled["id"].to_pylist()
    )
    with pytest.raises(
        PoolExhausted, match="nothing to choose from 120 records: every other record is nearer"
    ):
        combine(doubled, plan, 5, reference=pool)


def test_the_order_of_the_rows_and_their_form_do_not_count(weathered, reference, tmp_path):
    goals = {
        "scores": [MARGIN],
        "diversity": 1,
        "balance": [PREDICTED, {"field": "metadata.weather", "weight": 1}],
    }
    found = combine(weathered, {"goals": goals}, 12, reference=reference)
    order = np.random.default_rng(0).permutation(60)
    same(found, combine(weathered.take(order), {"goals": goals}, 12, reference=reference))
    same(found, combine(weathered.to_pylist(), {"goals": goals}, 12, reference=reference.to_pylist()))
    records.write(tmp_path / "0.parquet", weathered.slice(0, 20))
    records.write(tmp_path / "1.parquet", weathered.slice(20))
    same(found, combine(tmp_path / "*.parquet", {"goals": goals}, 12, reference=reference))


def test_goals_are_a_part_and_a_stage(weathered):
    goals = {"scores": [MARGIN], "diversity": 1}
    plan = [
        {"cascade": [{"goals": goals, "keep": "3x"}, {"strategy": "typicality"}], "size": 4},
        {"cascade": [{"strategy": "entropy", "keep": "3x"}, {"goals": goals}], "size": 5},
        {"goals": {"balance": [PREDICTED]}, "size": 6},
    ]
    found = combine(weathered, plan, 15)
    assert set(found.ids[:4]) <= set(combine(weathered, {"goals": goals}, 12).ids)
    names = ["margin + diversity > typicality"] * 4 + ["entropy > margin + diversity"] * 5
    assert list(found.meta["strategies"].values()) == names + ["prediction.class_name"] * 6


def test_goals_take_scores_of_ones_own(weathered):
    def longest(embeddings):
        return np.linalg.norm(embeddings, axis=1)

    found = combine(weathered, {"goals": {"scores": [{"strategy": longest, "weight": 1}]}}, 9)
    assert found.ids == mine(weathered, longest, 9).ids


def test_goals_in_a_configuration(weathered, reference):
    goals = {"scores": [{"strategy": "outlier", "options": {"n_neighbors": 5}, "weight": 1}], "diversity": 1}
    config = {"plan": {"goals": goals}, "size": 9, "metric": "cosine", "embeddings_field": "embeddings:early"}
    parsed = mining.parse_config(json.loads(json.dumps(config)))
    layered = {"layer": "early", "metric": "cosine"}
    inner = goals["scores"][0] | {"options": {"n_neighbors": 5} | layered}
    expected = combine(weathered, {"goals": goals | layered | {"scores": [inner]}}, 9, reference=reference)
    assert mining.run(parsed, weathered, reference).ids == expected.ids
    assert mining.parse_config(parsed).digest == parsed.digest
    own = mining.parse_config(
        {"plan": {"goals": {"diversity": 1, "metric": "euclidean"}}, "metric": "cosine"}
    )
    assert own.plan[0].goals.metric == "euclidean"
    with pytest.raises(UnknownOption, match="metric 'cosine' is for strategies with an option 'metric'"):
        mining.parse_config({"plan": {"goals": {"scores": [MARGIN]}}, "metric": "cosine"})


def test_what_goals_need_is_known_before_there_are_records(pool):
    goals = {"scores": [MARGIN], "diversity": 1, "layer": "early", "balance": [PREDICTED]}
    (needed,) = mining.needed_fields({"goals": goals})
    assert needed.strategy == "margin + diversity + prediction.class_name" and needed.reference == "optional"
    assert needed.fields == (
        ("confidences", "logits", *(f"detections.{name}" for name in ("confidences", "logits"))),
        ("embeddings:early",),
        ("class_name", "confidences", "logits"),
    )
    (needed,) = mining.needed_fields({"goals": {"scores": [{"strategy": "novelty", "weight": 1}]}})
    assert needed.reference == "required"
    (needed,) = mining.needed_fields({"goals": {"balance": [PREDICTED]}})
    assert needed.reference == "none"
    with pytest.raises(MissingField, match="strategy 'novelty' needs a reference"):
        combine(pool, {"goals": {"scores": [{"strategy": "novelty", "weight": 1}]}}, 3)
    with pytest.raises(MissingField, match="strategy 'diversity' needs embeddings:late in the records"):
        combine(pool, {"goals": {"diversity": 1, "layer": "late"}}, 3)
    with pytest.raises(MissingField, match="strategy 'metadata.weather' needs metadata in the records"):
        combine(pool, {"goals": {"balance": [{"field": "metadata.weather", "weight": 1}]}}, 3)


@pytest.mark.parametrize(
    ("goals", "message"),
    [
        ({}, "plan.goals must have at least one of 'scores', 'diversity' or 'balance', got {}"),
        ({"min_distance": 1}, "must have at least one of 'scores', 'diversity' or 'balance'"),
        ([MARGIN], "must be an object with any of 'scores', 'diversity' and 'balance'"),
        ({"diversity": 0}, "diversity 0 must be a number above 0"),
        ({"diversity": 1, "min_distance": -1}, "min_distance -1 must be a number above 0"),
        ({"diversity": 1, "metric": "l1"}, "metric 'l1' must be one of euclidean, cosine"),
        ({"scores": [{"strategy": "margin"}]}, "lacks 'weight'"),
        ({"scores": [{"strategy": "badge", "weight": 1}]}, "'badge' chooses records together"),
        (
            {"balance": [{"field": "split", "weight": 1, "target": {}}]},
            "target {} must be 'uniform', or an object",
        ),
        (
            {"balance": [{"field": "split", "weight": 1, "target": {"a": 0}}]},
            "target {'a': 0} must be 'uniform'",
        ),
        ({"diversty": 1}, "unknown key 'diversty'.*did you mean 'diversity'"),
    ],
)
def test_goals_that_are_not_valid_are_named(goals, message, pool):
    with pytest.raises(MiningError, match=message):
        combine(pool, {"goals": goals}, 5)


def test_values_that_cannot_be_balanced_are_named(weathered, pool):
    def balanced(table, field, **more):
        return combine(table, {"goals": {"balance": [{"field": field, "weight": 1, **more}]}}, 5)

    rows = weathered.to_pylist()
    lacking = [row if k != 9 else row | {"metadata": {"weather": None}} for k, row in enumerate(rows)]
    with pytest.raises(
        RecordError, match=f"record '{rows[9]['id']}' has no metadata.weather, which goals balance"
    ):
        balanced(lacking, "metadata.weather")
    with pytest.raises(
        MiningError, match="confidence holds float, but goals balance texts, whole numbers or true"
    ):
        balanced(weathered, "confidence")
    with pytest.raises(
        MiningError, match="the target of metadata.weather has 'fog', which no record has; .*'rain'"
    ):
        balanced(weathered, "metadata.weather", target={"fog": 1})
    with pytest.warns(UserWarning, match="target of metadata.weather has 'fog', which no record has"):
        assert len(balanced(weathered, "metadata.weather", target={"fog": 1, "sun": 1})) == 5
    with pytest.raises(
        RecordError, match="field 'metadata.wether' is unknown .*did you mean 'metadata.weather'"
    ):
        balanced(weathered, "metadata.wether")
    with pytest.raises(PoolExhausted, match="size=61 records were asked for, but the pool holds 60"):
        combine(weathered, {"goals": {"balance": [PREDICTED]}}, 61)
    numbers = [row | {"metadata": {"weather": k % 2 == 0}} for k, row in enumerate(rows)]
    found = balanced(numbers, "metadata.weather", target={"true": 1})
    even = [row["id"] for row in rows[::2]]
    assert set(found.ids) <= set(even)
    narrow = records.from_arrays(["a"], embeddings=np.ones((1, 3), np.float32))
    with pytest.raises(MiningError, match="have 6 numbers, the reference's 3"):
        combine(pool, {"goals": {"diversity": 1}}, 5, reference=narrow)
