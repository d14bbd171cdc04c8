import copy
import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from alhelpers import mining
from alhelpers.cli import main
from alhelpers.data import splitting
from alhelpers.dataloop.schemas import KINDS, check_file, write
from alhelpers.evaluation.compare_config import DEFAULT_CONFIG as COMPARE_CONFIG

CONFIGS = Path(__file__).parents[3] / "pipeline_configs"
FILES = sorted(CONFIGS.glob("*.json"))
SCHEMAS = {kind.name: kind.schema for kind in KINDS}

every_file = pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
every_kind = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])


def save(folder, name, config):
    path = folder / name
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return path


def test_every_configuration_of_the_kit_fits_and_every_kind_is_there():
    kinds = {check_file(path) for path in FILES}
    # A node's own configuration lies in the pipelines, not in a file.
    assert kinds == set(SCHEMAS) - {"data_split_node", "create_new_model_node"}


@every_kind
def test_the_schemas_are_schemas_and_the_files_are_up_to_date(kind, tmp_path):
    Draft202012Validator.check_schema(kind.schema)
    write(tmp_path)
    name = f"{kind.name}.schema.json"
    assert (CONFIGS / "schemas" / name).read_text() == (tmp_path / name).read_text(), (
        "write the schemas anew: .venv/bin/python -m alhelpers.dataloop.schemas pipeline_configs/schemas"
    )


def test_no_schema_file_is_left_over():
    assert {path.name for path in (CONFIGS / "schemas").iterdir()} == {
        f"{name}.schema.json" for name in SCHEMAS
    }


def described(schema, where):
    """Every part of a schema that an error can be about."""
    if "$ref" in schema:  # what it points to is described among the definitions
        return
    yield where, schema
    for group in ("properties", "$defs"):
        for key, inner in schema.get(group, {}).items():
            yield from described(inner, f"{where}.{key}")
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from described(schema[key], f"{where}.{key}")


@every_kind
def test_every_part_says_what_it_must_be(kind):
    for where, schema in described(kind.schema, kind.name):
        assert "if" in schema or schema.get("description"), where


def objects(schema, config, path=(), root=None):
    """Where in a configuration objects lie, each with the part of the schema that describes it."""
    root = root or schema
    kind = {dict: "object", list: "array"}.get(type(config))
    fitting = (part for part in alternatives(schema, root) if str(kind) in part.get("type", str(kind)))
    schema = next(fitting, {})
    if isinstance(config, dict):
        yield path, schema
        for key, value in config.items():
            yield from objects(schema.get("properties", {}).get(key, {}), value, (*path, key), root)
    elif isinstance(config, list):
        for index, value in enumerate(config):
            yield from objects(schema.get("items", {}) or {}, value, (*path, index), root)


def alternatives(part, root):
    if "$ref" in part:
        yield from alternatives(root["$defs"][part["$ref"].rpartition("/")[2]], root)
    elif "anyOf" in part:
        for each in part["anyOf"]:
            yield from alternatives(each, root)
    else:
        yield part


def one_of_each(schema, config):
    """One object for each part of the schema: forty ports are no better a test than one."""
    return {id(part): (path, part) for path, part in objects(schema, config)}.values()


def reached(config, path):
    for key in path:
        config = config[key]
    return config


@every_file
def test_a_misspelt_key_is_named_with_its_place_and_the_known_ones(path, tmp_path):
    config = json.loads(path.read_text())
    kind = SCHEMAS[check_file(path)]
    closed = [place for place, part in one_of_each(kind, config) if part.get("additionalProperties") is False]
    # In a comparison's outermost object an unknown name is a metric to come: it is ignored with a warning.
    assert closed or path.name == "compare_configurations.json"
    for place in closed:
        wrong = copy.deepcopy(config)
        reached(wrong, place)["sise"] = 1
        where = path.name + "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)
        message = re.escape(f"{where} has the unknown key 'sise'; known are ")
        with pytest.raises(ValueError, match=f"^{message}'"):
            check_file(save(tmp_path, path.name, wrong))


@every_file
def test_a_missing_key_is_named(path, tmp_path):
    config = json.loads(path.read_text())
    for place, part in one_of_each(SCHEMAS[check_file(path)], config):
        for key in part.get("required", []):
            wrong = copy.deepcopy(config)
            del reached(wrong, place)[key]
            with pytest.raises(ValueError, match=f"lacks '{key}', which must be "):
                check_file(save(tmp_path, path.name, wrong))


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("notes.json", {}, "'notes.json' is not a name of a known kind: name it like one of "),
        ("miner_configurations.json", "{", "miner_configurations.json is not JSON: "),
        ("miner_configurations.json", {"size": 0}, "miner_configurations.json.size 0 must be a whole number"),
        ("miner_configurations.json", {"strategy": "best"}, "miner_configurations.json: .*'best'.*margin"),
        ("compare_configurations.json", {"wins": 2, "checks": []}, "compare_configurations.json.* must be "),
        ("x_subset_filter.json", [], "x_subset_filter.json .* must be "),
        ("pipeline.json", {"nodes": []}, "pipeline.json lacks 'name', which must be a text"),
        ("data_split_node.json", {"groups": "train"}, "data_split_node.json.groups 'train' must be "),
        ("create_new_model_node.json", {"modelName": 3}, "create_new_model_node.json.modelName 3 must be "),
    ],
)
def test_what_is_wrong_is_named(tmp_path, name, config, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        check_file(save(tmp_path, name, config))


def test_the_defaults_of_the_nodes_and_the_nodes_of_the_templates_fit(tmp_path):
    defaults = {
        "compare_configurations.json": COMPARE_CONFIG,
        "miner_configurations.json": mining.DEFAULT_CONFIG,
        "data_split_node.json": splitting.DEFAULT_CONFIG,
    }
    for name, config in defaults.items():
        check_file(save(tmp_path, name, config))
    for path in CONFIGS.glob("*pipeline*.json"):
        template = json.loads(path.read_text())
        for node in template["nodes"]:
            module = node["namespace"].get("moduleName")
            if module in ("data-split", "create-new-model"):
                config = node["metadata"]["customNodeConfig"]
                check_file(save(tmp_path, f"{module.replace('-', '_')}_node.json", config))
        values = {variable["name"]: variable["value"] for variable in template["variables"]}
        check_file(save(tmp_path, "compare_configurations.json", values["Comparison Configuration"]))
        mining_config = values.get("Miner Configuration", {"size": 1})
        check_file(save(tmp_path, "miner_configurations.json", mining_config))
        for name, value in values.items():
            if name.endswith("Filter"):
                check_file(save(tmp_path, "any_subset_filter.json", value))
        for subset in ("train", "validation", "test"):
            own = json.loads((CONFIGS / f"{subset}_subset_filter.json").read_text())
            assert values[f"{subset.title()} Subset Filter"] == own


def test_the_command_says_of_each_file_what_it_is_or_where_it_is_wrong(tmp_path, capsys):
    good = CONFIGS / "compare_configurations.json"
    bad = save(tmp_path, "miner_configurations.json", {"sise": 5})
    assert main(["check", str(good)]) == 0
    assert main(["check", str(bad), str(good), str(tmp_path / "dataloop.json")]) == 1
    said = capsys.readouterr()
    assert said.out == f"{good}: compare_configuration\n" * 2
    first, second = said.err.splitlines()
    assert first.startswith(
        "error: miner_configurations.json has the unknown key 'sise'; known are 'strategy'"
    )
    assert "No such file" in second and "dataloop.json" in second
