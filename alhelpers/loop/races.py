"""A fair race: strategies and seeds under one protocol, on data sets in memory."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from alhelpers import mining, parallel, records
from alhelpers.data.labels import MissingClassWarning
from alhelpers.learners import TorchClassifier, build_network
from alhelpers.learners.deforming import elastic
from alhelpers.loop._fields import Fields, named_plan
from alhelpers.loop._references import reference_records
from alhelpers.loop.measures import MEASURES, count_boxes
from alhelpers.protocols import Dataset, Learner
from alhelpers.uncertainty._torch import is_count

Augmentation = Literal["none", "affine", "elastic"]
Build = Callable[[int], nn.Sequential]
Plan = str | Callable[..., Any] | Mapping[str, Any] | Sequence[Mapping[str, Any]]

#: Uncertainty keeps ten times the budget, and of these one of each group is picked: what the comparison favours.
CLUSTER_MARGIN: Mapping[str, Any] = {
    "cascade": [{"strategy": "mc_dropout", "keep": "10x"}, {"strategy": "typicality"}]
}

_AUGMENTATIONS: Mapping[str, Any] = {"none": False, "affine": True, "elastic": elastic}

# Principal components of the inputs that the cold start groups the records by.
_COMPONENTS = 50

# Images predicted at once: larger batches than in training, as there is nothing to keep for a backward pass.
_BATCH = 1024

# Seeds of a race lie 100,000 apart, a round's is that and its number of labels; those of members are far from both.
_MEMBERS_APART = 10**12


class Entry(NamedTuple):
    """A participant of a race.

    Parameters
    ----------
    strategy : str, callable or plan
        A strategy of :func:`alhelpers.mining.mine`, a score of one's own, or a plan of
        :func:`alhelpers.mining.combine`, such as :data:`CLUSTER_MARGIN`.
    seed : int
        Of the cold start, the learners, their training and the strategy.
    name : str, optional
        The name of the strategy in the rows; the default is its own name, or those of the plan.
    cold_start : {"random", "typicality"}
        How the first records are picked: at random, or the most typical one of each group, by the pretrained
        network's embeddings, or else by 50 principal components of the inputs.
    members : int
        How many learners, of different seeds, make the predictions that the strategy sees. The first one alone is
        measured, and computes the embeddings.
    """

    strategy: Plan
    seed: int = 0
    name: str | None = None
    cold_start: Literal["random", "typicality"] = "typicality"
    members: int = 1


def race(
    pool: Dataset,
    test: Dataset,
    entries: Sequence[Entry],
    *,
    learner: Learner | None = None,
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
    workers: Any = None,
    threads: int = 1,
) -> Iterator[dict[str, Any]]:
    """Label, train, measure, and pick the next records by each entry's strategy, until the last number of labels.

    Of one seed all strategies with the same ``cold_start`` begin with the same labels, all are measured at the same
    ``label_counts`` on the whole test set, under the same options, and nothing is ever chosen by the test set.

    Parameters
    ----------
    pool, test : Dataset
        Of one task: classification, multilabel, regression, detection or segmentation. The labels of the pool are the
        oracle's: read only for records that were picked.
    entries : sequence of Entry
        The strategies, a seed each. They see ``embeddings``, ``confidences``, ``mc_dropout``, with several members
        ``query_by_committee`` too, and the labelled records as the reference.
    learner : Learner, optional
        Each entry trains fresh ones of this design. The default is a :class:`alhelpers.learners.TorchClassifier` of
        ``network`` or the kit's own, and the options ``augmentation`` to ``pretrained`` are for it alone.
    label_counts : sequence of int
        Numbers of labels to measure at, rising; the first is that of the cold start.
    augmentation : {"none", "affine", "elastic"}
        Not at all; turned, scaled and shifted (:func:`alhelpers.training.augment`); or deformed
        (``alhelpers.learners.deforming.deform``).
    steps, batch_size, learning_rate : int, int, float
        Of the training in each round, :func:`alhelpers.training.train`.
    dropout : float
        Of the kit's own network.
    network : callable, optional
        Builds another network from a seed.
    pretrained : torch.nn.Sequential, optional
        A network of the same design whose layers but the last every training starts from
        (``alhelpers.learners.pretraining.pretrain``).
    warm_start : bool
        Whether to continue the training of the round before, instead of training a fresh learner.
    passes : int
        MC-dropout passes of each member.
    temperature : float
        Divides the logits before they become confidences.
    candidates : int, optional
        Use a random sample of at most so many unlabelled records in each round. None: all.
    workers : int, dask.distributed.Client or concurrent.futures.Executor, optional
        How many entries are computed at a time (:func:`alhelpers.parallel.run`). The default is one a core.
    threads : int
        Threads of each entry; results depend on it in their last bits, but not on ``workers``.

    Returns
    -------
    iterator of dict
        A row for each number of labels and, within it, each entry, as soon as it is there: ``strategy``, ``seed``,
        ``labels`` (labelled records), of a detection the ``boxes`` in them, the measure on the test set, and the
        ``seconds`` of the round (train, measure, pick). The measure is the ``accuracy`` (of several labels a record the
        share of labels that are right at 0.5), of a regression ``r2``, of a detection ``ap50``, the average precision
        at IoU 0.5, and of a segmentation ``mean_iou``; the latter two are means over the classes.

    Raises
    ------
    ValueError
        If the numbers of labels do not rise or exceed the pool, or an option is out of range.
    MiningError
        If a strategy or a plan is not valid.
    """
    counts = _checked_counts(label_counts, len(pool))
    _check_options(pool, test, augmentation, temperature)
    if learner is not None and network is not None:
        raise ValueError("learner and network exclude each other: pass learner=TorchClassifier(network)")
    if not entries:
        raise ValueError("there are no entries: a race needs at least one")
    if learner is None:
        if pool.task != "classification":
            raise ValueError(
                f"the task is {pool.task!r}: pass learner=..., as the default one learns classes"
            )
        learner = TorchClassifier(
            _starting_from(pretrained, network or _kit_network(pool, dropout)),
            augmentation=_AUGMENTATIONS[augmentation],
            steps=steps,
            batch_size=batch_size,
            learning_rate=learning_rate,
            prediction_batch_size=_BATCH,
        )
    course = _Course(pool, test, learner, pretrained, warm_start, passes, temperature, candidates)
    racers = [_Racer(entry) for entry in entries]
    for racer in racers:  # before anything is trained
        Fields(racer.plan, [learner] * racer.entry.members, passes, task=pool.task)

    def rounds() -> Iterator[dict[str, Any]]:
        current = racers
        for count, following in zip(counts, [*counts[1:], counts[-1]], strict=True):
            jobs = [(course, racer, count, following - count) for racer in current]
            current = []
            for racer, row in parallel.run(_round, jobs, workers=workers, threads=threads):
                current.append(racer)
                yield row

    return rounds()


# ------------------------------------------------------------------------------
# a round
# ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Course:
    """What is the same for all entries."""

    pool: Dataset
    test: Dataset
    learner: Learner
    pretrained: nn.Sequential | None
    warm_start: bool
    passes: int
    temperature: float
    candidates: int | None


class _Racer:
    """An entry with its labels and, for a warm start, its learners."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.plan = named_plan(entry.strategy)
        strategies = [each.strategy for each in mining.needed_fields(self.plan)]
        _check_entry(entry, strategies)
        self.name = entry.name or "+".join(strategies)
        self.labelled: np.ndarray | None = None
        self.learners: list[Learner] = []


def _round(job: tuple[_Course, _Racer, int, int]) -> tuple[_Racer, dict[str, Any]]:
    """Train, measure, and label as many records as are to be picked."""
    course, racer, count, picks = job
    started = time.perf_counter()
    draw = 100_000 * racer.entry.seed + count
    seeds = [draw + member * _MEMBERS_APART for member in range(racer.entry.members)]
    if racer.labelled is None:
        racer.labelled = _first(course.pool, racer.entry, count, course.pretrained)
    learners = racer.learners or [course.learner.fresh(seed) for seed in seeds]
    labelled = course.pool.take(racer.labelled)
    with warnings.catch_warnings(action="ignore", category=MissingClassWarning):
        for learner, seed in zip(learners, seeds, strict=True):
            learner.fit(labelled, seed=seed)
    measure = MEASURES[course.test.task]
    value = measure.compute(learners[0].predict(course.test), course.test)
    if picks:
        rows = _candidates(len(course.pool), racer.labelled, course.candidates, draw)
        change = _cooled(course.temperature)
        fields = Fields(racer.plan, learners, course.passes, change, task=course.pool.task)
        reference = reference_records(fields, labelled, racer.labelled, seeds) if fields.compares else None
        found = fields.records(course.pool.take(rows), rows, seeds)
        chosen = mining.combine(found, racer.plan, picks, reference=reference, seed=draw)
        racer.labelled = np.concatenate([racer.labelled, np.array(chosen.ids)])
    racer.learners = learners if course.warm_start else []
    return racer, {
        "strategy": racer.name,
        "seed": racer.entry.seed,
        "labels": count,
        **count_boxes(labelled),
        measure.name: value,
        "seconds": time.perf_counter() - started,
    }


def _cooled(temperature: float) -> Callable[[np.ndarray], np.ndarray] | None:
    """Return what divides the logits of confidences by a temperature, or None at 1."""
    if temperature == 1:
        return None
    return lambda confidences: (torch.tensor(confidences).log() / temperature).softmax(-1).numpy()


def _first(pool: Dataset, entry: Entry, count: int, pretrained: nn.Sequential | None) -> np.ndarray:
    """Return the rows of the cold start."""
    rows = np.arange(len(pool))
    if entry.cold_start == "random":
        return np.array(mining.mine(records.from_arrays(rows), "random", count, seed=entry.seed).ids)
    if pretrained is None:
        from sklearn.decomposition import PCA

        inputs = np.asarray(pool.inputs(rows)).reshape(len(rows), -1)
        vectors = PCA(min(_COMPONENTS, *inputs.shape), random_state=entry.seed).fit_transform(inputs)
    else:
        vectors = TorchClassifier(pretrained).predict(pool, embeddings=True).embeddings
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    table = records.from_arrays(rows, embeddings=vectors.astype(np.float32))
    return np.array(mining.mine(table, "typicality", count, seed=entry.seed).ids)


def _candidates(count: int, labelled: np.ndarray, most: int | None, seed: int) -> np.ndarray:
    """Return the unlabelled rows, or a random sample of at most so many, in rising order."""
    rows = np.setdiff1d(np.arange(count), labelled)
    if most is None or most >= len(rows):
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


# ------------------------------------------------------------------------------
# arguments
# ------------------------------------------------------------------------------


def _kit_network(pool: Dataset, dropout: float) -> Build:
    channels, *size = pool.inputs(np.arange(1)).shape[1:]
    classes = len(pool.class_names or ()) or int(pool.labels(np.arange(len(pool))).max()) + 1
    return lambda seed: build_network(tuple(size), classes, channels=channels, dropout=dropout, seed=seed)


def _starting_from(pretrained: nn.Sequential | None, build: Build) -> Build:
    """Return a builder whose networks take all layers but the last from a pretrained one."""

    def started(seed: int) -> nn.Sequential:
        model = build(seed).to(memory_format=torch.channels_last)  # the fast one on processors
        if pretrained is not None:
            model[:-1].load_state_dict(pretrained[:-1].state_dict())
        return model

    return started


def _checked_counts(label_counts: Sequence[int], size: int) -> list[int]:
    counts = list(label_counts)
    whole = all(map(is_count, counts))
    if not counts or not whole or any(b <= a for a, b in itertools.pairwise(counts)):
        raise ValueError(f"label_counts are {counts}: they must be whole numbers from 1 on that rise")
    if counts[-1] > size:
        raise ValueError(f"label_counts end with {counts[-1]}, but the pool holds {size}: end sooner")
    return [int(count) for count in counts]


def _check_options(pool: Dataset, test: Dataset, augmentation: str, temperature: float) -> None:
    for name, dataset in (("pool", pool), ("test", test)):
        if dataset.task not in MEASURES or dataset.task != pool.task:
            raise ValueError(
                f"the task of {name} is {dataset.task!r}: a race measures {', '.join(MEASURES)}, the same of pool and"
                " test"
            )
    if not len(test):
        raise ValueError(
            f"the test set is empty: there is nothing to measure the {MEASURES[test.task].name} on"
        )
    names = [None if each.class_names is None else list(each.class_names) for each in (pool, test)]
    if None not in names and names[0] != names[1]:
        raise ValueError(
            f"the classes of pool are {names[0]}, and those of test {names[1]}: use the same in the same order"
        )
    if augmentation not in _AUGMENTATIONS:
        raise ValueError(f"augmentation is {augmentation!r}: it must be none, affine or elastic")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}: it must be above 0")
    if temperature != 1 and pool.task != "classification":
        raise ValueError(
            f"temperature is {temperature}: it divides logits of classes, leave it at 1 for {pool.task}"
        )
    if pool.task == "detection" and not len(test.labels(np.arange(len(test)))):
        raise ValueError(
            f"none of the {len(test)} images of the test set has an object, so that there is no average precision: take"
            " a test set with some"
        )
    if pool.task == "regression" and not np.ptp(test.labels(np.arange(len(test)))):
        raise ValueError("the labels of the test set are all the same: R squared needs some that differ")


def _check_entry(entry: Entry, strategies: Sequence[str]) -> None:
    if entry.cold_start not in ("random", "typicality"):
        raise ValueError(f"cold_start is {entry.cold_start!r}: it must be random or typicality")
    if entry.members < 1:
        raise ValueError(f"members is {entry.members}: it must be at least 1")
    if "query_by_committee" in strategies and entry.members < 2:
        raise ValueError(f"members is {entry.members}, but query_by_committee needs at least 2 to disagree")
