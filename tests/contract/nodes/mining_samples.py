"""Predictions as adapters store them, rounds of mining over them, and the marks that these leave."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from alhelpers.dataloop import ItemMiner

CLASSES = ["a", "b", "c"]


def fields(seed, embedding=4, passes=3):
    """A prediction's fields, as an adapter stores them."""
    rng = np.random.default_rng(seed)
    return {
        "class_names": CLASSES,
        "confidences": rng.dirichlet(np.ones(3)).tolist(),
        "embeddings": rng.normal(size=embedding).tolist(),
        "mc_dropout": rng.dirichlet(np.ones(3), passes).tolist(),
    }


def predict(dl, item, model, prediction=None, **info):
    """Upload a prediction as a model's adapter does; it gives the fields back."""
    best = CLASSES[int(np.argmax(prediction["confidences"]))] if prediction else "a"
    confidence = max(prediction["confidences"]) if prediction else 0.5
    info = {"name": model.name, "model_id": model.id, "confidence": confidence} | info
    annotation = dl.Annotation.new(
        annotation_definition=dl.Classification(label=best), metadata={"user": {"model": info}}
    )
    if prediction:
        annotation.metadata["user"]["prediction"] = prediction
    item.annotations.upload(annotation)
    return prediction


def predict_all(dl, items, model, first_seed=0, **options):
    """Predict items; give the records that follow from it."""
    with ThreadPoolExecutor(8) as pool:
        made = pool.map(
            lambda pair: predict(dl, pair[1], model, fields(first_seed + pair[0], **options)),
            enumerate(items),
        )
        return [{"id": item.id} | prediction for item, prediction in zip(items, made, strict=True)]


def names(count, start=0):
    return [f"{number:03}.png" for number in range(start, start + count)]


def ids(items):
    return [item.id for item in items]


def marks(dataset):
    """The marks in a dataset, by item."""
    found = {item.id: item.metadata.get("user", {}).get("mining") for item in dataset.items.list().all()}
    return {item_id: mark for item_id, mark in found.items() if mark}


def context(dl, execution_id):
    return dl.Context(execution_dict={"id": execution_id}, sdk=dl)


def mine(dataset, model, config=None, **more):
    return ItemMiner.mine_items(dataset, model, miner_configuration=config, **more)
