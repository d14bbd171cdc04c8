"""Nodes whose work is done by a service: functions, custom nodes, code, and the operations of models."""

from typing import Any

from ...errors import bad_request
from ...store import Store
from . import graph

Document = dict[str, Any]


def launch(
    store: Store, pipeline: Document, node: Document, inputs: Document, link: Document, user: str
) -> Document:
    """Make the execution of a node, for a worker to run."""
    raise bad_request(f"node {graph.label(node)!r}: not yet")


def prepare(store: Store, pipeline: Document, user: str) -> None:
    """Make the services that a pipeline's nodes need."""


def refresh(store: Store, pipeline: Document, user: str) -> None:
    """Bring services up to date with the pipeline's variables."""
