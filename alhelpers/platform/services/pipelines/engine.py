"""Cycles: one run of a pipeline each. An execution that ends moves its cycle on, in the same transaction.

A crash therefore leaves no half step: either an execution has ended and the next ones exist, or neither. Nothing runs
between requests, so a restart has nothing to make up for.
"""

import json
from collections.abc import Iterable
from typing import Any

from ... import dql
from ...errors import ApiError, bad_request
from ...store import Document, Store, created, now
from ...validation import check_ids
from ..executions import models as executions
from . import graph, nodes, values

INSTALLED = "Installed"
PENDING, RUNNING, SUCCESS, FAILED, TERMINATED = "pending", "in-progress", "success", "failed", "terminated"
FAILURES = (FAILED, "aborted", "canceled", "system-failure")
MAX_FAN_OUT = 1000
# Fields of a cycle that callers do not see.
PRIVATE = ("counts", "forgiven", "waiting", "held", "input", "startNodeId", "broken")

FROM_NODES, FROM_FAILED, FROM_BEGINNING = "startFromNodes", "startFromFailedExecutions", "startFromBeginning"
RERUN_METHODS = (FROM_NODES, FROM_FAILED, FROM_BEGINNING)


# ------------------------------------------------------------------------------------------------------ beginning


def begin(
    store: Store,
    pipeline: Document,
    user: str,
    *,
    inputs: Document,
    node_id: str | None = None,
    trigger_id: str | None = None,
    test: bool = False,
    collect: bool = False,
    refusal: str | None = None,
) -> Document:
    """Start a cycle at a node (by default the root) with its inputs by name; nodes before it stay pending.

    With `collect` a paused pipeline takes it for later. With a `refusal` the cycle fails at once, for this reason.
    """
    if pipeline["status"] != INSTALLED and not collect:
        raise bad_request(
            f"pipeline {pipeline['name']!r} is not installed (it is {pipeline['status']}):"
            " start it with pipeline.install()"
        )
    node = graph.node_by_id(pipeline, node_id or graph.root_id(pipeline) or "")
    if node is None:
        raise bad_request(f"pipeline {pipeline['name']!r} has no node {node_id!r}")
    cycle = {
        "id": store.new_id(),
        "pipelineId": pipeline["id"],
        "projectId": pipeline["projectId"],
        "status": PENDING,
        "nodes": [_snapshot(each) for each in graph.nodes(pipeline)],
        "maxAttempts": 1,
        "testMode": test,
        "triggerId": trigger_id,
        **created(user),
        "startNodeId": node["id"],
        "input": inputs,
        "counts": {},
        "forgiven": {},
        "waiting": {},
        "held": [],
        "broken": None,
    }
    if refusal:
        cycle |= {"broken": {"executionId": None, "nodeId": node["id"]}, "errors": [refusal]}
    else:
        _run(store, pipeline, cycle, node, inputs)
    _update_status(store, cycle)
    return cycle


def _snapshot(node: Document) -> Document:
    shown = {key: node.get(key) for key in ("id", "name", "type", "namespace", "projectId", "metadata")}
    return shown | {"ports": [*graph.inputs(node), *graph.outputs(node)], "status": PENDING}


def _run(store: Store, pipeline: Document, cycle: Document, node: Document, inputs: Document) -> None:
    """Run a node on these inputs; while the pipeline is paused they are held."""
    if pipeline["status"] != INSTALLED:
        cycle["held"].append({"nodeId": node["id"], "inputs": inputs})
        return
    complete = values.filled(pipeline, node, inputs)
    execution = nodes.launch(store, pipeline, cycle, node, complete)
    _count(cycle, execution["pipeline"]["nodeId"], RUNNING, 1)


# ------------------------------------------------------------------------------------------------------ advancing


def finished(store: Store, execution_id: str) -> None:
    """Move a cycle on after one of its executions has ended."""
    execution = store.find_one("executions", id=execution_id) or {}
    link = execution.get("pipeline") or {}
    cycle = store.find_one("cycles", id=link.get("executionId"))
    pipeline = store.find_one("pipelines", id=link.get("id"))
    if cycle is None or pipeline is None:
        return
    status = execution["latestStatus"]["status"]
    _count(cycle, link["nodeId"], RUNNING, -1)
    _count(cycle, link["nodeId"], status, 1)
    if status == SUCCESS and cycle["status"] != TERMINATED:
        pass_on(store, pipeline, cycle, execution)
    _update_status(store, cycle)


def pass_on(store: Store, pipeline: Document, cycle: Document, execution: Document) -> None:
    """Pass the output of an execution on to the next nodes."""
    node = graph.node_by_id(pipeline, execution["pipeline"]["nodeId"])
    if node is None:
        return  # removed from the pipeline while it ran
    found = values.by_port(graph.outputs(node), execution["output"])
    for connection in graph.leaving(pipeline, node["id"]):
        wanted = connection.get("action")
        if wanted and not nodes.same_action(wanted, execution.get("action")):
            continue
        target = graph.node_by_id(pipeline, connection["tgt"]["nodeId"])
        source_port = graph.port_by_id(graph.outputs(node), connection["src"]["portId"])
        port = graph.port_by_id(graph.inputs(target or {}), connection["tgt"]["portId"])
        if target is None or port is None or source_port is None:
            continue
        value = found.get(source_port["portId"])
        value = values.default(pipeline, port) if value is None else value
        if value is None:
            missing = f"nothing for {port['name']!r} of {graph.label(target)}"
            _fail_cycle(cycle, execution, f"{graph.label(node)} returned {missing}")
            continue
        arriving = values.spread(source_port, port, value)
        if len(arriving) > MAX_FAN_OUT:
            many = f"{len(arriving)} values, more than {MAX_FAN_OUT}"
            _fail_cycle(cycle, execution, f"{graph.label(node)} returned {many}")
            continue
        passed = [each for each in arriving if _passes_filter(store, connection, port, each)]
        if passed:
            taken = {"values": passed, "list": arriving is value}
            _deliver(store, pipeline, cycle, execution, target, port, taken)


def _passes_filter(store: Store, connection: Document, port: Document, value: Any) -> bool:
    """Return whether a connection's filter matches a value; of an entity it tests the document."""
    condition = graph.condition(connection)
    if condition is None:
        return True
    kind = graph.single(port["type"])
    document = value
    if kind in values.ID_KEYS:
        document = store.find_one(f"{kind.lower()}s", id=values.entity_id(kind, value)) or {}
    return dql.compile_filter(dql.parse(condition))(document)


def _deliver(
    store: Store,
    pipeline: Document,
    cycle: Document,
    execution: Document,
    node: Document,
    port: Document,
    many: Document,
) -> None:
    """Pass values to an in-port. A node with several connected in-ports runs when each of them has some.

    It runs once for each value of a list: a single value of another port is repeated, lists must have one length.
    """
    needed = graph.connected_inputs(pipeline, node)
    names = {each["portId"]: each["name"] for each in graph.inputs(node)}
    # In a loop a port may get its second values before another its first: they queue, and are taken in turn.
    queues = cycle["waiting"].setdefault(node["id"], {})
    queues.setdefault(port["portId"], []).append(many)
    if not all(queues.get(each) for each in needed):
        return
    taken = {each: queues[each].pop(0) for each in needed}
    lengths = {len(each["values"]) for each in taken.values() if each["list"]} or {1}
    if len(lengths) > 1:
        reason = f"{graph.label(node)} got lists of {sorted(lengths)} values, which do not go together"
        _fail_cycle(cycle, execution, reason)
        return
    for place in range(*lengths):
        chosen = {each: found["values"][place if found["list"] else 0] for each, found in taken.items()}
        _run(store, pipeline, cycle, node, {names[each]: value for each, value in chosen.items()})


# --------------------------------------------------------------------------------------------------------- status


def _count(cycle: Document, node_id: str, status: str, step: int) -> None:
    counts = cycle["counts"].setdefault(node_id, {})
    counts[status] = counts.get(status, 0) + step
    if counts[status] <= 0:
        del counts[status]


def _fail_cycle(cycle: Document, execution: Document, reason: str) -> None:
    """Fail a cycle because of the output of an execution that succeeded."""
    cycle["broken"] = {"executionId": execution["id"], "nodeId": execution["pipeline"]["nodeId"]}
    cycle["errors"] = [*cycle.get("errors", []), reason]


def _update_status(store: Store, cycle: Document) -> None:
    """Compute the status of a cycle and its nodes from their executions, and write it."""
    before = cycle["status"]
    found = set()
    for node in cycle["nodes"]:
        forgiven = cycle["forgiven"].get(node["id"], {})
        counts = cycle["counts"].get(node["id"], {})
        present = {status for status, count in counts.items() if count > forgiven.get(status, 0)}
        node["status"] = _overall(present) if present else PENDING
        found |= present
    if cycle["held"]:
        found.add(RUNNING if found else PENDING)
    if cycle["broken"]:
        found.add(FAILED)
    if before != TERMINATED:
        cycle["status"] = _overall(found) if found else SUCCESS
    cycle["updatedAt"] = now()
    store.put("cycles", cycle)
    if cycle["status"] != before:
        store.emit("Cycle", "StatusChanged", cycle["id"], status=cycle["status"])


def _overall(statuses: Iterable[str]) -> str:
    statuses = set(statuses)
    for failure in FAILURES:
        if failure in statuses:
            return FAILED
    for status in (RUNNING, PENDING, TERMINATED):
        if status in statuses:
            return status
    return SUCCESS


def restarted(store: Store, execution_id: str) -> None:
    execution = store.find_one("executions", id=execution_id) or {}
    log = [entry["status"] for entry in execution.get("statusLog", [])]
    if log.count(executions.CREATED) < 2:
        return  # a new execution was counted when its node made it
    link = execution.get("pipeline") or {}
    cycle = store.find_one("cycles", id=link.get("executionId"))
    if cycle is None:
        return
    before = log[len(log) - 2 - log[::-1].index(executions.CREATED)]
    _count(cycle, link["nodeId"], RUNNING if before == executions.CREATED else before, -1)
    _count(cycle, link["nodeId"], RUNNING, 1)
    if cycle["status"] == TERMINATED:
        cycle["status"] = RUNNING
    _update_status(store, cycle)


def pass_on_again(store: Store, execution: Document, action: str) -> None:
    """Pass on an item whose status in a task was set again, if the task's node is repeatable."""
    link = execution["pipeline"]
    cycle = store.find_one("cycles", id=link["executionId"])
    pipeline = store.find_one("pipelines", id=link["id"])
    node = graph.node_by_id(pipeline or {}, link["nodeId"])
    if cycle is None or pipeline is None or node is None:
        return
    if (node.get("metadata") or {}).get("repeatable", True) is False:
        return
    execution["action"] = action
    store.put("executions", execution)
    if cycle["status"] != TERMINATED:
        pass_on(store, pipeline, cycle, execution)
        _update_status(store, cycle)


# --------------------------------------------------------------------------------------- pausing, ending, again


def resume(store: Store, pipeline: Document) -> None:
    """Run the nodes whose inputs were held while the pipeline was paused."""
    for row in list(store.find("cycles", pipelineId=pipeline["id"])):
        if not store.parsed(row)["held"]:
            continue
        cycle = json.loads(row.doc)
        held, cycle["held"] = cycle["held"], []
        for each in held:
            node = graph.node_by_id(pipeline, each["nodeId"])
            if node is not None:
                _run(store, pipeline, cycle, node, each["inputs"])
        _update_status(store, cycle)


def terminate_all(store: Store, pipeline_id: str) -> None:
    for cycle in store.find_all("cycles", pipelineId=pipeline_id, status=[PENDING, RUNNING]):
        store.put("cycles", cycle | {"status": TERMINATED, "held": [], "waiting": {}})
        _end(store, executions.of_cycle(store, cycle["projectId"], cycle["id"]), "was terminated")


def _end(store: Store, done: list[Document], reason: str) -> None:
    for execution in done:
        if not executions.ended(execution):
            executions.finish(store, execution, TERMINATED, message=f"the pipeline's cycle {reason}")


def rerun(store: Store, pipeline: Document, cycle: Document, method: str, start_ids: list[str]) -> None:
    """Run a cycle again: all of it, its failed executions (under their own ids), or from some nodes on."""
    if pipeline["status"] != INSTALLED:
        raise bad_request(
            f"pipeline {pipeline['name']!r} is not installed: start it before its cycles run again"
        )
    done = executions.of_cycle(store, cycle["projectId"], cycle["id"])
    broken, cycle["broken"] = cycle["broken"], None
    cycle.pop("errors", None)
    if method == FROM_FAILED:
        again = [
            each
            for each in done
            if _is_failed(cycle, each) or each["id"] == (broken or {}).get("executionId")
        ]
        cycle["status"] = RUNNING
        store.put("cycles", cycle)
        for execution in again:
            executions.restart(store, execution, "the pipeline's cycle runs again")
            nodes.relaunched(store, pipeline, execution)
        if not again:
            _update_status(store, cycle)
        return  # the events of the executions bring the cycle up to date
    if method == FROM_BEGINNING:
        start_ids = [cycle["startNodeId"]]
    node_ids = graph.below(pipeline, set(start_ids))
    _end(store, [each for each in done if each["pipeline"]["nodeId"] in node_ids], "runs again")
    cycle["held"] = [each for each in cycle["held"] if each["nodeId"] not in node_ids]
    for node_id in node_ids:
        forgiven = dict(cycle["counts"].get(node_id, {}))
        # Executions that were running have just been terminated, and are counted so after this transaction.
        forgiven[TERMINATED] = forgiven.get(TERMINATED, 0) + forgiven.pop(RUNNING, 0)
        cycle["forgiven"][node_id] = forgiven
        cycle["waiting"].pop(node_id, None)
    cycle["status"] = RUNNING
    for node_id in start_ids:
        node = graph.node_by_id(pipeline, node_id)
        if node is None:
            raise bad_request(f"pipeline {pipeline['name']!r} has no node {node_id!r}")
        first = [each["input"] for each in done if each["pipeline"]["nodeId"] == node_id]
        for inputs in [cycle["input"]] if method == FROM_BEGINNING else first:
            _run(store, pipeline, cycle, node, inputs)
    _update_status(store, cycle)


def _is_failed(cycle: Document, execution: Document) -> bool:
    node_id, status = execution["pipeline"]["nodeId"], execution["latestStatus"]["status"]
    return status in FAILURES and not cycle["forgiven"].get(node_id, {}).get(status)


def check_method(method: Any, start_ids: Any, pipeline: Document) -> tuple[str, list[str]]:
    method = method or FROM_BEGINNING
    if method not in RERUN_METHODS:
        raise bad_request(f"cycles run again by {', '.join(RERUN_METHODS)}; got {method!r}")
    start_ids = check_ids("startNodeIds", start_ids or [])
    if method == FROM_NODES and not start_ids:
        raise bad_request(f"to run again from nodes, name them: {FROM_NODES} needs 'startNodeIds'")
    for node_id in start_ids:
        if graph.node_by_id(pipeline, node_id) is None:
            raise ApiError(404, f"pipeline {pipeline['name']!r} has no node {node_id!r}")
    return method, start_ids
