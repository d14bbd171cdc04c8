"""Small pipelines for the contract tests."""

import itertools
import json
import uuid

POSITION = {"position": {"x": 0, "y": 0, "z": 0}}


def port(name="item", kind="Item", **fields):
    return {"portId": str(uuid.uuid4()), "name": name, "type": kind, "displayName": name} | fields


def node(kind="storage", name=None, inputs=None, outputs=None, metadata=None, **fields):
    return {
        "id": str(uuid.uuid4()),
        "name": name or kind,
        "type": kind,
        "inputs": [port()] if inputs is None else inputs,
        "outputs": [port()] if outputs is None else outputs,
        "metadata": POSITION | (metadata or {}),
        "namespace": {"functionName": kind, "projectName": "p", "serviceName": "s"},
    } | fields


def code(name, text, inputs=None, outputs=None, **fields):
    """A code node; the text is the body of a function of the node's inputs."""
    inputs = [port()] if inputs is None else inputs
    function = name.lower().replace(" ", "_")
    arguments = ", ".join([each["name"] for each in inputs] + fields.pop("also", []))
    body = "".join(f"        {line}\n" for line in text.splitlines())
    source = (
        "import dtlpy as dl\n\n\nclass ServiceRunner(dl.BaseServiceRunner):\n    @staticmethod\n"
        f"    def {function}({arguments}):\n{body}"
    )
    made = node("code", name, inputs, outputs, **fields)
    made["config"] = {"package": {"code": source, "name": function, "type": "code"}}
    made["namespace"] = {"functionName": function, "projectName": "p"}
    return made


def connect(source, target, action=None, condition=None, output=0, into=0):
    made = {
        "src": {"nodeId": source["id"], "portId": source["outputs"][output]["portId"]},
        "tgt": {"nodeId": target["id"], "portId": target["inputs"][into]["portId"]},
        "condition": json.dumps(condition or {}),
    }
    return made | ({"action": action} if action else {})


_numbers = itertools.count(1)


def pipeline(nodes, connections=None, triggers=None, **fields):
    """A pipeline's JSON; without connections the nodes form a line, and the first one is the root."""
    if connections is None:
        connections = [connect(one, other) for one, other in itertools.pairwise(nodes)]
    starts = [{"nodeId": nodes[0]["id"], "type": "root"}]
    for started, trigger in (triggers or {}).items():
        if started == nodes[0]["id"]:
            starts[0]["trigger"] = trigger
        else:
            starts.append({"nodeId": started, "type": "trigger", "trigger": trigger})
    return {
        "name": f"flow-{next(_numbers)}",
        "nodes": nodes,
        "connections": connections,
        "startNodes": starts,
        "variables": [],
    } | fields


ITEM_CREATED = {
    "type": "Event",
    "spec": {"resource": "Item", "actions": ["Created"], "executionMode": "Once", "filter": {}},
}


def statuses(cycle):
    """The status of each node of a cycle, by its name."""
    return {each.name: each.status for each in cycle.nodes}


def executed(cycle):
    """All executions of a cycle."""
    return [each for executions in cycle.executions.values() for each in executions]


def successes(stats, node_id):
    """How often a node has succeeded, by the pipeline's statistics."""
    (counters,) = [each.counters for each in stats.node_counters if each.node_id == node_id]
    return sum(each.count for each in counters if each.status == "success")


def storage(dataset, name="data", **metadata):
    return node("storage", name, metadata={"datasetId": dataset.id} | metadata)


def label(dataset, name="Label", **metadata):
    actions = ["approved", "discard"] if metadata.get("taskType") == "qa" else ["completed", "discard"]
    metadata = {"datasetId": dataset.id} | metadata
    return node("task", name, outputs=[port(actions=actions)], metadata=metadata)


def install(project, nodes, *rest, **fields):
    return project.pipelines.create(pipeline_json=pipeline(nodes, *rest, **fields)).install()


def reread(flow, cycle):
    return flow.pipeline_executions.get(cycle.id)


def run(flow, inputs=None, **options):
    """Execute a pipeline and see how far its cycle comes by itself: the answer shows only how it began."""
    begun = flow.execute(execution_input=inputs, **options)
    assert begun.status == "in-progress" and begun.in_progress()
    return reread(flow, begun)
