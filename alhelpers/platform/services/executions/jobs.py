"""What the dispatcher of workers asks and tells the state, each as one transaction."""

from typing import Any

from ...api import Call
from ...errors import ApiError
from ...store import Store
from ..services import models as services
from . import models

# A model is trained and scored in a process of its own: the SDK's adapter leaves files that the next run would read.
SINGLE_USE = ("train", "evaluate")


def recover(call: Call) -> list[tuple[str, str]]:
    """Put executions that an earlier server was running back to their beginning; list (service, execution) to run."""
    for row in list(call.store.find("executions", status=models.RUNNING)):
        execution = call.store.get("executions", row.id)
        if not execution.get("internal"):
            models.restart(call.store, execution, "the platform was restarted while this ran: run again")
    return [(each["serviceId"], each["id"]) for each in models.waiting(call.store)]


def describe(call: Call, service_id: str) -> dict[str, Any] | None:
    """Give what a worker needs to know of its service; None while the service rests.

    Raises
    ------
    ApiError
        When the service or its package is gone.
    """
    service = call.store.get("services", service_id)
    if not service["active"]:
        return None
    package = services.package_of(call.store, service)
    return {
        "service": service,
        "package": package,
        "module": services.module_of(package, service["moduleName"]),
        "codebase": _codebase(call.store, package),
        "concurrency": service["runtime"]["concurrency"],
        "singleUse": (service["metadata"].get("ml") or {}).get("modelOperation") in SINGLE_USE,
    }


def _codebase(store: Store, package: dict[str, Any]) -> dict[str, Any]:
    codebase = package.get("codebase") or {}
    kind, name = codebase.get("type"), package.get("name")
    if kind == "code":
        return {"kind": "text", "text": codebase["code"]}
    if kind != "item":
        return {"kind": "installed", "why": f"package {name!r} has {f'a {kind}' if kind else 'no'} codebase"}
    for row in store.find("items", id=codebase.get("itemId")):
        if row.blob is not None:
            return {"kind": "zip", "path": str(store.blob_path(row.blob))}
    why = f"the item {codebase.get('itemId')!r} with the codebase of package {name!r} was deleted"
    return {"kind": "installed", "why": why}


def begin(call: Call, execution_id: str) -> dict[str, Any] | None:
    """Mark an execution as running and give its job; None when it is not to be run any more."""
    for row in call.store.find("executions", id=execution_id):
        execution = call.store.get("executions", row.id)
        if execution["latestStatus"]["status"] == models.CREATED:
            models.start(call.store, execution)
            service = call.store.get("services", execution["serviceId"])
            return execution | {"executionTimeout": service["executionTimeout"]}
    return None


def note(call: Call, message: dict[str, Any]) -> None:
    """Write down the progress that a worker tells of, while the execution runs."""
    execution = _running(call.store, message["id"])
    if execution is not None:
        fields = {key: message.get(key) for key in ("percent", "message", "output", "action")}
        models.progress(call.store, execution, **fields)


def end(call: Call, message: dict[str, Any]) -> None:
    """Write down how an execution ended; a result that comes too late changes nothing."""
    execution = _running(call.store, message["id"])
    if execution is not None:
        fields = {key: message.get(key) for key in ("output", "message", "error")}
        models.finish(call.store, execution, message["status"], **fields)


def abandon(call: Call, execution_ids: list[str], message: str) -> None:
    """Fail executions without telling anyone: the last way out, when those who are told fail themselves."""
    for execution in _open(call.store, execution_ids):
        models.log(call.store, execution, models.FAILED, message=message)


def fail(call: Call, execution_ids: list[str], message: str, error: str | None = None) -> None:
    """Fail executions that wait or run."""
    for execution in _open(call.store, execution_ids):
        models.finish(call.store, execution, models.FAILED, message=message, error=error)


def lost(call: Call, execution_ids: list[str], message: str) -> None:
    """Settle what ran on a worker that died: run again where the service says so, fail otherwise."""
    for execution in _open(call.store, execution_ids):
        try:
            again = call.store.get("services", execution["serviceId"])["onReset"] == "rerun"
        except ApiError:
            again = False
        if again and execution["attempts"] < execution["maxAttempts"]:
            models.restart(call.store, execution, f"{message}: run again")
        else:
            models.finish(call.store, execution, models.FAILED, message=message)


def again(call: Call, execution_ids: list[str], message: str) -> None:
    """Run executions again that lost their worker through no fault of their own."""
    for execution in _open(call.store, execution_ids):
        models.restart(call.store, execution, message)


def _running(store: Store, execution_id: str) -> dict[str, Any] | None:
    for execution in _open(store, [execution_id]):
        if execution["latestStatus"]["status"] == models.RUNNING:
            return execution
    return None


def _open(store: Store, execution_ids: list[str]) -> list[dict[str, Any]]:
    found = []
    for execution_id in execution_ids:
        for row in store.find("executions", id=execution_id):
            execution = store.get("executions", row.id)
            if not models.ended(execution):
                found.append(execution)
    return found
