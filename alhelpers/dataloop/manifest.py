"""The app's manifest and the pipelines, which only the platform reads, as pydantic models."""

from typing import Annotated, Any, Literal

from pydantic import Field, create_model

from alhelpers.configurations import Configuration, Integer, Text, described

_Object = dict[str, Any]
_PORT_TYPE = "a type such as 'Item', 'Item[]', 'Model', 'Dataset' or 'Json'"
_VARIABLE_NAME = "the name of a variable of the pipeline"
_Actions = Annotated[
    list[Annotated[Text, Field(description="a text, the name of an action")]],
    Field(description="a list of texts, the actions that an arrow may follow"),
]


def _optional(description: str) -> Any:
    return Field(None, description=description)


def _with_keys(*names: str) -> type[Configuration]:
    """Return a base class with keys of the SDK's entities that the kit does not use."""
    keys: dict[str, Any] = dict.fromkeys(names, (Any, _optional("what the platform takes")))
    return create_model("Base", __base__=Configuration, **keys)


# ------------------------------------------------------------------------------
# pipelines
# ------------------------------------------------------------------------------


class Port(Configuration):
    model_config = described("an object that describes a port")
    portId: Text = Field(description="a text that no other port of the node has")
    type: Text = Field(description=_PORT_TYPE)
    name: Text = Field(description="the name of an argument or a result of the node's function")
    displayName: Text = Field(description="a text")
    io: Literal["input", "output"] = Field(description="'input' or 'output'")
    actions: _Actions = []
    variableName: Text | None = _optional(_VARIABLE_NAME)
    defaultValue: Any = _optional("a value of the port's type")


class Position(Configuration):
    model_config = described("the place of the node in the drawing")
    x: float = Field(description="a number")
    y: float = Field(description="a number")
    z: float | None = _optional("a number")


class NodeMetadata(Configuration):
    model_config = described("an object with the node's 'position' and settings", extra="allow")
    position: Position
    variableDataset: Text | None = _optional(_VARIABLE_NAME)
    variableModel: Text | None = _optional(_VARIABLE_NAME)


class Node(Configuration):
    model_config = described("an object that describes a node")
    id: Text = Field(description="a text that no other node has")
    name: Text = Field(description="a text")
    type: Literal["storage", "ml", "task", "custom", "code", "function", "updateVariable"] = Field(
        description="'storage', 'ml', 'task', 'custom', 'code', 'function' or 'updateVariable'"
    )
    inputs: list[Port] = Field(description="a list of ports")
    outputs: list[Port] = Field(description="a list of ports")
    namespace: _Object = Field(
        description="an object that names the node's function, service, module and package"
    )
    metadata: NodeMetadata
    config: _Object | None = _optional("an object with a code node's code")
    projectId: Text | None = _optional("the id of a project")
    appName: Text | None = _optional("the display name of the node's app")
    dpkName: Text | None = _optional("the name of the node's app")


class End(Configuration):
    model_config = described("an object that names a node and one of its ports")
    nodeId: Text = Field(description="the id of a node")
    portId: Text = Field(description="the id of a port")


class Connection(Configuration):
    model_config = described("an object that describes an arrow")
    src: End
    tgt: End
    condition: str | None = _optional("a filter as JSON text, such as '{}'")
    action: Text | None = _optional("an action of the port that the arrow leaves")


class Trigger(Configuration):
    model_config = described("an object that describes a trigger")
    type: Literal["Event", "Cron"] = Field(description="'Event' or 'Cron'")
    name: Text | None = _optional("a text that no other trigger of the project has")
    spec: _Object = Field(
        description="an object with the event's resource, actions and filter, or the clock's 'cron'"
    )


class Start(Configuration):
    model_config = described("an object that names the node at which a run starts")
    nodeId: Text = Field(description="the id of a node")
    type: Literal["root", "trigger"] = Field(description="'root' or 'trigger'")
    id: Text | None = _optional("a text")
    trigger: Trigger | None = _optional("an object that describes a trigger")


class Variable(Configuration):
    model_config = described("an object that describes a variable")
    name: Text = Field(description="a text that no other variable has")
    type: Text = Field(description="a type such as 'Dataset', 'Model' or 'Json'")
    description: Text | None = _optional("a text")
    value: Any = Field(description="a value of the variable's type, or null until it is filled in")


class Pipeline(Configuration):
    model_config = described(
        "an object with the pipeline's 'name', 'nodes', 'connections', 'startNodes' and 'variables'"
    )
    name: Text = Field(description="a text")
    description: Text | None = _optional("a text")
    nodes: list[Node] = Field(description="a list of at least one node", min_length=1)
    connections: list[Connection] = Field(description="a list of arrows")
    startNodes: list[Start] = Field(description="a list of at least one start", min_length=1)
    variables: list[Variable] = Field(description="a list of variables")


# ------------------------------------------------------------------------------
# the manifest
# ------------------------------------------------------------------------------


class Argument(Configuration):
    model_config = described("an object with the 'type' and 'name' of an argument or result")
    type: Text = Field(description=_PORT_TYPE)
    name: Text = Field(description="the name of an argument or a result")
    actions: _Actions = []


class Function(_with_keys("computeConfig", "config", "displayIcon", "integration", "mandatory", "value")):
    model_config = described("an object that describes a function")
    name: Text = Field(description="the name of a method of the class")
    displayName: Text | None = _optional("a text")
    description: Text | None = _optional("a text")
    input: list[Argument] = Field(description="a list of arguments")
    output: list[Argument] = Field(description="a list of results")


class Module(Configuration):
    model_config = described("an object that describes a module")
    name: Text = Field(description="a text that no other module has")
    className: Text = Field(description="the name of a class in the entry point")
    entryPoint: str = Field(description="the path of a Python file in the codebase", pattern=r"^[^/].*\.py$")
    computeConfig: Text | None = _optional("the name of one of the 'computeConfigs'")
    initInputs: list[Argument] = Field([], description="a list of arguments")
    functions: list[Function] = Field(description="a list of functions")


class ComputeConfig(
    _with_keys(
        "botUserName",
        "drainTime",
        "driverId",
        "integrations",
        "maxAttempts",
        "onReset",
        "runExecutionAsProcess",
        "useUserJwt",
        "versions",
    )
):
    model_config = described("an object with a 'name' and a 'runtime'")
    name: Text = Field(description="a text that no other compute configuration has")
    runtime: _Object = Field(description="an object such as {'podType': 'regular-s'}")
    executionTimeout: Integer | None = Field(None, description="a whole number of seconds, at least 1", ge=1)


class ModelComponent(Configuration):
    model_config = described("an object with the model's 'name' and 'moduleName'", extra="allow")
    name: Text = Field(description="a text that no other model has")
    moduleName: Text = Field(description="the name of one of the 'modules'")


class Invoke(Configuration):
    model_config = described("an object with the node's function")
    type: Literal["function"] = Field(description="'function'")
    namespace: str = Field(description="app.module.function", pattern=r"^[^.]+\.[^.]+\.[^.]+$")


class PipelineNode(_with_keys("computeConfig", "configuration", "description", "icon", "panel")):
    model_config = described("an object with the node's 'name', 'displayName' and 'invoke'")
    name: Text = Field(description="a text")
    displayName: Text = Field(description="a text")
    invoke: Invoke
    categories: list[Annotated[Text, Field(description="a text")]] = Field([], description="a list of texts")
    scope: Text | None = _optional("a text")


class Components(_with_keys("channels", "integrations", "panels", "services", "toolbars", "triggers")):
    model_config = described("an object with the app's modules, models, nodes and templates")
    modules: list[Module] = Field(description="a list of at least one module", min_length=1)
    computeConfigs: list[ComputeConfig] = Field([], description="a list of compute configurations")
    models: list[ModelComponent] = Field([], description="a list of models")
    pipelineNodes: list[PipelineNode] = Field([], description="a list of nodes for the pipeline editor")
    pipelineTemplates: list[Pipeline] = Field([], description="a list of pipelines")


class Manifest(_with_keys("codebase", "context", "dependencies", "icon", "metadata", "tags", "url")):
    model_config = described(
        "an object with the app's 'name', 'displayName', 'version', 'scope' and 'components'"
    )
    name: str = Field(description="a text of small letters, digits and '-'", pattern="^[a-z0-9-]+$")
    displayName: Text = Field(description="a text")
    version: str | None = Field(None, description="a version such as '1.0.0'", pattern=r"^\d+\.\d+\.\d+$")
    scope: Literal["project", "organization", "public"] = Field(
        description="'project', 'organization' or 'public'"
    )
    description: Text | None = _optional("a text")
    attributes: _Object | None = _optional("an object of texts, by which the app is found")
    components: Components
