"""A fair race: one strategy and one seed of the comparison of strategies, on arrays in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from alhelpers import mining, records, training
from alhelpers.datasets import ImageSet
from alhelpers.experiments.deforming import Deform
from alhelpers.models.networks import EMBEDDING_LAYER, build_network
from alhelpers.models.prediction import predict, to_inputs
from alhelpers.scores import confidences_from_logits
from alhelpers.uncertainty import mc_dropout

Augmentation = Literal["none", "affine", "elastic"]
Build = Callable[[int], nn.Sequential]

#: Uncertainty keeps ten times the budget, and of these one of each group is picked: what the comparison favours.
CLUSTER_MARGIN: Mapping[str, Any] = {
    "cascade": [{"strategy": "mc_dropout", "keep": "10x"}, {"strategy": "typicality"}]
}

# Principal components of the pixels that the cold start groups the images by.
_COMPONENTS = 50

# Images looked at at once: larger batches than in training, as there is nothing to keep for a backward pass.
_BATCH = 1024


def race(
    pool: ImageSet,
    test: ImageSet,
    strategy: str | Mapping[str, Any] | Sequence[Mapping[str, Any]],
    *,
    label_counts: Sequence[int] = (20, 30, 40, 50, 60, 70, 80, 90, 100),
    seed: int = 0,
    name: str | None = None,
    cold_start: Literal["random", "typicality"] = "typicality",
    augmentation: Augmentation = "elastic",
    steps: int = 300,
    batch_size: int = 32,
    learning_rate: float = 6e-3,
    dropout: float = 0.5,
    network: Build | None = None,
    pretrained: nn.Sequential | None = None,
    warm_start: bool = False,
    passes: int = 20,
    temperature: float = 1.0,
    candidates: int | None = None,
    on_round: Callable[[dict[str, Any]], None] | None = None,
) -> list[dict[str, Any]]:
    """Label, train, measure, and pick the next images by a strategy, until the last number of labels.

    The fair protocol: of one seed all strategies with the same ``cold_start`` begin with the same labels, all
    are measured at the same ``label_counts`` on the whole test set, and nothing is ever chosen by the test
    images. Give every strategy, random too, the same options.

    Parameters
    ----------
    pool, test : ImageSet
        The labels of the pool are the oracle's: read only for images that were picked.
    strategy : str or plan
        A strategy of :func:`alhelpers.mining.mine`, or a plan of :func:`alhelpers.mining.combine`, such as
        :data:`CLUSTER_MARGIN`. They see ``embeddings``, ``confidences``, ``mc_dropout``, and the labelled images
        as the reference.
    label_counts : sequence of int
        Numbers of labels to measure at, rising; the first is that of the cold start.
    seed : int
        Of the cold start, the networks, the order of the training and the strategy.
    name : str, optional
        What the rows call the strategy; the default is its own name, or those of the plan.
    cold_start : {"random", "typicality"}
        How the first images are picked: by chance, or the most typical one of each group of images, by the
        pretrained network's embeddings, or else by 50 principal components of the pixels.
    augmentation : {"none", "affine", "elastic"}
        How images are changed while training: not at all; turned, scaled and shifted
        (:func:`alhelpers.training.augment`); or deformed (:class:`alhelpers.experiments.deforming.Deform`).
    steps, batch_size, learning_rate : int, int, float
        Of the training in each round, :func:`alhelpers.training.train`.
    dropout : float
        Of the kit's own network.
    network : callable, optional
        Builds another network from a seed: an ``nn.Sequential`` with dropout and a layer ``embedding``.
    pretrained : torch.nn.Sequential, optional
        A network of the same design whose layers up to the embedding every training starts from
        (:func:`alhelpers.experiments.pretraining.pretrain`).
    warm_start : bool
        Train on from the network of the round before, not anew.
    passes : int
        MC-dropout passes.
    temperature : float
        Divides the logits before they become confidences.
    candidates : int, optional
        At most so many of the unlabelled images are looked at in a round, drawn anew each time. None: all.
    on_round : callable, optional
        Called with each row as soon as it is there.

    Returns
    -------
    list of dict
        A row a number of labels: ``strategy``, ``seed``, ``labels``, ``accuracy`` on the test images, and the
        ``seconds`` of the round (train, measure, pick).

    Raises
    ------
    ValueError
        If the numbers of labels do not rise or are more than the pool, or an option is out of range.
    MiningError
        If the strategy or the plan is none.

    Notes
    -----
    The convolutions of the candidates are computed once a round and shared by the passes, the confidences and
    the embeddings: dropout comes after them.
    """
    counts = _checked_counts(label_counts, len(pool))
    if augmentation not in ("none", "affine", "elastic"):
        raise ValueError(f"augmentation is {augmentation!r}: it must be none, affine or elastic")
    if cold_start not in ("random", "typicality"):
        raise ValueError(f"cold_start is {cold_start!r}: it must be random or typicality")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}: it must be above 0")
    plan = {"strategy": strategy} if isinstance(strategy, str) else strategy
    names = _checked_strategies(plan)
    build = network or _kit_network(pool, dropout)
    # one memory format, channels last: the fast one on processors
    images, test_images = (_fast(to_inputs(part.images)) for part in (pool, test))
    labelled = _first(images, cold_start, counts[0], pretrained, seed)
    last: nn.Sequential | None = None
    rows = []
    for place, count in enumerate(counts):
        started = time.perf_counter()
        draw = 100_000 * seed + count
        model = last if warm_start and last is not None else _begin(build, pretrained, draw)
        _train(
            model,
            images[labelled],
            pool.labels[labelled],
            augmentation,
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=draw,
        )
        right = predict(model, test_images).logits.argmax(1) == test.labels
        if place + 1 < len(counts):
            rest = _candidates(len(pool), labelled, candidates, draw)
            look = _Look(model, images, names, passes, temperature, draw)
            chosen = mining.combine(
                look.records(rest),
                plan,
                counts[place + 1] - count,
                reference=look.reference(labelled),
                seed=draw,
            )
            labelled = np.concatenate([labelled, np.array(chosen.ids)])
        last = model
        rows.append(
            {
                "strategy": name or "+".join(names),
                "seed": seed,
                "labels": count,
                "accuracy": float(right.mean()),
                "seconds": time.perf_counter() - started,
            }
        )
        if on_round is not None:
            on_round(rows[-1])
    return rows


# ------------------------------------------------------------------------------
# parts of a round
# ------------------------------------------------------------------------------


class _Look:
    """What a network says of images, in as many fields as the strategies of a plan look at."""

    def __init__(
        self,
        model: nn.Sequential,
        images: torch.Tensor,
        names: Sequence[str],
        passes: int,
        temperature: float,
        seed: int,
    ) -> None:
        about = [mining.strategies()[name] for name in names]
        self.fields = {field for strategy in about for need in strategy["fields"] for field in need}
        self.compares = any(strategy["reference"] != "none" for strategy in about)
        self.trunk, self.head = _cut(model)
        self.images, self.passes, self.temperature, self.seed = images, passes, temperature, seed

    def records(self, rows: np.ndarray, *, passes: bool = True) -> Any:
        """Return records of some images with the fields that are needed."""
        wanted = self.fields & {"confidences", "logits", "embeddings", "mc_dropout"}
        if not wanted:
            return records.from_arrays(rows)
        with torch.inference_mode():
            values = torch.cat([self.trunk(part) for part in self.images[rows].split(_BATCH)])
        fields = {}
        if wanted - {"mc_dropout"}:
            prediction = predict(self.head, values)
            fields["confidences"] = confidences_from_logits(prediction.logits / self.temperature)
            fields["embeddings"] = prediction.embeddings
        if passes and "mc_dropout" in wanted:
            samples, _ = mc_dropout(
                self.head, values, self.passes, outputs="values", batch_size=_BATCH, seed=self.seed
            )
            fields["mc_dropout"] = torch.from_numpy(samples / self.temperature).softmax(2).numpy()
        return records.from_arrays(rows, **fields)

    def reference(self, labelled: np.ndarray) -> Any:
        """Return records of the labelled images, if a strategy looks at them."""
        return self.records(labelled, passes=False) if self.compares else None


def _cut(model: nn.Sequential) -> tuple[nn.Sequential, nn.Sequential]:
    """Cut a network before its first dropout or its embedding; what comes before is the same in every pass."""
    names = [name for name, _ in model.named_children()]
    places = [place for place, layer in enumerate(model) if isinstance(layer, nn.Dropout)]
    first = min([*places, names.index(EMBEDDING_LAYER)])
    return model[:first], model[first:]


def _begin(build: Build, pretrained: nn.Sequential | None, seed: int) -> nn.Sequential:
    """Build a network; from a pretrained one it takes all layers but the last."""
    model = build(seed).to(memory_format=torch.channels_last)
    if pretrained is not None:
        model[:-1].load_state_dict(pretrained[:-1].state_dict())
    return model


def _train(
    model: nn.Sequential,
    inputs: torch.Tensor,
    labels: np.ndarray,
    augmentation: Augmentation,
    **recipe: Any,
) -> None:
    if augmentation == "elastic":
        training.train(nn.Sequential(Deform(), model), inputs, labels, **recipe)
    else:
        training.train(model, inputs, labels, augmentation=augmentation == "affine", **recipe)


def _first(
    images: torch.Tensor, cold_start: str, count: int, pretrained: nn.Sequential | None, seed: int
) -> np.ndarray:
    """Pick the images of the cold start."""
    ids = np.arange(len(images))
    if cold_start == "random":
        return np.array(mining.mine(records.from_arrays(ids), "random", count, seed=seed).ids)
    if pretrained is None:
        from sklearn.decomposition import PCA

        pixels = images.flatten(1).numpy()
        vectors = PCA(min(_COMPONENTS, *pixels.shape), random_state=seed).fit_transform(pixels)
    else:
        vectors = predict(pretrained, images).embeddings
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    table = records.from_arrays(ids, embeddings=vectors.astype(np.float32))
    return np.array(mining.mine(table, "typicality", count, seed=seed).ids)


def _candidates(count: int, labelled: np.ndarray, most: int | None, seed: int) -> np.ndarray:
    """Return the unlabelled images that are looked at, in rising order."""
    rest = np.setdiff1d(np.arange(count), labelled)
    if most is None or most >= len(rest):
        return rest
    return np.sort(np.random.default_rng(seed).choice(rest, most, replace=False))


# ------------------------------------------------------------------------------
# arguments
# ------------------------------------------------------------------------------


def _kit_network(pool: ImageSet, dropout: float) -> Build:
    size, classes = pool.images.shape[1], len(pool.class_names)
    return lambda seed: build_network(size, classes, dropout=dropout, seed=seed)


def _fast(inputs: torch.Tensor) -> torch.Tensor:
    return inputs.contiguous(memory_format=torch.channels_last)


def _checked_counts(label_counts: Sequence[int], size: int) -> list[int]:
    counts = [int(count) for count in label_counts]
    if not counts or counts[0] < 1 or any(b <= a for a, b in zip(counts, counts[1:], strict=False)):
        raise ValueError(f"label_counts are {counts}: whole numbers from 1 on that rise are needed")
    if counts[-1] > size:
        raise ValueError(f"label_counts end with {counts[-1]}, but the pool holds {size}: end sooner")
    return counts


def _checked_strategies(plan: Any) -> list[str]:
    names, known = _strategies_of(plan), mining.strategies()
    for name in names:
        if name not in known:
            raise mining.UnknownStrategy(f"strategy {name!r} is unknown; there are: {', '.join(known)}")
    return names


def _strategies_of(plan: Any) -> list[str]:
    """Return the names of all strategies in a plan, in their order."""
    if isinstance(plan, Mapping):
        own = [plan["strategy"]] if "strategy" in plan else []
        return own + [name for value in plan.values() for name in _strategies_of(value)]
    if isinstance(plan, list | tuple):
        return [name for part in plan for name in _strategies_of(part)]
    return []
