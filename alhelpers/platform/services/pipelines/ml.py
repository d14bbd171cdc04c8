"""Nodes of models: train, evaluate and predict, on the services that the models' own operations use."""

from typing import Any

from ...errors import bad_request
from ...store import Store
from . import graph

Document = dict[str, Any]


def launch(
    store: Store, pipeline: Document, node: Document, inputs: Document, link: Document, user: str
) -> Document:
    """Make the execution of an operation of a model."""
    raise bad_request(f"node {graph.label(node)!r}: models do not run yet")


def prepare(store: Store, pipeline: Document, node: Document, user: str) -> None:
    """Deploy the model of a node that predicts."""
