"""Routes of executions, and the query that lists what services are made of."""

from ...api import Call, Raw, Route, fetch, one, paged
from ...errors import bad_request, not_emulated
from ...events import Event
from ...query import everything, search
from ...store import Document, is_id
from ...validation import require
from ..datasets import models as stored
from ..exports import models as commands
from . import models, resources

QUERIED = ("executions", "services", "packages", "triggers")
# The largest number of executions that one request may make.
BATCH = 1000


def create(call: Call) -> Raw:
    """Call a function of a service: once, or once for each item of a query."""
    service = call.store.get("services", call.params["service_id"])
    body = require(call.body)
    name = body.get("functionName") or "run"
    models.check_function(call.store, service, name)
    if body.get("batch") is not None:
        return _create_batch(call, service, name, require(body["batch"]))
    inputs = body.get("input")
    if not isinstance(inputs, dict | None):
        raise bad_request(f"'input' must be an object with the function's arguments, got {inputs!r}")
    project_id = body.get("projectId") or service["projectId"]
    call.store.row("projects", project_id)
    execution = _call_function(call, service, name, inputs, project_id)
    return one(call, "executions", execution["id"])


def _call_function(
    call: Call, service: Document, name: str, inputs: Document | None, project_id: str
) -> Document:
    return models.create(
        call.store,
        project_id=project_id,
        user=call.user,
        function_name=name,
        inputs=inputs,
        service=service,
        **models.ml_fields(service),
    )


def _create_batch(call: Call, service: Document, name: str, batch: Document) -> Raw:
    query, extra = require(batch.get("query")), batch.get("args") or {}
    datasets = require(query.get("context") or {}).get("datasets") or []
    if not datasets:
        # All datasets of the project but the system's own.
        system = stored.binaries(call.store, service["projectId"])["id"]
        rows = call.store.find("datasets", projects=service["projectId"], id__ne=system)
        datasets = [row.id for row in rows]
    rows = [
        row for dataset_id in datasets for row in everything(call.store, "items", query, datasetId=dataset_id)
    ]
    if len(rows) > BATCH:
        raise bad_request(f"the query finds {len(rows)} items; one request makes at most {BATCH} executions")
    port = models.item_input(call.store, service, name)
    require(extra)
    for row in rows:
        inputs = extra | {port: {"item_id": row.id, "dataset_id": row.scope}}
        _call_function(call, service, name, inputs, service["projectId"])
    return commands.finished(call, "CreateExecutions", {"serviceId": service["id"], "count": len(rows)})


def update(call: Call) -> Raw:
    """Change an execution's output, or ask for its end."""
    execution = call.store.get("executions", call.params["execution_id"])
    body = require(call.body)
    if body.get("toTerminate") and not models.ended(execution):
        models.terminate(call.store, execution)
    if body.get("output") is not None:
        execution["output"] = body["output"]
        call.store.put("executions", execution)
    return one(call, "executions", execution["id"])


def progress(call: Call) -> Raw:
    """Report the progress of an execution that no worker of the platform runs."""
    execution = call.store.get("executions", call.params["execution_id"])
    body = require(call.body)
    status = models.SPELLINGS.get(str(body.get("status")), body.get("status") or models.RUNNING)
    if status not in models.STATUSES:
        raise bad_request(f"unknown execution status {status!r}; known: {', '.join(models.STATUSES)}")
    percent, message, output = body.get("percentComplete"), body.get("message"), body.get("output")
    if status in models.ENDED and not models.ended(execution):
        models.finish(call.store, execution, status, output=output, message=message)
    else:
        if output is not None:
            execution["output"] = output
        models.log(call.store, execution, status, percent=percent, message=message)
    return one(call, "executions", execution["id"])


def terminate(call: Call) -> Raw:
    execution = call.store.get("executions", call.params["execution_id"])
    models.terminate(call.store, execution)
    return one(call, "executions", execution["id"])


def attempt(call: Call) -> int:
    execution = call.store.get("executions", call.params["execution_id"])
    execution["attempts"] += 1
    call.store.put("executions", execution)
    return execution["attempts"]


def rerun(call: Call) -> Raw:
    execution = call.store.get("executions", call.params["execution_id"])
    models.rerun(call.store, execution)
    return one(call, "executions", execution["id"])


def rerun_batch(call: Call) -> Raw:
    body = require(call.body)
    rows = everything(call.store, "executions", {"filter": body.get("query")})
    executions = [call.store.get("executions", row.id) for row in rows]
    again = [each for each in executions if models.ended(each) and not each.get("internal")]
    for execution in again:
        models.rerun(call.store, execution)
    return commands.finished(call, "RerunExecutions", {"count": len(again)})


def query_faas(call: Call) -> Raw:
    body = require(call.body)
    kind = body.get("resource")
    if kind not in QUERIED:
        raise not_emulated(f"queries for {kind!r}; known: {', '.join(QUERIED)}")
    return paged(call, kind, search(call.store, kind, body))


def query_resources(call: Call) -> Document:
    return resources.query(call.store, require(call.body))


def command(call: Call) -> Raw:
    if not is_id(call.params["command_id"]):
        raise not_emulated(f"commands/faas/{call.params['command_id']}")
    return one(call, "commands", call.params["command_id"])


def stop_all(call: Call, event: Event) -> None:
    """Stop the executions of a deleted service."""
    for execution in call.store.find_all("executions", serviceId=event.id):
        if not models.ended(execution):
            models.terminate(call.store, execution)


ROUTES = [
    Route("POST", "/query/faas", query_faas),
    Route("POST", "/executions/rerun", rerun_batch),
    Route("POST", "/executions/resource/query", query_resources),
    Route("POST", "/executions/{service_id}", create),
    Route("GET", "/executions/{execution_id}", fetch("executions", "execution_id")),
    Route("PATCH", "/executions/{execution_id}", update),
    Route("POST", "/executions/{execution_id}/attempts", attempt),
    Route("POST", "/executions/{execution_id}/progress", progress),
    Route("POST", "/executions/{execution_id}/rerun", rerun),
    Route("POST", "/executions/{execution_id}/terminate", terminate),
    Route("GET", "/commands/faas/{command_id}", command),
]
LISTENERS = {("Service", "Deleted"): stop_all}
