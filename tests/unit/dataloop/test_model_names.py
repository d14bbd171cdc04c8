import json
from datetime import datetime
from pathlib import Path

import pytest

from alhelpers.configurations import read
from alhelpers.dataloop.model_names import (
    DEFAULT_NAME_TEMPLATE,
    CreateModelConfig,
    free_name,
    parse_template,
    render_name,
)

CONFIGS = Path(__file__).parents[3] / "pipeline_configs"
NOW = datetime(2025, 3, 4, 5, 6, 7)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (DEFAULT_NAME_TEMPLATE, "digits_2025-03-04T05-06-07"),
        ("{base_model.name}_{datetime...}", "digits_2025-03-04T05-06-07"),
        ("{base_model.name}_{datetime:%Y-%m-%d}", "digits_2025-03-04"),
        ("{base_model.name}-{dataset.name}-v2", "digits-Ground Truth-v2"),
        ("fixed", "fixed"),
        ("{datetime:%H:%M}", "05-06"),
        ("{base_model.name}_{datetime.datetime.now().strftime('%Y_%m_%d')}", "digits_2025_03_04"),
        ('{base_model.name}_{datetime.datetime.utcnow().strftime("%H:%M")}', "digits_05-06"),
        ("{base_model.name}_{datetime.now()}", "digits_2025-03-04T05-06-07"),
        ("{{literal}}_{base_model.name}", "{literal}_digits"),
    ],
)
def test_a_template_is_rendered(template, expected):
    assert render_name(template, "digits", "Ground Truth", NOW) == expected


def test_the_default_yields_the_current_time():
    year = datetime.now().year
    assert any(str(y) in render_name(DEFAULT_NAME_TEMPLATE, "m", "d") for y in (year, year - 1, year + 1))


@pytest.mark.parametrize(
    "template",
    [
        "{base_model.id}",
        "{base_model.project._client_api.token}",
        "{base_model.__class__}",
        "{base_model.__class__.__init__.__globals__}",
        "{base_model.name.__init__.__globals__}",
        "{base_model.name[0]}",
        "{base_model.name.upper()}",
        "{dataset}",
        "{__import__('os').getcwd()}",
        "{dl.token()}",
        "{base_model.name!r}",
        "{base_model.name:>9}",
        "{datetime!s}",
        "{datetime:{base_model.name}}",
        "{datetime.datetime.now().__class__}",
        "{datetime.datetime.now().strftime(token)}",
        "{}",
        "{0}",
    ],
)
def test_an_unknown_placeholder_is_refused_and_nothing_is_evaluated(template):
    message = r"unknown placeholder .*known are \{base_model.name\}, \{dataset.name\}"
    with pytest.raises(ValueError, match=message):
        parse_template(template)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        *((empty, "is empty; the default is") for empty in ("", "   ", None, 5)),
        *((unmatched, "cannot be read") for unmatched in ("{base_model.name", "base}")),
    ],
)
def test_empty_templates_and_unmatched_braces_are_refused(template, message):
    with pytest.raises(ValueError, match=message):
        parse_template(template)


@pytest.mark.parametrize(
    "template",
    [
        DEFAULT_NAME_TEMPLATE,
        "{base_model.name}_{datetime:%Y-%m-%d %H:%M}",
        "{base_model.name}_v2",
        "{dataset.name}-{base_model.name}-{datetime:%s}",
        "{base_model.name} of {dataset.name}",
        "{base_model.name}_{datetime.datetime.now().strftime('%Y%m%d-%H%M%S')}",
    ],
)
def test_suffixes_do_not_pile_up_over_the_rounds(template):
    first = render_name(template, "resnet-50", "d", NOW)
    name = first
    for day in range(5, 10):
        name = render_name(template, name, "d", NOW.replace(day=day))
    assert len(name) == len(first)
    # A number that a conflict added is dropped with the rest.
    assert len(render_name(template, f"{name}-2", "d", NOW)) == len(first)


def test_names_that_the_template_did_not_make_are_kept():
    assert render_name("{base_model.name}", "resnet-50", "d", NOW) == "resnet-50"
    assert render_name(DEFAULT_NAME_TEMPLATE, "resnet-50_v2", "d", NOW) == "resnet-50_v2_2025-03-04T05-06-07"


def test_characters_that_no_folder_may_have_are_replaced():
    assert render_name("{dataset.name}", "m", 'a/b\\c:"d', NOW) == "a-b-c-d"
    with pytest.raises(ValueError, match="results in an empty name"):
        render_name("{dataset.name}", "m", " ", NOW)


def test_the_next_free_number():
    assert free_name("m", set()) == "m"
    assert free_name("m", {"m"}) == "m-2"
    assert free_name("m", {"m", "m-2", "m-4"}) == "m-3"


def nodes_of(function):
    for path in sorted(CONFIGS.glob("*pipeline*.json")):
        for node in json.loads(path.read_text())["nodes"]:
            if node["namespace"]["functionName"] == function:
                yield node["metadata"]["customNodeConfig"]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"name": "Create", "modelName": "{base_model.name}", "ports": [], "validation": {"valid": True}},
        *nodes_of("create_new_model"),
    ],
)
def test_configurations_of_the_editor_pass(config):
    read(CreateModelConfig, config, "config")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ([], r"config \[\] must be an object with the new model's name template"),
        ({"modelname": "x"}, "config has the unknown key 'modelname'; known are 'name', 'modelName'"),
        ({"modelName": 5}, "config.modelName 5 must be a template of the new model's name"),
        ({"modelName": None}, "config.modelName None must be a template"),
        ({"ports": "none"}, "config.ports 'none' must be a list"),
    ],
)
def test_a_wrong_configuration_is_named(config, message):
    with pytest.raises(ValueError, match=message):
        read(CreateModelConfig, config, "config")
