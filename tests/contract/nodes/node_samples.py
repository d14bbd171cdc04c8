"""Images, labels and predictions for the nodes' contract tests."""

import io

from PIL import Image


def upload(dataset, names, metadata=None):
    """Upload a small image for each name and return the items by name."""
    buffers = []
    for number, name in enumerate(names):
        buffer = io.BytesIO()
        Image.new("L", (8, 8), number % 256).save(buffer, format="PNG")
        buffer.name = name
        buffer.seek(0)
        buffers.append(buffer)
    dataset.items.upload(local_path=buffers, item_metadata=metadata, raise_on_error=True)
    return {item.name: item for item in dataset.items.list().all()}


def tag(item, **tags):
    """Replace an item's tags and return the item as it is stored."""
    item.metadata["system"]["tags"] = tags
    return item.update(system_metadata=True)


def read_tags(dataset, item):
    """Read an item's tags from the platform."""
    return dataset.items.get(item_id=item.id).metadata["system"].get("tags") or {}


def predict(dl, item, model, label, confidence, full=None, **box):
    """Upload a prediction as a model adapter does."""
    definition = dl.Box(label=label, **box) if box else dl.Classification(label=label)
    info = {"name": model.name, "model_id": model.id, "confidence": confidence}
    annotation = dl.Annotation.new(
        annotation_definition=definition,
        metadata={"user": {"model": dict(info)}, "system": {"model": dict(info)}},
    )
    if full:
        annotation.metadata["user"]["prediction"] = {
            "class_names": list(full),
            "confidences": list(full.values()),
        }
    return item.annotations.upload(annotation)


def predict_as(dl, item, label, info, *sections):
    """Upload a class with some information about its model in sections of the metadata."""
    annotation = dl.Annotation.new(annotation_definition=dl.Classification(label=label))
    annotation.metadata = {section: {"model": dict(info)} for section in sections}
    item.annotations.upload(annotation)


def label(dl, item, name, **box):
    """Upload ground truth."""
    item.annotations.upload(
        dl.Annotation.new(
            annotation_definition=dl.Box(label=name, **box) if box else dl.Classification(label=name)
        )
    )
