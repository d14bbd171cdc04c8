"""The functions that the dispatcher of workers runs on the state, each as one transaction."""

from ...api import Call
from ...store import Document, Store
from ..services import models as services
from . import models

# A model is trained and scored in a process of its own: the SDK's adapter leaves files that the next run would read.
SINGLE_USE = ("train", "evaluate")


def recover(call: Call) -> list[tuple[str, str]]:
    """Reset the executions that an earlier server was running; list the (service, execution) pairs to run."""
    for execution in call.store.find_all("executions", status=models.RUNNING):
        if not execution.get("internal"):
            models.restart(call.store, execution, "the platform was restarted while this ran: run again")
    return [(each["serviceId"], each["id"]) for each in models.waiting(call.store)]


def worker_setup(call: Call, service_id: str) -> Document | None:
    """Return what a worker needs to run a service, or None while the service is paused."""
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


def _codebase(store: Store, package: Document) -> Document:
    codebase = package.get("codebase") or {}
    kind, name = codebase.get("type"), package.get("name")
    if kind == "code":
        return {"kind": "text", "text": codebase["code"]}
    if kind != "item":
        return {"kind": "installed", "why": f"package {name!r} has {f'a {kind}' if kind else 'no'} codebase"}
    row = store.first("items", id=codebase.get("itemId"))
    if row is not None and row.blob is not None:
        return {"kind": "zip", "path": str(store.blob_path(row.blob))}
    why = f"the item {codebase.get('itemId')!r} with the codebase of package {name!r} was deleted"
    return {"kind": "installed", "why": why}


def start(call: Call, execution_id: str, replica: str | None = None) -> Document | None:
    """Mark an execution as running and return its job, or None if it must not run any more."""
    execution = call.store.find_one("executions", id=execution_id)
    if execution is None or execution["latestStatus"]["status"] != models.CREATED:
        return None
    models.start(call.store, execution, replica)
    service = call.store.get("services", execution["serviceId"])
    return execution | {"executionTimeout": service["executionTimeout"]}


def record_progress(call: Call, message: Document) -> None:
    execution = _running(call.store, message["id"])
    if execution is not None:
        fields = {key: message.get(key) for key in ("percent", "message", "output", "action")}
        models.progress(call.store, execution, **fields)


def record_end(call: Call, message: Document) -> None:
    """Record how an execution ended; a result that comes too late changes nothing."""
    execution = _running(call.store, message["id"])
    if execution is not None:
        call.store.cause = execution.get("cause")
        fields = {key: message.get(key) for key in ("output", "message", "error")}
        models.finish(call.store, execution, message["status"], **fields)


def force_fail(call: Call, execution_ids: list[str], message: str) -> None:
    """Fail executions without an event: the last resort if a listener fails."""
    for execution in _open(call.store, execution_ids):
        models.log(call.store, execution, models.FAILED, message=message)


def fail(call: Call, execution_ids: list[str], message: str, error: str | None = None) -> None:
    for execution in _open(call.store, execution_ids):
        models.finish(call.store, execution, models.FAILED, message=message, error=error)


def settle_lost(call: Call, execution_ids: list[str], message: str) -> None:
    """Settle the executions of a worker that died: run again if the service is set so, fail otherwise."""
    for execution in _open(call.store, execution_ids):
        service = call.store.find_one("services", id=execution["serviceId"]) or {}
        if service.get("onReset") == "rerun" and execution["attempts"] < execution["maxAttempts"]:
            models.restart(call.store, execution, f"{message}: run again")
        else:
            models.finish(call.store, execution, models.FAILED, message=message)


def run_again(call: Call, execution_ids: list[str], message: str) -> None:
    """Run executions again that lost their worker for another reason."""
    for execution in _open(call.store, execution_ids):
        models.restart(call.store, execution, message)


def cause_of(store: Store, execution_ids: list[str]) -> Document | None:
    """Return which triggers have led to one of some executions, or None if none has."""
    found = (store.find_one("executions", id=execution_id) or {} for execution_id in execution_ids)
    return next((execution["cause"] for execution in found if "cause" in execution), None)


def _running(store: Store, execution_id: str) -> Document | None:
    for execution in _open(store, [execution_id]):
        if execution["latestStatus"]["status"] == models.RUNNING:
            return execution
    return None


def _open(store: Store, execution_ids: list[str]) -> list[Document]:
    found = [store.find_one("executions", id=execution_id) for execution_id in execution_ids]
    return [execution for execution in found if execution is not None and not models.ended(execution)]
