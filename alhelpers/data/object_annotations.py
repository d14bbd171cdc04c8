"""Boxes and masks as annotations in the platform's format."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from alhelpers.data.object_set import ObjectSet

#: The key in an item's user metadata that marks an image without objects.
NO_OBJECTS = "no_objects"


def object_annotations(images: ObjectSet) -> list[list[dict[str, Any]]]:
    """Return the annotations of each image: boxes, or as segmentation masks; crowds are left out."""
    objects = images.objects()
    objects = objects.only(~objects.is_crowd)
    masks = objects.masks(images.ids) if images.task == "segmentation" else None
    names = images.class_names[images.task == "segmentation" :]
    found: list[list[dict[str, Any]]] = [[] for _ in range(len(images))]
    for row, place in enumerate(objects.images().tolist()):
        label = names[objects.classes[row]]
        if masks is None:
            left, top, right, bottom = objects.boxes[row].tolist()
            corners = [{"x": left, "y": top, "z": 0}, {"x": right, "y": bottom, "z": 0}]
            found[place].append(_annotation("box", label, corners))
        else:
            mask = masks[place][row - objects.offsets[place]]
            found[place].append(_annotation("binary", label, _png(mask)))
    return found


def _annotation(kind: str, label: str, coordinates: Any) -> dict[str, Any]:
    metadata = {"system": {}, "user": {}}
    return {"type": kind, "label": label, "attributes": {}, "coordinates": coordinates, "metadata": metadata}


def _png(mask: np.ndarray) -> str:
    """Return a mask as the SDK writes it: white, and not transparent where the object is."""
    pixels = np.repeat(mask[..., None].astype(np.uint8) * 255, 4, axis=2)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
