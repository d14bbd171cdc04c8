"""Records that the tests of several files use."""

import numpy as np

from alhelpers import records

NAMES = ["cat", "dog", "fox"]


def arrays(count, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "confidences": rng.dirichlet(np.ones(3), size=count).astype(np.float32),
        "logits": rng.normal(size=(count, 3)).astype(np.float32),
        "embeddings": {
            "": rng.normal(size=(count, 4)).astype(np.float32),
            "layer.1": rng.normal(size=(count, 2)).astype(np.float32),
        },
        "mc_dropout": rng.dirichlet(np.ones(3), size=(count, 5)).astype(np.float32),
        "query_by_committee": rng.dirichlet(np.ones(3), size=(count, 2)).astype(np.float32),
    }


def full_table(count=6, start=0):
    """Return records with every column but detections; ids in the order of the rows."""
    numbers = range(start, start + count)
    return records.from_arrays(
        [f"r{k:02d}" if count > 10 else f"r{k}" for k in numbers],
        split="train",
        class_names=NAMES,
        groundtruth=[NAMES[k % 3] if k % 2 else None for k in numbers],
        tags=[{"run_id": k % 3, "note": f"n{k}"} for k in numbers],
        metadata=[{"x": k / 2, "deep": {"y": k}} for k in numbers],
        **arrays(count, start),
    )


def ids_of(table):
    return table["id"].to_pylist()
