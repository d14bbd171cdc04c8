"""Routes of executions, and the query that lists what services are made of."""

from ...api import Call, Raw, Route, one, paged
from ...errors import bad_request, not_emulated
from ...events import Event
from ...query import documents, search
from ...resources import Resource
from ...store import Document
from ...validation import require
from ..datasets import models as datasets
from ..exports import models as commands
from ..services.routes import SERVICES
from . import models, resources

QUERIED = ("executions", "services", "packages", "triggers")
# The largest number of executions that one request may make.
BATCH = 1000


def create(call: Call, service: Document) -> Raw:
    """Call a function of a service: once, or once for each item of a query."""
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
    execution = models.create(call.store, name, inputs, call.user, service=service, project_id=project_id)
    return one(call, "executions", execution["id"])


def _create_batch(call: Call, service: Document, name: str, batch: Document) -> Raw:
    query, extra = require(batch.get("query")), batch.get("args") or {}
    rows = datasets.items_of(call.store, service["projectId"], query)
    if len(rows) > BATCH:
        raise bad_request(f"the query finds {len(rows)} items; one request makes at most {BATCH} executions")
    port = models.item_input(call.store, service, name)
    require(extra)
    for row in rows:
        inputs = extra | {port: {"item_id": row.id, "dataset_id": row.scope}}
        models.create(call.store, name, inputs, call.user, service=service)
    return commands.finished(call, "CreateExecutions", {"serviceId": service["id"], "count": len(rows)})


def update(call: Call, execution: Document, body: Document) -> None:
    """Change an execution's output, or ask for its end."""
    if body.get("toTerminate") and not models.ended(execution):
        models.terminate(call.store, execution)
    if body.get("output") is not None:
        execution["output"] = body["output"]
        call.store.put("executions", execution)


def progress(call: Call, execution: Document) -> None:
    """Report the progress of an execution that no worker of the platform runs."""
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


def attempt(call: Call, execution: Document) -> int:
    execution["attempts"] += 1
    call.store.put("executions", execution)
    return execution["attempts"]


def rerun_batch(call: Call) -> Raw:
    body = require(call.body)
    executions = documents(call.store, "executions", {"filter": body.get("query")})
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


def stop_all(call: Call, event: Event) -> None:
    for execution in call.store.find_all("executions", serviceId=event.id):
        if not models.ended(execution):
            models.terminate(call.store, execution)


EXECUTIONS = Resource("executions", "/executions", update=update)
ROUTES = [
    Route("POST", "/query/faas", query_faas),
    Route("POST", "/executions/rerun", rerun_batch),
    Route("POST", "/executions/resource/query", lambda call: resources.query(call.store, require(call.body))),
    Route("POST", "/executions/{id}", SERVICES.doing(create)),
    *EXECUTIONS.routes,
    EXECUTIONS.at("POST", "attempts", attempt),
    EXECUTIONS.at("POST", "progress", progress),
    EXECUTIONS.at("POST", "rerun", lambda call, execution: models.rerun(call.store, execution)),
    EXECUTIONS.at("POST", "terminate", lambda call, execution: models.terminate(call.store, execution)),
]
LISTENERS = {("Service", "Deleted"): stop_all}
