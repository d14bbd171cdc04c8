import copy
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from alhelpers.configurations import read
from alhelpers.data.splitting import DEFAULT_CONFIG, Group, SplitConfiguration
from alhelpers.dataloop.item_metadata import current_group, source_of, value_at, without_model_info

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


def test_missing_metadata_is_no_tag_and_two_tags_are_an_error_that_names_the_item():
    for metadata in (None, {}, {"system": None}, {"user": None, "system": {}}):
        assert current_group(metadata, GROUPS) is None
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
        "import alhelpers.dataloop\n"
        "assert (root.level, list(root.handlers)) == before\n"
        "ours = [l for n, l in logging.root.manager.loggerDict.items() if n.startswith('alhelpers')]\n"
        "assert not any(getattr(l, 'handlers', []) for l in ours)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def item(**more):
    user = {"source": "w1", "page": 3, "empty": ""}
    fields = {"id": "5f", "filename": "/a/b.png", "metadata": {"user": user}}
    entity = SimpleNamespace(**fields, **more)
    entity.to_json = lambda: {"dir": "/a", **fields}
    return entity


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.user.source", "w1"),
        ("metadata.user.page", "3"),
        ("metadata.user.empty", None),
        ("metadata.user.page.deeper", None),
        ("metadata.system.tags", None),
        ("dir", "/a"),
        ("nothing", None),
    ],
)
def test_a_path_leads_into_the_item(path, value):
    assert value_at(item(), path) == value


def test_an_item_without_source_is_named():
    with pytest.raises(ValueError, match=r"item '/a/b.png' \(5f\) has no 'metadata.user.writer'"):
        source_of(item(), "metadata.user.writer")
    message = r"item '/a/b.png' \(5f\): 'metadata.user' .* must be a text or a number"
    with pytest.raises(ValueError, match=message):
        source_of(item(), "metadata.user")


CONFIGS = Path(__file__).parents[3] / "pipeline_configs"


GROUP = {"id": "1", "name": "train", "distribution": 80}


@pytest.mark.parametrize(
    "config",
    [
        DEFAULT_CONFIG,
        *(
            node["metadata"]["customNodeConfig"]
            for path in sorted(CONFIGS.glob("*pipeline*.json"))
            for node in json.loads(path.read_text())["nodes"]
            if node["namespace"]["functionName"] == "data_split"
        ),
        {
            "name": "Model Data Split",
            "distributeEqually": False,
            "groups": [GROUP, {"id": 2, "name": "hold out", "distribution": "20%"}],
            "itemMetadata": True,
            "validation": {"valid": True, "errors": [], "warnings": []},
            "ports": [],
        },
        {"groups": [{"name": "a"}, {"name": "b", "distribution": None}], "distributeEqually": True},
        {"groups": {"train": 80, "hold out": "20%"}, "itemMetadata": True},
        {"groups": [GROUP], "seed": "2025", "groupBy": "metadata.user.source", "clearModelInfo": False},
        {
            "groups": [
                {"name": f"at {text!r}".replace(".", ""), "distribution": text}
                for text in ("1", " 33.3 % ", ".5", "1e1%")
            ]
        },
    ],
)
def test_configurations_of_the_editor_and_ours_pass(config):
    before = copy.deepcopy(config)
    assert len(read(SplitConfiguration, config, "config").parsed_groups()) == len(config["groups"])
    assert config == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grupBy": "dir"}, "config has the unknown key 'grupBy'; known are 'name', "),
        ({"groups": []}, "the split has no groups: give at least one name with a distribution"),
        ({"groups": None}, "config.groups None must be a list"),
        ({"groups": {}}, "the split has no groups"),
        ({"groups": {"a.b": 1}}, "group name 'a.b' may not hold '.'"),
        ({"groups": {"a": -1}}, "group 'a': distribution -1 must be a number of 0"),
        ({"groups": ["train"]}, r"config.groups\[0\] 'train' must be an object with 'name'"),
        ({"groups": [{"distribution": 1}]}, r"config.groups\[0\] lacks 'name'"),
        ({"groups": [{"name": "a"}]}, "group 'a': distribution None must be a number of 0"),
        ({"groups": [{**GROUP, "share": 1}]}, r"config.groups\[0\] has the unknown key 'share'"),
        ({"groups": [{**GROUP, "name": 3}]}, r"config.groups\[0\].name 3 must be a text with neither"),
        ({"groups": [{**GROUP, "name": " "}]}, "group name ' ' is empty"),
        ({"groups": [{**GROUP, "distribution": "-1"}]}, "distribution '-1' must be a number of 0"),
        ({"groups": [{**GROUP, "distribution": "much"}]}, "distribution 'much' must be a number of 0"),
        ({"groups": [{**GROUP, "distribution": True}]}, "distribution True must be a number of 0"),
        ({"distributeEqually": "yes"}, "config.distributeEqually 'yes' must be true"),
        ({"itemMetadata": 1}, "config.itemMetadata 1 must be true"),
        ({"clearModelInfo": None}, "config.clearModelInfo None must be true"),
        ({"seed": 1.5}, "config.seed 1.5 must be a whole number or a text"),
        ({"groupBy": ""}, "config.groupBy '' must be a dotted path"),
        ({"groupBy": "metadata..user"}, "config.groupBy 'metadata..user' must be a dotted path"),
        ({"groupBy": ["dir"]}, r"config.groupBy \['dir'\] must be a dotted path"),
    ],
)
def test_a_wrong_configuration_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        read(SplitConfiguration, {"groups": [GROUP], **change}, "config").parsed_groups()
