"""The kit on Dataloop: the nodes of the active-learning pipelines, the model adapter, and reading in few requests.

A service imports the file of its own node: the names below are imported when they are first used, so that splitting a
dataset does not load torch.
"""

from importlib import import_module
from typing import Any

_FILE_OF = {
    "DataSplitter": "data_split",
    "ItemMiner": "mine_items",
    "ModelComparer": "compare_models",
    "ModelCreator": "create_new_model",
    "node_context": "context",
    "read_dataset": "datasets",
    "write_labels": "writing",
    "write_picks": "datasets",
}

__all__ = [
    "DataSplitter",
    "ItemMiner",
    "ModelComparer",
    "ModelCreator",
    "node_context",
    "read_dataset",
    "write_labels",
    "write_picks",
]


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILE_OF[name]}"), name)
