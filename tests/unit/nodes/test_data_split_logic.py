import subprocess
import sys
from collections import Counter

import pytest

from alhelpers.nodes.data_split import (
    Group,
    assign_group,
    check_total,
    current_group,
    parse_groups,
    parse_weight,
    without_model_info,
)

IDS = [f"{number:024x}" for number in range(20_000)]
GOLDEN = ["train", "test", "train", "train", "train", "train", "train", "test"]


def groups_of(**shares):
    return parse_groups(shares)


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
    groups = groups_of(train=80, validation=10, test=10)
    first = [assign_group(item_id, groups, 7) for item_id in IDS[:500]]
    assert first == [assign_group(item_id, groups, 7) for item_id in IDS[:500]]
    assert first != [assign_group(item_id, groups, 8) for item_id in IDS[:500]]
    # Fixed for good: another version of the code must not move items between the subsets.
    assert first[:8] == GOLDEN


def test_the_group_does_not_depend_on_the_hash_seed_of_the_process():
    code = (
        "from alhelpers.nodes.data_split import assign_group, parse_groups\n"
        "g = parse_groups({'train': 80, 'validation': 10, 'test': 10})\n"
        "print([assign_group(f'{n:024x}', g, 7) for n in range(8)])"
    )
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == str(GOLDEN)


def test_a_group_without_share_gets_nothing():
    groups = parse_groups({"none": 0, "all": 5, "never": 0})
    assert {assign_group(item_id, groups) for item_id in IDS[:1000]} == {"all"}


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
        ({"a": 0, "b": 0}, "add up to 0"),
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


GROUPS = (Group("train", 80), Group("test", 20))


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"train": True}, "train"),
        ({"blurry": True}, None),
        ({"train": False}, None),
        ({"train": "yes"}, None),
        ({"train": None, "test": True, "blurry": True}, "test"),
        ({}, None),
        (None, None),
    ],
)
def test_only_a_true_tag_of_the_groups_counts(tags, expected):
    assert current_group({"system": {"tags": tags}}, GROUPS) == expected


@pytest.mark.parametrize("metadata", [None, {}, {"system": None}, {"user": None, "system": {}}])
def test_missing_metadata_is_no_tag(metadata):
    assert current_group(metadata, GROUPS) is None


def test_two_tags_are_an_error_that_names_the_item():
    with pytest.raises(ValueError, match=r"item 5f.*\['train', 'test'\]"):
        current_group({"system": {"tags": {"train": True, "test": True}}}, GROUPS, "5f")


def test_model_info_is_taken_out_of_a_copy():
    metadata = {
        "system": {"model": {"name": "m"}, "status": "approved"},
        "user": {"model": {"name": "m"}, "prediction": {"confidences": [1.0]}, "note": "mine"},
    }
    cleaned, changed = without_model_info(metadata)
    assert changed and cleaned == {"system": {"status": "approved"}, "user": {"note": "mine"}}
    assert metadata["system"]["model"] == {"name": "m"}


@pytest.mark.parametrize(
    "metadata", [None, {}, {"user": None}, {"user": {"note": 1}, "system": {"model": None}}, {"system": None}]
)
def test_ground_truth_has_no_model_info(metadata):
    assert without_model_info(metadata) == (metadata or {}, False)


def test_importing_the_nodes_leaves_the_root_logger_alone():
    code = (
        "import logging, dtlpy\n"
        "root = logging.getLogger(); before = (root.level, list(root.handlers))\n"
        "import alhelpers.nodes\n"
        "assert (root.level, list(root.handlers)) == before\n"
        "ours = [l for n, l in logging.root.manager.loggerDict.items() if n.startswith('alhelpers')]\n"
        "assert not any(getattr(l, 'handlers', []) for l in ours)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
