"""Nodes of models: training, evaluating, predicting, embedding, as the models' own operations do it."""

from ...errors import bad_request
from ...store import Document, Store
from ..services import ml
from . import graph, values

OPERATIONS = (ml.TRAIN, ml.EVALUATE, ml.PREDICT, ml.EMBED)
DEPLOYED = (ml.PREDICT, ml.EMBED)


def operation_of(node: Document) -> str:
    """Return what a node does with its model; 'predict_items' is the same as 'predict'."""
    name = str((node.get("namespace") or {}).get("functionName") or "")
    operation = name.split("_")[0]
    if operation not in OPERATIONS:
        raise bad_request(
            f"node {graph.label(node)!r}: a model can {', '.join(OPERATIONS)}; 'functionName' is {name!r}"
        )
    return operation


def launch(
    store: Store, pipeline: Document, node: Document, inputs: Document, link: Document, user: str
) -> Document:
    operation = operation_of(node)
    model = _model(store, pipeline, node, inputs)
    if operation == ml.TRAIN:
        return ml.train(store, model, {}, user, pipeline=link)
    if operation == ml.EVALUATE:
        dataset_id = values.entity_id("Dataset", inputs.get("dataset"))
        given = {"datasetId": dataset_id, "datasetQuery": inputs.get("filters")}
        return ml.evaluate(store, model, {"input": given}, user, pipeline=link)
    service = ml.deploy(store, model, _settings(node), user)
    body = {"input": {"itemIds": _items(node, inputs)}, "config": {"serviceId": service["id"]}}
    return ml.run_on_items(store, model, body, user, operation=operation, pipeline=link)


def prepare(store: Store, pipeline: Document, node: Document, user: str) -> None:
    """Deploy the model of a node that predicts or embeds; a service made for the node goes on with its next model."""
    if operation_of(node) in DEPLOYED and "model" not in {port["name"] for port in graph.inputs(node)}:
        model, ids = _model(store, pipeline, node, {}), pipeline.setdefault("serviceIds", {})
        known = (model["metadata"]["system"].get("deploy") or {}).get("services") or []
        before = store.find_one("services", id=ids.get(node["id"]))
        service = ml.deploy(store, model, _settings(node), user, None if known else before)
        if service["id"] not in known:
            ids[node["id"]] = service["id"]


def _model(store: Store, pipeline: Document, node: Document, inputs: Document) -> Document:
    model_id = values.entity_id("Model", inputs.get("model")) or graph.model_id(pipeline, node)
    if model_id is None:
        raise bad_request(
            f"Node {graph.label(node)!r} of type ml must have a model: fixed, a variable's, or as input"
        )
    return store.get("models", model_id)


def _settings(node: Document) -> Document:
    config = (node.get("metadata") or {}).get("serviceConfig")
    return {"serviceConfig": config} if isinstance(config, dict) and config else {}


def _items(node: Document, inputs: Document) -> list[str]:
    name = graph.input_of(node, "Item") or "item"
    given = inputs.get(name)
    found = [values.entity_id("Item", each) for each in (given if isinstance(given, list) else [given])]
    ids = [each for each in found if each]
    if not ids:
        raise bad_request(f"node {graph.label(node)!r} needs an item as {name!r}")
    return ids
