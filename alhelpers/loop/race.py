"""A fair race: strategies and seeds under one protocol, on arrays in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from alhelpers import mining, records, training
from alhelpers.data import ImageSet
from alhelpers.learners.deforming import Deform
from alhelpers.learners.networks import EMBEDDING_LAYER, build_network
from alhelpers.learners.prediction import predict, to_inputs
from alhelpers.scores import confidences_from_logits
from alhelpers.uncertainty import mc_dropout
from alhelpers.uncertainty.batched import NotBatchable
from alhelpers.uncertainty.training_together import Lesson, train_together

Augmentation = Literal["none", "affine", "elastic"]
Build = Callable[[int], nn.Sequential]
Plan = str | Mapping[str, Any] | Sequence[Mapping[str, Any]]

#: Uncertainty keeps ten times the budget, and of these one of each group is picked: what the comparison favours.
CLUSTER_MARGIN: Mapping[str, Any] = {
    "cascade": [{"strategy": "mc_dropout", "keep": "10x"}, {"strategy": "typicality"}]
}

# Principal components of the pixels that the cold start groups the images by.
_COMPONENTS = 50

# Images looked at at once: larger batches than in training, as there is nothing to keep for a backward pass.
_BATCH = 1024

# Seeds of a race lie 100,000 apart, a round's is that and its number of labels; those of members are far from both.
_MEMBERS_APART = 10**12


class Entry(NamedTuple):
    """Who takes part in a race.

    Parameters
    ----------
    strategy : str or plan
        A strategy of :func:`alhelpers.mining.mine`, or a plan of :func:`alhelpers.mining.combine`, such as
        :data:`CLUSTER_MARGIN`.
    seed : int
        Of the cold start, the networks, the order of the training and the strategy.
    name : str, optional
        What the rows call the strategy; the default is its own name, or those of the plan.
    cold_start : {"random", "typicality"}
        How the first images are picked: by chance, or the most typical one of each group of images, by the
        pretrained network's embeddings, or else by 50 principal components of the pixels.
    members : int
        How many networks the strategy asks: all are trained on the same labels, and differ in their start and the
        order of the training. The first one alone is measured, as that of any other entry, and gives the embeddings.
    """

    strategy: Plan
    seed: int = 0
    name: str | None = None
    cold_start: Literal["random", "typicality"] = "typicality"
    members: int = 1


def race(
    pool: ImageSet,
    test: ImageSet,
    entries: Sequence[Entry],
    *,
    label_counts: Sequence[int] = (20, 30, 40, 50, 60, 70, 80, 90, 100),
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
) -> Iterator[dict[str, Any]]:
    """Label, train, measure, and pick the next images by each entry's strategy, until the last number of labels.

    The fair protocol: of one seed all strategies with the same ``cold_start`` begin with the same labels, all
    are measured at the same ``label_counts`` on the whole test set, under the same options, and nothing is ever
    chosen by the test images.

    Parameters
    ----------
    pool, test : ImageSet
        The labels of the pool are the oracle's: read only for images that were picked.
    entries : sequence of Entry
        The strategies, a seed each. They see ``embeddings``, ``confidences``, ``mc_dropout``, with several members
        ``query_by_committee`` too, and the labelled images as the reference.
    label_counts : sequence of int
        Numbers of labels to measure at, rising; the first is that of the cold start.
    augmentation : {"none", "affine", "elastic"}
        How images are changed while training: not at all; turned, scaled and shifted
        (:func:`alhelpers.training.augment`); or deformed (:class:`alhelpers.learners.deforming.Deform`).
    steps, batch_size, learning_rate : int, int, float
        Of the training in each round, :func:`alhelpers.training.train`.
    dropout : float
        Of the kit's own network.
    network : callable, optional
        Builds another network from a seed: an ``nn.Sequential`` with dropout and a layer ``embedding``.
    pretrained : torch.nn.Sequential, optional
        A network of the same design whose layers up to the embedding every training starts from
        (:func:`alhelpers.learners.pretraining.pretrain`).
    warm_start : bool
        Train on from the network of the round before, not anew.
    passes : int
        MC-dropout passes of each member.
    temperature : float
        Divides the logits before they become confidences.
    candidates : int, optional
        At most so many of the unlabelled images are looked at in a round, drawn anew each time. None: all.

    Returns
    -------
    iterator of dict
        A row for each number of labels and, within it, each entry, as soon as it is there: ``strategy``, ``seed``,
        ``labels``, ``accuracy`` on the test images, and the ``seconds`` of the round (train, measure, pick).

    Raises
    ------
    ValueError
        If the numbers of labels do not rise or are more than the pool, or an option is out of range.
    MiningError
        If a strategy or a plan is none.

    Notes
    -----
    The networks of all entries are trained side by side, as one batched network
    (:func:`alhelpers.uncertainty.training_together.train_together`): the same batches and masks as alone, in less
    time. The rounding is another, so an entry alone may differ by an image or two from the same among others.

    The convolutions of the candidates are computed once a round and shared by the passes, the confidences and
    the embeddings: dropout comes after them.
    """
    counts = _checked_counts(label_counts, len(pool))
    _check_options(augmentation, temperature)
    if not entries:
        raise ValueError("there are no entries: a race needs at least one")
    build = network or _kit_network(pool, dropout)
    # one memory format, channels last: the fast one on processors
    images, test_images = (_fast(to_inputs(part.images)) for part in (pool, test))
    racers = [_Racer(entry) for entry in entries]
    recipe = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate}

    def rounds() -> Iterator[dict[str, Any]]:
        for racer in racers:
            racer.labelled = _first(images, racer.entry.cold_start, counts[0], pretrained, racer.entry.seed)
        for place, count in enumerate(counts):
            started = time.perf_counter()
            for racer in racers:
                racer.begin_round(count, build, pretrained, warm_start)
            _train(racers, images, pool.labels, augmentation, recipe)
            shared = (time.perf_counter() - started) / len(racers)
            for racer in racers:
                started = time.perf_counter()
                right = racer.predict(test_images) == test.labels
                if place + 1 < len(counts):
                    racer.pick(images, counts[place + 1] - count, candidates, passes, temperature)
                yield {
                    "strategy": racer.name,
                    "seed": racer.entry.seed,
                    "labels": count,
                    "accuracy": float(right.mean()),
                    "seconds": shared + time.perf_counter() - started,
                }

    return rounds()


# ------------------------------------------------------------------------------
# parts of a round
# ------------------------------------------------------------------------------


class _Racer:
    """An entry on its way: its labels and its networks."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.plan = {"strategy": entry.strategy} if isinstance(entry.strategy, str) else entry.strategy
        self.strategies = _strategies_of(self.plan)
        _check_entry(entry, self.strategies)
        self.name = entry.name or "+".join(self.strategies)
        self.labelled = np.array([], dtype=np.int64)
        self.models: list[nn.Sequential] = []
        self.draw = 0

    def begin_round(
        self, count: int, build: Build, pretrained: nn.Sequential | None, warm_start: bool
    ) -> None:
        """Draw for the round, and make the networks."""
        self.draw = 100_000 * self.entry.seed + count
        if not (warm_start and self.models):
            self.models = [_begin(build, pretrained, seed) for seed in self.seeds]

    @property
    def seeds(self) -> list[int]:
        """The seeds of the members in this round."""
        return [self.draw + member * _MEMBERS_APART for member in range(self.entry.members)]

    def predict(self, images: torch.Tensor) -> np.ndarray:
        """Return the classes that the first network finds most likely."""
        return predict(self.models[0], images).logits.argmax(1)

    def pick(
        self, images: torch.Tensor, count: int, candidates: int | None, passes: int, temperature: float
    ) -> None:
        """Label what the strategy picks."""
        rest = _candidates(len(images), self.labelled, candidates, self.draw)
        look = _Look(self.models, images, self.strategies, passes, temperature, self.seeds)
        chosen = mining.combine(
            look.records(rest), self.plan, count, reference=look.reference(self.labelled), seed=self.draw
        )
        self.labelled = np.concatenate([self.labelled, np.array(chosen.ids)])


class _Look:
    """What an entry's networks say of images, in as many fields as the strategies of a plan look at."""

    def __init__(
        self,
        models: Sequence[nn.Sequential],
        images: torch.Tensor,
        names: Sequence[str],
        passes: int,
        temperature: float,
        seeds: Sequence[int],
    ) -> None:
        about = [mining.strategies()[name] for name in names]
        self.fields = {field for strategy in about for need in strategy["fields"] for field in need}
        self.compares = any(strategy["reference"] != "none" for strategy in about)
        self.models = [_cut(model) for model in models]
        self.images, self.passes, self.temperature, self.seeds = images, passes, temperature, seeds

    def records(self, rows: np.ndarray, *, passes: bool = True) -> Any:
        """Return records of some images with the fields that are needed."""
        wanted = self.fields & {"confidences", "logits", "embeddings", "mc_dropout", "query_by_committee"}
        if not wanted:
            return records.from_arrays(rows)
        predictions, samples = [], []
        for (trunk, head), seed in zip(self.models, self.seeds, strict=True):
            with torch.inference_mode():
                values = torch.cat([trunk(part) for part in self.images[rows].split(_BATCH)])
            if wanted - {"mc_dropout"}:
                predictions.append(predict(head, values))
            if passes and "mc_dropout" in wanted:
                logits, _ = mc_dropout(
                    head, values, self.passes, outputs="values", batch_size=_BATCH, seed=seed
                )
                samples.append(torch.from_numpy(logits / self.temperature).softmax(2).numpy())
        fields = {}
        if predictions:
            each = [confidences_from_logits(one.logits / self.temperature) for one in predictions]
            fields["confidences"] = np.mean(each, axis=0)
            fields["embeddings"] = predictions[0].embeddings
            if len(each) > 1:
                fields["query_by_committee"] = np.stack(each, axis=1)
        if samples:
            fields["mc_dropout"] = np.concatenate(samples, axis=1)
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
    racers: Sequence[_Racer],
    images: torch.Tensor,
    labels: np.ndarray,
    augmentation: Augmentation,
    recipe: Mapping[str, Any],
) -> None:
    """Train the networks of all racers: side by side where their layers can be batched, else one after another."""
    lessons: list[Lesson] = []
    models: list[nn.Module] = []
    first = 0
    for racer in racers:
        rows = np.arange(first, first + len(racer.labelled))
        lessons += [Lesson(rows, rows[:0], seed) for seed in racer.seeds]
        models += racer.models
        first += len(rows)
    if augmentation == "elastic":
        models = [nn.Sequential(Deform(), model) for model in models]
    labelled = np.concatenate([racer.labelled for racer in racers])
    inputs, targets = images[labelled], labels[labelled]
    options = {**recipe, "augmentation": augmentation == "affine"}
    if len(models) > 1:
        try:
            train_together(models, inputs, torch.from_numpy(targets), lessons, **options)
            return
        except NotBatchable:  # a network of the caller's own
            pass
    for model, lesson in zip(models, lessons, strict=True):
        training.train(model, inputs[lesson.rows], targets[lesson.rows], seed=lesson.seed, **options)


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


def _check_options(augmentation: str, temperature: float) -> None:
    if augmentation not in ("none", "affine", "elastic"):
        raise ValueError(f"augmentation is {augmentation!r}: it must be none, affine or elastic")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}: it must be above 0")


def _check_entry(entry: Entry, strategies: Sequence[str]) -> None:
    if entry.cold_start not in ("random", "typicality"):
        raise ValueError(f"cold_start is {entry.cold_start!r}: it must be random or typicality")
    if entry.members < 1:
        raise ValueError(f"members is {entry.members}: it must be at least 1")
    known = mining.strategies()
    for name in strategies:
        if name not in known:
            raise mining.UnknownStrategy(f"strategy {name!r} is unknown; there are: {', '.join(known)}")
        if name == "query_by_committee" and entry.members < 2:
            raise ValueError(
                f"members is {entry.members}, but query_by_committee needs at least 2 to disagree"
            )


def _strategies_of(plan: Any) -> list[str]:
    """Return the names of all strategies in a plan, in their order."""
    if isinstance(plan, Mapping):
        own = [plan["strategy"]] if "strategy" in plan else []
        return own + [name for value in plan.values() for name in _strategies_of(value)]
    if isinstance(plan, list | tuple):
        return [name for part in plan for name in _strategies_of(part)]
    return []
