"""The schemas of every configuration file, by the kind of file: for an editor's help, and to check a file.

A node's configuration is described in the node's own file; pipelines and the app's manifest, which only the platform
reads, are described here. ``python -m alhelpers.dataloop.schemas FOLDER`` writes all of them as JSON.
"""

import fnmatch
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alhelpers import configurations
from alhelpers.dataloop import compare_models, create_new_model, data_split, mine_items


def _object(description: str, properties: dict[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """Describe an object that may hold these keys and no others."""
    return {
        "description": description,
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _list(description: str, items: dict[str, Any], least: int = 0) -> dict[str, Any]:
    return {"description": description, "type": "array", "items": items, "minItems": least}


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"description": description, "type": "string", "minLength": 1, **more}


def _others(*names: str) -> dict[str, Any]:
    """Let keys through that the SDK's entities know and the kit does not use."""
    return dict.fromkeys(names, {"description": "what the platform takes"})


def _any_object(description: str) -> dict[str, Any]:
    return {"description": description, "type": "object"}


_ACTIONS = _list(
    "a list of texts, the actions that an arrow may follow", _text("a text, the name of an action")
)
_PORT = _object(
    "an object that describes a port",
    {
        "portId": _text("a text that no other port of the node has"),
        "type": _text("a type such as 'Item', 'Item[]', 'Model', 'Dataset' or 'Json'"),
        "name": _text("the name of an argument or a result of the node's function"),
        "displayName": _text("a text"),
        "io": {"description": "'input' or 'output'", "enum": ["input", "output"]},
        "actions": _ACTIONS,
        "variableName": _text("the name of a variable of the pipeline"),
        "defaultValue": {"description": "a value of the port's type"},
    },
    ("portId", "type", "name", "displayName", "io"),
)
_POSITION = _object(
    "the place of the node in the drawing",
    {axis: {"description": "a number", "type": "number"} for axis in ("x", "y", "z")},
    ("x", "y"),
)
_NODE = _object(
    "an object that describes a node",
    {
        "id": _text("a text that no other node has"),
        "name": _text("a text"),
        "type": {
            "description": "'storage', 'ml', 'task', 'custom', 'code', 'function' or 'updateVariable'",
            "enum": ["storage", "ml", "task", "custom", "code", "function", "updateVariable"],
        },
        "inputs": _list("a list of ports", _PORT),
        "outputs": _list("a list of ports", _PORT),
        "namespace": _any_object("an object that names the node's function, service, module and package"),
        "metadata": {
            **_any_object("an object with the node's 'position' and settings"),
            "properties": {
                "position": _POSITION,
                "variableDataset": _text("the name of a variable of the pipeline"),
                "variableModel": _text("the name of a variable of the pipeline"),
            },
            "required": ["position"],
        },
        "config": _any_object("an object with a code node's code"),
        "projectId": _text("the id of a project"),
        "appName": _text("the display name of the node's app"),
        "dpkName": _text("the name of the node's app"),
    },
    ("id", "name", "type", "inputs", "outputs", "namespace", "metadata"),
)
_END = _object(
    "an object that names a node and one of its ports",
    {"nodeId": _text("the id of a node"), "portId": _text("the id of a port")},
    ("nodeId", "portId"),
)
_CONNECTION = _object(
    "an object that describes an arrow",
    {
        "src": _END,
        "tgt": _END,
        "condition": {"description": "a filter as JSON text, such as '{}'", "type": "string"},
        "action": _text("an action of the port that the arrow leaves"),
    },
    ("src", "tgt"),
)
_TRIGGER = _object(
    "an object that describes a trigger",
    {
        "type": {"description": "'Event' or 'Cron'", "enum": ["Event", "Cron"]},
        "name": _text("a text that no other trigger of the project has"),
        "spec": _any_object("an object with the event's resource, actions and filter, or the clock's 'cron'"),
    },
    ("type", "spec"),
)
_START = _object(
    "an object that says where a run begins",
    {
        "nodeId": _text("the id of a node"),
        "type": {"description": "'root' or 'trigger'", "enum": ["root", "trigger"]},
        "id": _text("a text"),
        "trigger": _TRIGGER,
    },
    ("nodeId", "type"),
)
_VARIABLE = _object(
    "an object that describes a variable",
    {
        "name": _text("a text that no other variable has"),
        "type": _text("a type such as 'Dataset', 'Model' or 'Json'"),
        "description": _text("a text"),
        "value": {"description": "a value of the variable's type, or null until it is filled in"},
    },
    ("name", "type", "value"),
)
PIPELINE_SCHEMA: dict[str, Any] = {
    "$schema": configurations.DIALECT,
    "title": "pipeline",
    **_object(
        "an object with the pipeline's 'name', 'nodes', 'connections', 'startNodes' and 'variables'",
        {
            "name": _text("a text"),
            "description": _text("a text"),
            "nodes": _list("a list of at least one node", _NODE, 1),
            "connections": _list("a list of arrows", _CONNECTION),
            "startNodes": _list("a list of at least one start", _START, 1),
            "variables": _list("a list of variables", _VARIABLE),
        },
        ("name", "nodes", "connections", "startNodes", "variables"),
    ),
}

_SPOT = _object(
    "an object with the 'type' and 'name' of an argument or result",
    {
        "type": _text("a type such as 'Item', 'Item[]', 'Model', 'Dataset' or 'Json'"),
        "name": _text("the name of an argument or a result"),
        "actions": _ACTIONS,
    },
    ("type", "name"),
)
_FUNCTION = _object(
    "an object that describes a function",
    {
        "name": _text("the name of a method of the class"),
        "displayName": _text("a text"),
        "description": _text("a text"),
        "input": _list("a list of arguments", _SPOT),
        "output": _list("a list of results", _SPOT),
        **_others("computeConfig", "config", "displayIcon", "integration", "mandatory", "value"),
    },
    ("name", "input", "output"),
)
_MODULE = _object(
    "an object that describes a module",
    {
        "name": _text("a text that no other module has"),
        "className": _text("the name of a class in the entry point"),
        "entryPoint": _text("the path of a Python file in the codebase", pattern=r"^[^/].*\.py$"),
        "computeConfig": _text("the name of one of the 'computeConfigs'"),
        "initInputs": _list("a list of arguments", _SPOT),
        "functions": _list("a list of functions", _FUNCTION),
    },
    ("name", "className", "entryPoint", "functions"),
)
MANIFEST_SCHEMA: dict[str, Any] = {
    "$schema": configurations.DIALECT,
    "title": "app manifest",
    **_object(
        "an object with the app's 'name', 'displayName', 'version', 'scope' and 'components'",
        {
            "name": _text("a text of small letters, digits and '-'", pattern="^[a-z0-9-]+$"),
            "displayName": _text("a text"),
            "version": _text("a version such as '1.0.0'", pattern=r"^\d+\.\d+\.\d+$"),
            "scope": {
                "description": "'project', 'organization' or 'public'",
                "enum": ["project", "organization", "public"],
            },
            "description": _text("a text"),
            "attributes": _any_object("an object of texts, by which the app is found"),
            **_others("codebase", "context", "dependencies", "icon", "metadata", "tags", "url"),
            "components": _object(
                "an object with the app's modules, models, nodes and templates",
                {
                    "modules": _list("a list of at least one module", _MODULE, 1),
                    "computeConfigs": _list(
                        "a list of compute configurations",
                        _object(
                            "an object with a 'name' and a 'runtime'",
                            {
                                "name": _text("a text that no other compute configuration has"),
                                "executionTimeout": {
                                    "description": "a whole number of seconds, at least 1",
                                    "type": "integer",
                                    "minimum": 1,
                                },
                                "runtime": _any_object("an object such as {'podType': 'regular-s'}"),
                                **_others(
                                    "botUserName", "drainTime", "driverId", "integrations", "maxAttempts"
                                ),
                                **_others("onReset", "runExecutionAsProcess", "useUserJwt", "versions"),
                            },
                            ("name", "runtime"),
                        ),
                    ),
                    "models": _list(
                        "a list of models",
                        {
                            **_any_object("an object with the model's 'name' and 'moduleName'"),
                            "properties": {
                                "name": _text("a text that no other model has"),
                                "moduleName": _text("the name of one of the 'modules'"),
                            },
                            "required": ["name", "moduleName"],
                        },
                    ),
                    "pipelineNodes": _list(
                        "a list of nodes for the pipeline editor",
                        _object(
                            "an object with the node's 'name', 'displayName' and 'invoke'",
                            {
                                "name": _text("a text"),
                                "displayName": _text("a text"),
                                "invoke": _object(
                                    "an object with the node's function",
                                    {
                                        "type": {"description": "'function'", "enum": ["function"]},
                                        "namespace": _text(
                                            "app.module.function", pattern=r"^[^.]+\.[^.]+\.[^.]+$"
                                        ),
                                    },
                                    ("type", "namespace"),
                                ),
                                "categories": _list("a list of texts", _text("a text")),
                                "scope": _text("a text"),
                                **_others("computeConfig", "configuration", "description", "icon", "panel"),
                            },
                            ("name", "displayName", "invoke"),
                        ),
                    ),
                    "pipelineTemplates": _list(
                        "a list of pipelines",
                        {key: PIPELINE_SCHEMA[key] for key in PIPELINE_SCHEMA if key[0] != "$"},
                    ),
                    **_others("channels", "integrations", "panels", "services", "toolbars", "triggers"),
                },
                ("modules",),
            ),
        },
        ("name", "displayName", "scope", "components"),
    ),
}


@dataclass(frozen=True)
class Kind:
    """One kind of configuration file.

    Parameters
    ----------
    pattern : str
        What such a file is called, in the form of a shell's pattern.
    name : str
        What the kind is called.
    schema : dict
        Its JSON schema.
    parse : callable, optional
        What checks the rest: what one key says of another, and names that only the code knows.
    """

    pattern: str
    name: str
    schema: dict[str, Any]
    parse: Callable[[Any], object] | None = None


#: The first kind whose pattern fits a file's name counts.
KINDS = (
    Kind("*_subset_filter.json", "subset_filter", create_new_model.SUBSET_SCHEMA),
    Kind(
        "compare_configurations*.json",
        "compare_configuration",
        compare_models.CONFIG_SCHEMA,
        compare_models.parse_config,
    ),
    Kind(
        "miner_configurations*.json", "miner_configuration", mine_items.CONFIG_SCHEMA, mine_items.parse_config
    ),
    Kind("dataloop.json", "app_manifest", MANIFEST_SCHEMA),
    Kind("*pipeline*.json", "pipeline", PIPELINE_SCHEMA),
    Kind("data_split_node*.json", "data_split_node", data_split.CONFIG_SCHEMA),
    Kind("create_new_model_node*.json", "create_new_model_node", create_new_model.CONFIG_SCHEMA),
)


def check_file(path: str | Path) -> str:
    """Check a configuration file as its name asks for.

    Parameters
    ----------
    path : path
        A JSON file, named as the ones of ``pipeline_configs``.

    Returns
    -------
    str
        The kind of configuration.

    Raises
    ------
    ValueError
        If the name is of no kind, the file is no JSON, or the configuration does not fit; it names the file and
        the place.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    kind = next((kind for kind in KINDS if fnmatch.fnmatch(path.name, kind.pattern)), None)
    if kind is None:
        patterns = ", ".join(kind.pattern for kind in KINDS)
        raise ValueError(f"{path.name!r} is of no known kind: name it like one of {patterns}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name} is no JSON: {error}") from error
    configurations.check(config, kind.schema, path.name)
    if kind.parse is not None:
        try:
            kind.parse(config)
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
    return kind.name


def write(folder: str | Path) -> list[Path]:
    """Write every schema as ``<kind>.schema.json``; return the files."""
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for kind in KINDS:
        path = target / f"{kind.name}.schema.json"
        path.write_text(json.dumps(kind.schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(path)
    return written


if __name__ == "__main__":
    for written_path in write(sys.argv[1]):
        print(written_path)
