import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from alhelpers.data.splitting import (
    assign_group,
    check_total,
    parse_groups,
    parse_weight,
    plan_split,
    report,
    whole_counts,
)
from alhelpers.data.splitting.sources import _changes

IDS = [f"{number:024x}" for number in range(20_000)]
GOLDEN = ["train", "test", "train", "train", "train", "train", "train", "test"]


def shares_of(groups, seed=0):
    counts = Counter(assign_group(item_id, groups, seed) for item_id in IDS)
    return {group.name: counts[group.name] / len(IDS) for group in groups}


@pytest.mark.parametrize(
    ("distribution", "expected"),
    [
        ({"train": 33.9, "rare": 0.9, "test": 65.2}, {"train": 0.339, "rare": 0.009, "test": 0.652}),
        ({"train": 0.8, "validation": 0.1, "test": 0.1}, {"train": 0.8, "validation": 0.1, "test": 0.1}),
        ({"a": "33.3", "b": "33.3", "c": "33.3"}, {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}),
        ({"train": "80%", "test": " 20 % "}, {"train": 0.8, "test": 0.2}),
        ({"a": 3, "b": 1}, {"a": 0.75, "b": 0.25}),
    ],
)
def test_any_positive_distribution_gives_its_shares(distribution, expected):
    got = shares_of(parse_groups(distribution))
    assert got == pytest.approx(expected, abs=0.01)
    assert all(share > 0 for share in got.values())


def test_the_group_follows_from_seed_and_id_alone():
    groups = parse_groups({"train": 80, "validation": 10, "test": 10})
    first = [assign_group(item_id, groups, 7) for item_id in IDS[:500]]
    assert first == [assign_group(item_id, groups, 7) for item_id in IDS[:500]]
    assert first != [assign_group(item_id, groups, 8) for item_id in IDS[:500]]
    # Fixed for good: another version of the code must not move items between the subsets.
    assert first[:8] == GOLDEN


def test_the_group_does_not_depend_on_the_hash_seed_of_the_process(printed_with_hash_seed):
    code = (
        "from alhelpers.data.splitting import assign_group, parse_groups\n"
        "g = parse_groups({'train': 80, 'validation': 10, 'test': 10})\n"
        "print([assign_group(f'{n:024x}', g, 7) for n in range(8)])"
    )
    for seed in (1, 2):
        assert printed_with_hash_seed(code, seed).strip() == str(GOLDEN)


def test_a_group_without_share_gets_no_item_and_no_source():
    groups = parse_groups({"none": 0, "all": 5, "never": 0})
    assert {assign_group(item_id, groups) for item_id in IDS[:1000]} == {"all"}
    plan = plan_split(list("abcd"), {"none": 0, "x": 1, "y": 1}, sources=list("sttt"))
    assert set(plan.values()) == {"x", "y"}


def test_distribute_equally_ignores_the_distributions():
    node = [{"name": "a", "distribution": 98}, {"name": "b", "distribution": "?"}, {"name": "c"}]
    assert shares_of(parse_groups(node, distribute_equally=True)) == pytest.approx(
        {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, abs=0.01
    )


@pytest.mark.parametrize(
    "value", [-1, "-5", float("nan"), "nan", float("inf"), None, True, "much", "", [], {}]
)
def test_an_unusable_distribution_is_refused_by_name(value):
    with pytest.raises(ValueError, match="group 'train': distribution"):
        parse_weight("train", value)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([], "no groups"),
        ({}, "no groups"),
        ({"": 1}, "group name '' is empty"),
        ([{"name": None, "distribution": 1}], "group name None is empty"),
        ([{"distribution": 1}], "group name None is empty"),
        (
            [{"name": "train", "distribution": 1}, {"name": " train", "distribution": 1}],
            "'train' is used more than once",
        ),
        ([{"name": name, "distribution": 1} for name in "fedcbaabcdef"], "'a' is used more than once"),
        ({"a": 0, "b": 0}, "add up to 0"),
        ({"a": 1e308, "b": 1e308}, "add up to inf"),
        ({"a.b": 1}, "may not hold '.'"),
        (["train"], "'train' must be an object"),
    ],
)
def test_unusable_groups_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        parse_groups(groups)


def test_the_total_is_said_when_it_is_no_whole():
    for whole in ({"a": 80, "b": 20}, {"a": 0.8, "b": 0.2}, {"a": 33.3, "b": 33.3, "c": 33.3}, {"a": 99.9}):
        assert check_total(parse_groups(whole)) is None
    warning = check_total(parse_groups({"a": 30, "b": 10}))
    assert "add up to 40" in warning and "a 75.0 %" in warning
    assert check_total(parse_groups({"a": 0.5, "b": 0.4}))


SHARES = st.sampled_from([0, 0.1, 0.2, 0.7, 1, 3, 10, 33.3, 80])
WEIGHTS = st.lists(SHARES, min_size=1, max_size=5).filter(any)
STRATA = st.sampled_from([None, "a", "b", "c", "rare"])


def named(weights):
    return {f"g{number}": weight for number, weight in enumerate(weights)}


def exact_share(total, weights, number):
    written = [Fraction(str(weight)) for weight in weights]
    return total * written[number] / sum(written)


@pytest.mark.parametrize(
    ("total", "weights", "counts"),
    [
        (600, [70, 10, 20], [420, 60, 120]),
        (10, [0.7, 0.1, 0.2], [7, 1, 2]),
        (101, ["33.3%", "33.3%", "33.3%"], [34, 34, 33]),
        (3, [80, 10, 10], [3, 0, 0]),
        (5, [80, 10, 10], [4, 1, 0]),
        (1000, [0, 1], [0, 1000]),
        (0, [1, 1], [0, 0]),
        # The textbook case of Hamilton's method: 10 seats for parties of these sizes.
        (10, [47000, 16000, 15900, 12000, 6000, 3100], [5, 2, 1, 1, 1, 0]),
    ],
)
def test_whole_items_are_shared_out_by_the_largest_remainder(total, weights, counts):
    assert whole_counts(total, [parse_weight("", weight) for weight in weights]) == counts


@given(total=st.integers(0, 10**6), weights=WEIGHTS)
@settings(deadline=None)
def test_whole_counts_add_up_and_are_rounded_shares(total, weights):
    counts = whole_counts(total, weights)
    assert sum(counts) == total
    for number, count in enumerate(counts):
        share = exact_share(total, weights, number)
        assert math.floor(share) <= count <= math.ceil(share)


@given(weights=WEIGHTS, strata=st.lists(STRATA, min_size=1, max_size=60), seed=st.integers(0, 9))
@settings(deadline=None)
def test_totals_are_exact_and_strata_as_near(weights, strata, seed):
    ids = [f"{number:x}" for number in range(len(strata))]
    groups = named(weights)
    plan = plan_split(ids, groups, seed, strata=strata)
    counts = Counter(plan.values())
    assert [counts[name] for name in groups] == whole_counts(len(ids), weights)
    reached = Counter(zip(strata, (plan[item_id] for item_id in ids), strict=True))
    for level, size in Counter(strata).items():
        for number, name in enumerate(groups):
            share = exact_share(size, weights, number)
            assert math.floor(share) <= reached[level, name] <= math.ceil(share)


@given(
    rows=st.lists(st.tuples(STRATA, st.sampled_from("uvwxyz"), st.booleans()), min_size=1, max_size=30),
    weights=WEIGHTS,
    stratified=st.booleans(),
    grouped=st.booleans(),
    random=st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_the_plan_depends_on_ids_and_seed_alone(rows, weights, stratified, grouped, random):
    items = [(f"{number:x}", *row) for number, row in enumerate(rows)]

    def plan(items, kept=None):
        ids, strata, sources, _ = zip(*items, strict=True)
        return plan_split(
            ids,
            named(weights),
            7,
            strata=strata if stratified else None,
            sources=sources if grouped else None,
            kept=kept,
        )

    first = plan(items)
    shuffled = random.sample(items, len(items))
    assert plan(shuffled) == first
    # Running it again changes nothing, and a run that was cut off is finished as it would have ended.
    assert plan(shuffled, kept=first) == first
    assert plan(items, kept={item_id: first[item_id] for item_id, *_, done in items if done}) == first
    if grouped:
        groups_of_source = {(source, first[item_id]) for item_id, _, source, _ in items}
        assert len(groups_of_source) == len({source for source, _ in groups_of_source})


@given(
    strata=st.lists(STRATA, min_size=1, max_size=40),
    kept=st.dictionaries(st.integers(0, 39), st.integers(0, 2), max_size=20),
    weights=st.lists(st.sampled_from([1, 2, 5]), min_size=3, max_size=3),
)
@settings(deadline=None)
def test_what_is_tagged_stays_and_the_totals_come_as_near_as_can_be(strata, kept, weights):
    ids = [str(number) for number in range(len(strata))]
    kept = {str(number): f"g{group}" for number, group in kept.items()}
    plan = plan_split(ids, named(weights), strata=strata, kept=kept)
    fixed = {item_id: name for item_id, name in kept.items() if item_id in plan}
    assert set(plan) == set(ids) and fixed.items() <= plan.items()
    wanted = whole_counts(len(ids), weights)
    had, now = Counter(fixed.values()), Counter(plan.values())
    off = sum(abs(now[name] - want) for name, want in zip(named(weights), wanted, strict=True))
    # What the kept items are over cannot be helped, and is missing elsewhere; nothing else is off.
    assert off == 2 * sum(max(had[name] - want, 0) for name, want in zip(named(weights), wanted, strict=True))


def compositions(total, parts):
    return [counts for counts in itertools.product(range(total + 1), repeat=parts) if sum(counts) == total]


def distance(table, exact):
    """Return first what lies outside the rounded shares, then how far all is from the shares."""
    cells = [
        (count, share)
        for row, shares in zip(table, exact, strict=True)
        for count, share in zip(row, shares, strict=True)
    ]
    outside = sum(max(math.floor(share) - count, count - math.ceil(share), 0) ** 2 for count, share in cells)
    return outside, sum(
        (min(max(count, math.floor(share)), math.ceil(share)) - share) ** 2 for count, share in cells
    )


@pytest.mark.parametrize("case", range(40))
def test_no_table_with_these_totals_is_nearer_to_the_shares(case):
    random = np.random.default_rng(case)
    weights = random.choice([1, 2, 3, 7], 3).tolist()
    strata = random.choice(["a", "b", "c"], random.integers(3, 13)).tolist()
    ids = [str(number) for number in range(len(strata))]
    kept = {item_id: f"g{random.integers(3)}" for item_id in ids if random.random() < (case % 2) * 0.5}
    plan = plan_split(ids, named(weights), case, strata=strata, kept=kept)
    levels, names = sorted(set(strata)), list(named(weights))

    def table_of(groups):
        cells = Counter((strata[int(item_id)], name) for item_id, name in groups.items())
        return [[cells[level, name] for name in names] for level in levels]

    got, least = table_of(plan), table_of(kept)
    exact = [[exact_share(sum(row), weights, number) for number in range(3)] for row in got]
    totals = np.sum(got, axis=0).tolist()
    others = (
        table
        for table in itertools.product(*(compositions(sum(row), 3) for row in got))
        if np.sum(table, axis=0).tolist() == totals and (np.array(table) >= least).all()
    )
    best = min(distance(table, exact) for table in others)
    assert distance(got, exact) == best


def test_an_item_is_where_the_node_puts_it_unless_the_totals_need_it_elsewhere():
    groups = {"train": 70, "validation": 10, "test": 20}
    ids = IDS[:2000]
    plan = plan_split(ids, groups, 5)
    node = {item_id: assign_group(item_id, groups, 5) for item_id in ids}
    moved = sum(plan[item_id] != node[item_id] for item_id in ids)
    drawn, exact = Counter(node.values()), Counter(plan.values())
    edges = list(itertools.accumulate(drawn[name] - exact[name] for name in groups))
    assert exact == {"train": 1400, "validation": 200, "test": 400} != drawn
    assert moved == sum(map(abs, edges)) < 100


def test_items_with_a_source_each_are_hashed_by_its_name():
    groups, names, strata = {"train": 70, "test": 30}, IDS[:60], ["a", "b", "c"] * 20
    plans = [plan_split(ids, groups, 5, strata=strata, sources=names) for ids in (range(60), range(100, 160))]
    assert list(plans[0].values()) == list(plans[1].values())
    by_name = plan_split(names, groups, 5, strata=strata)
    assert list(plans[0].values()) == [by_name[name] for name in names]
    kept = {0: "test", 7: "test"}
    assert plan_split(range(60), groups, 5, sources=names, kept=kept).items() >= kept.items()


def test_another_seed_is_another_split():
    plans = [plan_split(IDS[:100], {"a": 1, "b": 1}, seed) for seed in (0, 1)]
    # Each of 100 items agrees with probability 1/2: more than 90 do with one below 1e-16.
    assert sum(plans[0][item_id] == plans[1][item_id] for item_id in IDS[:100]) < 90


LEVELS = {
    "numbers": [0, 1],
    "bools": [False, True, None],
    "numpy": [np.int64(0), np.float32(0.5), np.str_("a"), np.bool_(True)],
    "a number and its text": [0, "0", 1.5, "1.5"],
    "unlabelled": [None, "None", 0],
    "missing in tables": [3, math.nan, "nan"],
    "pandas": [*pd.array([3, None], dtype="Int64"), "<NA>"],
}


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_labels_and_sources_may_be_scalars_of_any_type(levels):
    """Each keeps its own share, as if it were named by a text; so do ids that are numbers."""
    groups, rows = {"train": 60, "test": 40}, [number % len(levels) for number in range(80)]
    strata = [levels[row] for row in rows]
    plan = plan_split(range(80), groups, strata=strata)
    reached = Counter((rows[number], name) for number, name in plan.items())
    for row, size in Counter(rows).items():
        assert math.floor(0.6 * size) <= reached[row, "train"] <= math.ceil(0.6 * size)
    shuffled = np.random.default_rng(0).permutation(80)
    assert plan_split(shuffled, groups, strata=[strata[number] for number in shuffled]) == plan
    parsed = parse_groups(groups)
    table = report(parsed, plan, {}, plan, strata=dict(enumerate(strata))).strata
    assert len(table) == 2 * len(levels) and sum(row["reached"] for row in table) == 80
    sources = [(level, number % 3) for number, level in enumerate(map(str, rows))]
    whole = plan_split(range(80), groups, sources=sources, strata=strata)
    assert len({(source, whole[number]) for number, source in enumerate(sources)}) == len(set(sources))


def test_sources_of_several_types_are_kept_apart():
    sources = [0, 0, "0", "0", 1.5, 1.5, np.int64(7), 7]
    plan = plan_split(list("abcdefgh"), {"x": 1, "y": 1}, sources=sources)
    assert [plan[item] for item in "aceg"] == [plan[item] for item in "bdfh"]
    assert Counter(plan.values()) == {"x": 4, "y": 4}
    assert assign_group(7, {"x": 1, "y": 1}) == assign_group(np.int64(7), {"x": 1, "y": 1})


@pytest.mark.parametrize(
    ("ids", "options", "message"),
    [
        (["a", "b", "a"], {}, "item 'a' occurs more than once"),
        ([1, np.int64(1)], {}, "item 1 occurs more than once"),
        (["a", None], {}, "an item has no id"),
        ([["a"], ["b"]], {}, r"item_ids hold \['a'\]: they must be texts, numbers or bools"),
        (["a", "b"], {"strata": ["s"]}, "strata has 1 values for 2 items"),
        (["a", "b"], {"sources": ["s", "s", "t"]}, "sources has 3 values for 2 items"),
        (["a", "b"], {"sources": ["s", math.nan]}, "item 'b' has no source: give it one"),
        (["a", "b"], {"kept": {"b": "y"}}, "kept has the group 'y', which is not one of the split"),
        ([1, 2], {"kept": {"2": "x"}}, "kept has the item '2', and the items hold 2: pass ids of one type"),
    ],
)
def test_items_that_cannot_be_split_are_named(ids, options, message):
    with pytest.raises(ValueError, match=message):
        plan_split(ids, {"x": 1}, **options)
    with pytest.raises(ValueError, match="item id None is missing"):
        assign_group(None, {"x": 1})


def test_nothing_and_what_is_gone_can_be_split():
    assert plan_split([], {"x": 1}) == {}
    # What is no item of the split does not count.
    assert plan_split(["a"], {"x": 1, "y": 0}, kept={"gone": "y"}) == {"a": "x"}


def off_by(plan, groups, total):
    counts = Counter(plan.values())
    wanted = whole_counts(total, list(groups.values()))
    return sum(abs(counts[name] - want) for name, want in zip(groups, wanted, strict=True))


@pytest.mark.parametrize("case", range(60))
def test_few_sources_come_as_near_to_the_totals_as_their_sizes_allow(case):
    """Those with kept items stay where these are."""
    random = np.random.default_rng(case)
    groups = named(random.integers(1, 10, random.integers(2, 4)).tolist())
    sizes = random.integers(1, 9, random.integers(2, 9))
    sources = [f"s{number}" for number, size in enumerate(sizes) for _ in range(size)]
    strata = random.choice(["a", "b", None], len(sources)).tolist() if case % 2 else None
    ids = [str(number) for number in range(len(sources))]
    fixed = {f"s{number}": random.integers(len(groups)) for number in range(case % 4 // 2 * len(sizes) // 2)}
    kept = {str(sources.index(name)): f"g{column}" for name, column in fixed.items()}
    plan = plan_split(ids, groups, case, sources=sources, strata=strata, kept=kept)
    assert kept.items() <= plan.items()
    assert len(set(zip(sources, (plan[item_id] for item_id in ids), strict=True))) == len(sizes)
    wanted = whole_counts(len(ids), list(groups.values()))
    free = len(sizes) - len(fixed)
    best = min(
        np.abs(np.bincount([*fixed.values(), *owners], sizes, minlength=len(groups)) - wanted).sum()
        for owners in itertools.product(range(len(groups)), repeat=free)
    )
    assert off_by(plan, groups, len(ids)) == best


@pytest.mark.parametrize("price", [0, 100])
def test_the_change_of_an_exchange_is_that_of_the_distance(price):
    """By definition: the squares over strata and totals, and the price of each surplus item of a total."""
    random = np.random.default_rng(price)
    mine, theirs = (random.integers(0, 5, (count, 3)) for count in (4, 3))
    off = random.integers(-6, 7, (2, 3)).astype(float)

    def far(left, right):
        return (left**2).sum() + (right**2).sum() + price * (abs(left[-1]) + abs(right[-1]))

    nothing = np.zeros((1, 3))
    changes = _changes(mine, theirs, *off, price)
    for (row, own), (column, other) in itertools.product(
        enumerate([*mine, *nothing]), enumerate([*theirs, *nothing])
    ):
        after = far(off[0] - own + other, off[1] + own - other)
        assert changes[row, column] == pytest.approx(after - far(*off))


def deviations(groups, labels, folds):
    """Return how many items the totals are off, and the labels."""
    totals = np.abs(np.bincount(groups, minlength=folds) - len(groups) / folds).sum()
    by_label = [groups[labels == label] for label in np.unique(labels)]
    return totals, sum(
        np.abs(np.bincount(part, minlength=folds) - len(part) / folds).sum() for part in by_label
    )


def test_sources_are_packed_at_least_as_well_as_by_scikit_learn():
    ours, theirs = [], []
    for case in range(60):
        random = np.random.default_rng(case)
        folds = int(random.integers(2, 6))
        sources = np.repeat(np.arange(40), random.integers(1, 10, 40))
        labels = np.where(random.random(len(sources)) < 0.3, random.integers(0, 4, len(sources)), sources % 4)
        plan = plan_split(
            [str(number) for number in range(len(sources))],
            named([1] * folds),
            case,
            strata=labels.astype(str).tolist(),
            sources=sources.astype(str).tolist(),
        )
        got = np.array([int(plan[str(number)][1:]) for number in range(len(sources))])
        peer = np.empty(len(sources), int)
        for fold, (_, test) in enumerate(StratifiedGroupKFold(folds).split(labels, labels, sources)):
            peer[test] = fold
        ours.append(deviations(got, labels, folds))
        theirs.append(deviations(peer, labels, folds))
    # The totals never; the labels, which come second with us, are nearer on the average.
    assert (np.array(ours)[:, 0] <= np.array(theirs)[:, 0]).all()
    assert np.mean(ours, axis=0)[1] < np.mean(theirs, axis=0)[1]


@pytest.mark.parametrize("count", [200, 600])
def test_many_sources_reach_the_totals_and_nearly_the_labels(count):
    random = np.random.default_rng(0)
    sources = random.integers(0, count, 3000)
    labels = random.integers(0, 10, 3000)
    plan = plan_split(
        [str(number) for number in range(3000)],
        {"train": 70, "validation": 10, "test": 20},
        strata=labels.astype(str).tolist(),
        sources=sources.astype(str).tolist(),
    )
    assert Counter(plan.values()) == {"train": 2100, "validation": 300, "test": 600}
    reached = Counter((label, plan[str(number)]) for number, label in enumerate(labels.tolist()))
    sizes = Counter(labels.tolist())
    for (label, name), count in reached.items():
        share = {"train": 0.7, "validation": 0.1, "test": 0.2}[name] * sizes[label]
        assert abs(count - share) <= 5


def test_the_rest_of_a_source_follows_its_tagged_items():
    sources = ["s", "s", "s", "t", "u", "v"]
    ids = list("abcdef")
    plan = plan_split(ids, {"train": 1, "test": 1}, sources=sources, kept={"b": "test"})
    assert [plan[item_id] for item_id in "abc"] == ["test"] * 3
    assert [plan[item_id] for item_id in "def"] == ["train"] * 3
    with pytest.raises(ValueError, match=r"source 's' are in several groups already, \['test', 'train'\]"):
        plan_split(ids, {"train": 1, "test": 1}, sources=sources, kept={"a": "train", "b": "test"})
