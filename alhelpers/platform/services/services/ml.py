"""The services of models: training, evaluating, deploying, predicting, embedding, as executions of a model's code."""

import re
from typing import Any

from ...errors import bad_request, not_emulated
from ...store import Document, Store, now
from ...validation import check_ids
from ..executions import models as executions
from ..models import models
from . import models as services

TRAIN, EVALUATE, DEPLOY, PREDICT, EMBED = "train", "evaluate", "deploy", "predict", "embed"
# One thread a model: adapters are not thread-safe.
RUNTIME = services.RUNTIME | {"concurrency": 1}


def train(store: Store, model: Document, body: Document, user: str, **link: Any) -> Document:
    """Make the execution that trains a model, which becomes 'pending'; `link` holds more fields of the execution."""
    if not model.get("datasetId"):
        raise bad_request("Must provide a dataset to train model")
    store.row("datasets", model["datasetId"])
    if not model.get("labels"):
        raise bad_request("Must provide labels to train model")
    service = service_of(store, model, TRAIN, body.get("serviceConfig"), user)
    set_status(store, model, "pending", user)
    inputs = {"model": {"model_id": model["id"]}}
    return _execute(store, model, service, "train_model", inputs, user, link)


def evaluate(store: Store, model: Document, body: Document, user: str, **link: Any) -> Document:
    """Make the execution that evaluates a model on a dataset, or on the items of a query."""
    given = _part(body, "input")
    dataset_id = given.get("datasetId")
    if not isinstance(dataset_id, str):
        raise bad_request("Must provide a dataset to evaluate model: 'input.datasetId'")
    store.row("datasets", dataset_id)
    service = service_of(store, model, EVALUATE, _part(body, "config").get("serviceConfig"), user)
    inputs = {
        "model": {"model_id": model["id"]},
        "dataset": {"dataset_id": dataset_id},
        "filters": given.get("datasetQuery"),
    }
    return _execute(store, model, service, "evaluate_model", inputs, user, link)


def run_on_items(
    store: Store, model: Document, body: Document, user: str, *, operation: str, **link: Any
) -> Document:
    """Make the execution that predicts or embeds items, or the items of a query, on the deployed service."""
    service = _deployed(store, model, _part(body, "config").get("serviceId"))
    given = _part(body, "input")
    item_ids, dataset_id = given.get("itemIds"), given.get("datasetId")
    if item_ids:
        for item_id in check_ids("input.itemIds", item_ids):
            store.row("items", item_id)
        inputs: Document = {"items": [{"item_id": item_id} for item_id in item_ids]}
        return _execute(store, model, service, f"{operation}_items", inputs, user, link)
    if not isinstance(dataset_id, str):
        raise bad_request(f"Must provide 'input.itemIds' or 'input.datasetId' to {operation}")
    store.row("datasets", dataset_id)
    query = given.get("datasetQuery")
    # The SDK sends the bare condition of a filter; the adapter reads a whole query.
    if isinstance(query, dict) and "filter" not in query:
        query = {"filter": query}
    inputs = {"dataset": {"dataset_id": dataset_id}, "filters": query}
    return _execute(store, model, service, f"{operation}_dataset", inputs, user, link)


def embed_datasets(store: Store, model: Document, body: Document, user: str) -> int:
    """Make an execution for each dataset that embeds all of it."""
    if body.get("attachTrigger"):
        raise not_emulated(
            "embedding new items of a dataset by itself (attach_trigger=True); make a trigger for it"
        )
    dataset_ids = body.get("datasetIds")
    if not isinstance(dataset_ids, list) or not dataset_ids:
        raise bad_request(f"'datasetIds' must be a list of ids, got {dataset_ids!r}")
    for dataset_id in dataset_ids:
        request = {"input": {"datasetId": dataset_id}, "config": _part(body, "config")}
        run_on_items(store, model, request, user, operation=EMBED)
    return len(dataset_ids)


def deploy(
    store: Store, model: Document, body: Document, user: str, before: Document | None = None
) -> Document:
    """Make the service that predicts with a model, or take over one of another model; record it in the model."""
    if before is not None:
        undeploy(store, before, user)
    service = service_of(store, model, DEPLOY, body.get("serviceConfig"), user, before)
    deployed = model["metadata"]["system"].setdefault("deploy", {}).setdefault("services", [])
    if service["id"] not in deployed:
        deployed.append(service["id"])
    if model["status"] != "deployed":
        set_status(store, model, "deployed", user)
    else:
        store.put("models", model)
    return service


def service_of(
    store: Store, model: Document, operation: str, config: Any, user: str, before: Document | None = None
) -> Document:
    """Make or update the service for one operation of a model, which may be one of another model before."""
    if config is not None and not isinstance(config, dict):
        raise bad_request(f"'serviceConfig' must be an object, got {config!r}")
    config = {
        key: value for key, value in (config or {}).items() if key in services.SETTINGS and value is not None
    }
    package = _package(store, model)
    module = services.module_of(package, config.pop("moduleName", None) or model.get("moduleName"))
    existing = [before] if before else services.of_model(store, model["projectId"], model["id"], operation)
    app = model.get("app") or {}
    configured = services.compute_config(package, module)
    runtime = RUNTIME | (configured.get("runtime") or {}) | (config.pop("runtime", None) or {})
    params = _init_params(module, model) | config.get("initParams", {})
    return services.ensure(
        store,
        model["projectId"],
        existing[0]["name"] if existing else _free_name(store, model, operation),
        package,
        user,
        module=module["name"],
        app=store.find_one("apps", id=app.get("id")),
        metadata={"ml": {"modelId": model["id"], "modelOperation": operation}},
        **(config | {"runtime": runtime, "initParams": params}),
    )


def _package(store: Store, model: Document) -> Document:
    if not model.get("packageId"):
        raise bad_request(f"model {model['name']!r} has no package: there is no code to run it with")
    return services.package_by_id(store, model["packageId"])


def _init_params(module: Document, model: Document) -> Document:
    """Pass the model to the init inputs that take one; an adapter's is called ``model_entity``."""
    names = [each["name"] for each in module.get("initInputs") or [] if each.get("type") == "Model"]
    return {name: {"model_id": model["id"]} for name in names or ["model_entity"]}


def _free_name(store: Store, model: Document, operation: str) -> str:
    name = f"{re.sub('[^a-z0-9]+', '-', model['name'].lower()).strip('-')[:60]}-{operation}"
    taken = store.find_one("services", projectId=model["projectId"], name=name)
    return name if taken is None else f"{name}-{model['id']}"


def _deployed(store: Store, model: Document, service_id: Any) -> Document:
    deployed = (model["metadata"]["system"].get("deploy") or {}).get("services") or []
    if service_id is None and deployed:
        service_id = deployed[0]
    if not isinstance(service_id, str):
        raise bad_request(f"model {model['name']!r} has no service: deploy it before predicting or embedding")
    return store.get("services", service_id)


def _execute(
    store: Store, model: Document, service: Document, name: str, inputs: Document, user: str, link: Document
) -> Document:
    """Make the execution of a function, whose name begins with the operation."""
    about = {"modelId": model["id"], "modelOperation": name.split("_")[0]}
    own = {"project_id": model["projectId"], "model": about}
    return executions.create(store, name, inputs, user, service=service, **own, **link)


def _part(body: Document, name: str) -> Document:
    given = body.get(name)
    return given if isinstance(given, dict) else {}


def set_status(store: Store, model: Document, status: str, user: str, message: str | None = None) -> None:
    models.log_status(model, status, user, message)
    store.put("models", model | {"updatedAt": now(), "updatedBy": user})
    store.emit("Model", "statusChanged", model["id"], status=status, project=model["projectId"])


def record_result(store: Store, execution: Document, user: str) -> None:
    """Record in a model how its training or evaluation ended."""
    link = execution.get("model") or {}
    model = _model(store, link.get("modelId"))
    if model is None:
        return
    status, message = execution["latestStatus"]["status"], execution["latestStatus"].get("message")
    if link.get("modelOperation") == TRAIN:
        if status != executions.SUCCESS:
            _set_failed(store, model, message or f"the training was {status}", user)
        elif model["status"] in ("pending", "training"):
            set_status(store, model, "trained", user)
    elif link.get("modelOperation") == EVALUATE and status == executions.SUCCESS:
        dataset_id = ((execution["input"] or {}).get("dataset") or {}).get("dataset_id")
        evaluated = model["metadata"]["system"].setdefault("evaluate", {}).setdefault("datasets", [])
        if dataset_id and dataset_id not in evaluated:
            evaluated.append(dataset_id)
            store.put("models", model | {"updatedAt": now(), "updatedBy": user})


def _set_failed(store: Store, model: Document, message: str, user: str) -> None:
    """Set the status 'failed' with a message, which is missing if the adapter has set the status itself."""
    last = model["statusLogs"][-1] if model["statusLogs"] else {}
    if model["status"] == last.get("status") == "failed" and "message" not in last:
        model["statusLogs"] = [*model["statusLogs"][:-1], last | {"message": message}]
        store.put("models", model)
    else:
        set_status(store, model, "failed", user, message)


def undeploy(store: Store, service: Document, user: str) -> None:
    """Remove a deleted service from its model, which gets its former status back."""
    ml = service["metadata"].get("ml") or {}
    model = _model(store, ml.get("modelId"))
    if model is None or ml.get("modelOperation") != DEPLOY:
        return
    deploy_info = model["metadata"]["system"].get("deploy") or {}
    left = [each for each in deploy_info.get("services") or [] if each != service["id"]]
    model["metadata"]["system"]["deploy"] = deploy_info | {"services": left}
    if left or model["status"] != "deployed":
        store.put("models", model)
        return
    before = [
        entry["status"] for entry in model["statusLogs"] if entry["status"] in ("trained", "pre-trained")
    ]
    set_status(store, model, before[-1] if before else "trained", user)


def _model(store: Store, model_id: Any) -> Document | None:
    return store.find_one("models", id=model_id) if isinstance(model_id, str) else None
