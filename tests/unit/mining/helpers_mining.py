"""Records that the tests of mining share."""

import numpy as np

from alhelpers import records

NAMES = ["cat", "dog", "fox", "owl"]


def make_table(count=60, seed=0, prefix="r", dims=6, classes=4):
    """Records with every field that any strategy needs; the ids are not in the order of the rows."""
    rng = np.random.default_rng(seed)
    group = rng.integers(classes, size=count)
    logits = rng.normal(size=(count, classes)) + 2 * np.eye(classes)[group]
    order = rng.permutation(count)
    return records.from_arrays(
        [f"{prefix}{k:04d}" for k in order],
        class_names=NAMES[:classes],
        confidences=(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32),
        logits=logits.astype(np.float32),
        embeddings={
            "": (rng.normal(size=(count, dims)) + 4 * rng.normal(size=(classes, dims))[group]).astype(
                np.float32
            ),
            "early": rng.normal(size=(count, 3)).astype(np.float32),
        },
        mc_dropout=rng.dirichlet(np.ones(classes), size=(count, 7)).astype(np.float32),
        query_by_committee=rng.dirichlet(np.ones(classes) / 2, size=(count, 5)).astype(np.float32),
        detections=make_boxes(rng, count, dims, classes),
        groundtruth=[NAMES[k] for k in group],
    )


def make_boxes(rng, count, dims, classes):
    """Boxes of several passes, none to three a record, without what other strategies than those of boxes use."""
    offsets = np.append(0, np.cumsum(rng.integers(4, size=count)))
    offsets[1:] += 1  # at least one in the first record
    total = offsets[-1]
    numbers = {
        f"{name}_certainty": rng.random(total) for name in ("class", "location", "existence", "object")
    }
    numbers |= {"box_variance": 9 * rng.random(total), "embeddings": rng.normal(size=(total, dims))}
    return records.Boxes(
        offsets.astype(np.int64),
        class_name=np.array(NAMES, dtype=object)[rng.integers(classes, size=total)],
        **{name: values.astype(np.float32) for name, values in numbers.items()},
    )


def same(first, second):
    """Assert that two selections are the same, bit for bit."""
    assert first.ids == second.ids
    np.testing.assert_array_equal(first.scores, second.scores)
