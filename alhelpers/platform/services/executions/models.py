"""Executions: calls of functions of services, from 'created' to their end."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from ...errors import bad_request
from ...store import Document, Store, now, signed
from ..organizations.models import ORGANIZATION
from ..services import models as services
from . import resources

CREATED = "created"
RUNNING = "in-progress"
SUCCESS = "success"
FAILED = "failed"
TERMINATED = "terminated"
# Ends from outside, after which running code must be stopped.
STOPPED = (TERMINATED, "aborted", "canceled")
ENDED = (SUCCESS, FAILED, *STOPPED, "system-failure")
STATUSES = (CREATED, RUNNING, *ENDED)
# Older entries of a longer status log are dropped.
LONGEST_LOG = 200
# Fields of a service that its executions have too.
OF_SERVICE = ("driverId", "packageId", "packageName", "packageRevision", "moduleName", "app")
# The SDK's progress calls use other words for two of the states.
SPELLINGS = {"inProgress": RUNNING, "completed": SUCCESS, "complete": SUCCESS, "error": FAILED}


def create(
    store: Store,
    function_name: str,
    inputs: Document | None,
    user: str,
    *,
    service: Document | None = None,
    project_id: str | None = None,
    pipeline: dict[str, str] | None = None,
    **fields: Any,
) -> Document:
    """Make an execution, ready to be run; without a service no worker takes it, and its maker finishes it.

    The execution belongs to the service's project, and to its model if it has one, unless they are given.
    """
    time = now()
    internal, service = not service, service or {}
    ml = (service.get("metadata") or {}).get("ml")
    entry = {"timestamp": time, "status": CREATED, "percentComplete": 0}
    execution: Document = {
        "id": store.new_id(),
        "projectId": project_id or service["projectId"],
        "orgId": ORGANIZATION["id"],
        "serviceId": service.get("id"),
        "serviceName": service.get("name"),
        "serviceVersion": service.get("version"),
        **{key: service.get(key) for key in OF_SERVICE},
        "functionName": function_name,
        "input": inputs or {},
        "resources": resources.of_inputs(inputs),
        **dict.fromkeys(("output", "triggerId", "feedbackQueue", "syncReplyTo")),
        "status": [entry],
        "statusLog": [entry],
        "latestStatus": entry,
        "duration": 0,
        "attempts": 1,
        "maxAttempts": service.get("maxAttempts") or 1,
        "toTerminate": False,
        **({"model": {key: ml.get(key) for key in ("modelId", "modelOperation")}} if ml else {}),
        **signed(user),
        **({"cause": store.cause} if store.cause else {}),
        **fields,
    }
    if pipeline is not None:
        execution["pipeline"] = pipeline
    if internal:
        execution["internal"] = True
    store.put("executions", execution)
    _call_worker(store, execution)
    return execution


def ended(execution: Document) -> bool:
    return execution["latestStatus"]["status"] in ENDED


def start(store: Store, execution: Document, replica: str | None = None) -> None:
    """Mark an execution as running; `replica` names the worker process."""
    execution["startedAt"] = now()
    log(store, execution, RUNNING, percent=0, replica=replica)


def progress(
    store: Store,
    execution: Document,
    *,
    percent: int | None = None,
    message: str | None = None,
    output: Any = None,
    action: str | None = None,
) -> None:
    """Record the progress of a running execution; `action` is the way out of the pipeline node that it chose."""
    made = {"output": output, "action": action}
    execution |= {key: value for key, value in made.items() if value is not None}
    status = execution["latestStatus"]["status"]
    log(store, execution, status if status != CREATED else RUNNING, percent=percent, message=message)


def finish(
    store: Store,
    execution: Document,
    status: str,
    *,
    output: Any = None,
    message: str | None = None,
    action: str | None = None,
    error: str | None = None,
) -> None:
    """End an execution, unless it has ended; `output` is JSON with entities as ids, `error` a stack trace."""
    if status not in ENDED:
        raise bad_request(f"an execution ends as one of {', '.join(ENDED)}, not as {status!r}")
    if ended(execution):
        return
    made = {"output": output, "action": action}
    execution |= {key: value for key, value in made.items() if value is not None}
    begun = datetime.fromisoformat(execution.get("startedAt") or execution["createdAt"])
    execution["duration"] = round((datetime.now(UTC) - begun).total_seconds(), 3)
    percent = 100 if status == SUCCESS else None
    log(store, execution, status, percent=percent, message=message, error=error)
    store.emit("Execution", "Finished", execution["id"], status=status)
    if status in STOPPED:
        store.emit("Execution", "Stopped", execution["id"])


def restart(store: Store, execution: Document, message: str | None = None) -> None:
    """Reset an execution, under the same id; its status log goes on."""
    execution |= {"toTerminate": False, "output": None, "duration": 0}
    execution["attempts"] += 1
    execution.pop("action", None)
    execution.pop("startedAt", None)
    log(store, execution, CREATED, percent=0, message=message)
    _call_worker(store, execution)


def _call_worker(store: Store, execution: Document) -> None:
    service = None if execution.get("internal") else execution["serviceId"]
    store.emit("Execution", "Created", execution["id"], service=service)


def log(
    store: Store,
    execution: Document,
    status: str,
    *,
    percent: int | None = None,
    message: str | None = None,
    error: str | None = None,
    replica: str | None = None,
) -> None:
    """Add an entry to an execution's status log, and write the execution."""
    if percent is None:
        percent = execution["latestStatus"].get("percentComplete", 0)
    entry: Document = {"timestamp": now(), "status": status, "percentComplete": percent}
    if status != CREATED:
        replica = replica or execution["latestStatus"].get("replicaId")
    more = {"message": message, "error": error, "replicaId": replica}
    entry |= {key: value for key, value in more.items() if value is not None}
    execution["latestStatus"] = entry
    kept = execution["statusLog"]
    if len(kept) >= LONGEST_LOG:
        kept = [*kept[:2], *kept[3:]]
    execution["statusLog"] = [*kept, entry]
    execution["status"] = execution["statusLog"]
    execution["updatedAt"] = entry["timestamp"]
    store.put("executions", execution)


def terminate(store: Store, execution: Document) -> None:
    if not ended(execution):
        execution["toTerminate"] = True
        finish(store, execution, TERMINATED, message="terminated on request")


def rerun(store: Store, execution: Document) -> None:
    if not ended(execution):
        raise bad_request(f"execution {execution['id']} has not ended: terminate it first, or wait for it")
    if execution.get("internal"):
        raise bad_request(
            f"execution {execution['id']} is a step of a pipeline: rerun the pipeline's cycle instead"
        )
    store.row("services", execution["serviceId"])
    restart(store, execution, "run again on request")


def check_function(store: Store, service: Document, name: str) -> None:
    """Refuse a function that the service's module does not declare."""
    module = services.module_of(services.package_of(store, service), service["moduleName"])
    names = [each.get("name") for each in module.get("functions") or []]
    # Every runner answers 'ping'; a model adapter inherits its functions, declared or not.
    if names and name not in (*names, "ping") and not service["metadata"].get("ml"):
        raise bad_request(
            f"service {service['name']!r} has no function {name!r}; its module declares {names}"
        )


def item_input(store: Store, service: Document, name: str) -> str:
    """Return the name of a function's argument for the item, when it runs for each item of a query."""
    module = services.module_of(services.package_of(store, service), service["moduleName"])
    function = services.function_of(module, name) or {}
    inputs = [each for each in function.get("input") or [] if each.get("type") in ("Item", "Item[]")]
    return inputs[0]["name"] if inputs else "item"


def waiting(store: Store) -> Iterable[Document]:
    """Iterate over the executions that wait for a worker, oldest first."""
    for row in store.find("executions", status=CREATED):
        execution = store.parsed(row)
        if not execution.get("internal"):
            yield execution


def of_cycle(store: Store, project_id: str, cycle_id: str) -> list[Document]:
    """List the executions of one run of a pipeline, oldest first."""
    return store.find_all("executions", projectId=project_id, cycle=cycle_id)


def log_sources(store: Store, body: Document) -> Document:
    """Return the services whose logs a request asks for, and whether all executions in it have ended."""
    service_id, model_id = body.get("serviceId"), body.get("modelId")
    asked = body.get("executionId") or []
    asked = [asked] if isinstance(asked, str) else asked
    if service_id is not None:
        found = [store.row("services", str(service_id)).id]
    elif model_id is not None:
        project_id = store.get("models", str(model_id))["projectId"]
        found = [
            each["id"]
            for each in services.of_model(store, project_id, str(model_id), body.get("modelOperation"))
        ]
    else:
        raise bad_request("a log needs 'serviceId' or 'modelId'")
    executions = [each for asked_id in asked for each in store.find_all("executions", id=str(asked_id))]
    return {"services": found, "ended": bool(executions) and all(map(ended, executions))}
