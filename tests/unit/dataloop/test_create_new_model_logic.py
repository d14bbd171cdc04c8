import copy
import json
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import dtlpy as dl
import pytest
from jsonschema import Draft202012Validator

from alhelpers.configurations import check
from alhelpers.dataloop.create_new_model import (
    CONFIG_SCHEMA,
    DEFAULT_NAME_TEMPLATE,
    SUBSET_SCHEMA,
    _clone_with_free_name,
    free_name,
    merged_configuration,
    normalize_filter,
    parse_template,
    render_name,
)

CONFIGS = Path(__file__).parents[3] / "pipeline_configs"
NOW = datetime(2025, 3, 4, 5, 6, 7)
TRAIN = {
    "filter": {
        "$and": [
            {"hidden": False},
            {"$or": [{"metadata": {"system": {"tags": {"train": True}}}}]},
            {"type": "file"},
        ]
    }
}


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
    with pytest.raises(
        ValueError, match=r"unknown placeholder .*known are \{base_model.name\}, \{dataset.name\}"
    ):
        parse_template(template)


@pytest.mark.parametrize("template", ["", "   ", None, 5])
def test_an_empty_template_is_refused(template):
    with pytest.raises(ValueError, match="is empty; the default is"):
        parse_template(template)


@pytest.mark.parametrize("template", ["{base_model.name", "base}"])
def test_unmatched_braces_are_refused(template):
    with pytest.raises(ValueError, match="cannot be read"):
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
    with pytest.raises(ValueError, match="gives an empty name"):
        render_name("{dataset.name}", "m", " ", NOW)


def test_the_next_free_number():
    assert free_name("m", set()) == "m"
    assert free_name("m", {"m"}) == "m-2"
    assert free_name("m", {"m", "m-2", "m-4"}) == "m-3"


def test_a_filter_keeps_its_exact_form():
    given = copy.deepcopy(TRAIN)
    assert normalize_filter(given, "train") == TRAIN
    assert given == TRAIN


def test_filters_of_every_form_become_the_one_that_models_store():
    filters = dl.Filters(field="dir", values="/train")
    prepared = normalize_filter(filters, "train")
    assert set(prepared) == {"filter"} and {"hidden": False} in prepared["filter"]["$and"]
    assert normalize_filter({"dir": "/a"}, "train") == {"filter": {"$and": [{"dir": "/a"}]}}
    assert normalize_filter({"$or": [{"dir": "/a"}]}, "train") == {
        "filter": {"$and": [{"$or": [{"dir": "/a"}]}]}
    }
    assert normalize_filter('{"filter": {"$and": [{"dir": "/a"}]}}', "t") == {
        "filter": {"$and": [{"dir": "/a"}]}
    }
    paged = {**TRAIN, "page": 3, "pageSize": 5, "resource": "items", "join": {"filter": {"type": "box"}}}
    assert normalize_filter(paged, "train") == {**TRAIN, "join": {"filter": {"type": "box"}}}


@pytest.mark.parametrize(
    "empty",
    [
        None,
        {},
        "",
        " ",
        "null",
        "{}",
        {"filter": {}},
        {"filter": None},
        {"filter": {"$and": []}},
        {"filter": {"$and": [{}, {"$or": []}]}},
        {"$or": []},
        {"$or": [{}]},
    ],
)
def test_an_empty_filter_is_none_not_everything(empty):
    assert normalize_filter(empty, "train") is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("not json", "train_subset 'not json' is no JSON"),
        ([1], r"train_subset \[1\] must be a dl.Filters, or a query such as"),
        (5, "train_subset 5 must be a dl.Filters"),
        ("[]", r"train_subset \[\] must be a dl.Filters"),
        (
            {"filter": {"$and": [{"type": "box"}]}, "resource": "annotations"},
            "train_subset.resource 'annotations' must be 'items'",
        ),
        ({**TRAIN, "pagesize": 5}, "train_subset has the unknown key 'pagesize'; known are 'filter', "),
        ({**TRAIN, "references": {"operation": "or"}}, "train_subset has the unknown key 'references'"),
        ({**TRAIN, "page": -1}, "train_subset.page -1 must be a whole number of 0 or more"),
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
def test_what_is_no_filter_of_items_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        normalize_filter(wrong, "train")


def test_the_base_configuration_is_copied_deeply():
    base = {"epochs": 3, "nested": {"a": 1}}
    merged = merged_configuration(base, {"epochs": 5})
    assert merged == {"epochs": 5, "nested": {"a": 1}}
    merged["nested"]["a"] = 2
    assert base == {"epochs": 3, "nested": {"a": 1}}
    assert merged_configuration(base, {}) == base == merged_configuration(base, None)
    assert merged_configuration(None, None) == {}
    with pytest.raises(ValueError, match="must be an object"):
        merged_configuration(base, ["epochs"])


class Refusing:
    """A base model whose clone is refused, and a dataset in whose project some names are taken."""

    def __init__(self, error, *taken):
        self.error, self.taken, self.tried = error, set(taken), []
        self.configuration, self.project, self.models = {}, self, self

    def clone(self, model_name, **_):
        self.tried.append(model_name)
        self.taken |= {model_name} if self.steals else set()
        raise self.error

    steals = False

    def list(self, filters):
        name = filters.prepare()["filter"]["$and"][0]["name"]
        found = [
            taken
            for taken in self.taken
            if taken == name or (name[-1] == "*" and taken.startswith(name[:-1]))
        ]
        return SimpleNamespace(
            items_count=len(found), all=lambda: [SimpleNamespace(name=one) for one in found]
        )


@pytest.mark.parametrize(
    "error",
    [dl.exceptions.BadRequest("400", "labels are wrong"), dl.exceptions.NotFound("404", "no such model")],
)
def test_a_refusal_that_the_name_does_not_explain_is_raised_at_once(error):
    refusing = Refusing(error, "other")
    with pytest.raises(type(error)):
        _clone_with_free_name(refusing, refusing, "wanted")
    assert refusing.tried == ["wanted"]


def test_names_that_are_always_taken_meanwhile_end_in_an_error():
    refusing = Refusing(dl.exceptions.BadRequest("400", "name exists"), "wanted", "wanted-2")
    refusing.steals = True
    with pytest.raises(RuntimeError, match="no free name for the new model: 'wanted'") as raised:
        _clone_with_free_name(refusing, refusing, "wanted")
    assert raised.value.__cause__ is refusing.error
    assert refusing.tried == ["wanted", "wanted-3", "wanted-4", "wanted-5", "wanted-6"]


# ------------------------------------------------------------------------------------------ the schemas


@pytest.mark.parametrize("schema", [CONFIG_SCHEMA, SUBSET_SCHEMA])
def test_the_schemas_are_ones(schema):
    Draft202012Validator.check_schema(schema)


def nodes_of(function):
    for path in sorted(CONFIGS.glob("*pipeline*.json")):
        for node in json.loads(path.read_text())["nodes"]:
            if node["namespace"]["functionName"] == function:
                yield node["metadata"]["customNodeConfig"]


@pytest.mark.parametrize(
    "config",
    [
        {},
        {
            "name": "Create New Model",
            "modelName": "{base_model.name}",
            "ports": [],
            "validation": {"valid": True},
        },
        *nodes_of("create_new_model"),
    ],
)
def test_configurations_of_the_editor_pass(config):
    check(config, CONFIG_SCHEMA, "config")


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
        check(config, CONFIG_SCHEMA, "config")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*_subset_filter.json")), ids=lambda path: path.stem)
def test_the_kits_filters_pass(path):
    check(json.loads(path.read_text()), SUBSET_SCHEMA, "subset")


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
    check(filters.prepare(), SUBSET_SCHEMA, "subset")
