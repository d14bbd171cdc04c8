"""What ``detection_curves.py`` races: pools of scenes, learners, and strategies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from alhelpers.learners import Detector, Segmenter
from alhelpers.protocols import Learner

SEEDS = range(5)
PASSES = 10
TEST = 500

#: The strongest form of a random that draws only images with objects: it is told which these are.
FOREGROUND = "foreground random"


class Setting(NamedTuple):
    """What is raced: scenes, a learner, the numbers of labelled images, and strategies."""

    title: str
    what: str
    task: str
    pool: int
    scenes: Mapping[str, Any]
    # What is different in the scenes to test on.
    test: Mapping[str, Any]
    learner: Callable[[tuple[str, ...]], Learner]
    # Of the random ones, the last of which is their whole budget; and of the others, which need not get as far.
    counts: tuple[int, ...]
    sooner: tuple[int, ...]
    strategies: Mapping[str, Any]


# Digits by how often they come: two that are everywhere, and four from seldom to rare.
_SHARES = {"0": 0.40, "1": 0.30, "2": 0.12, "3": 0.08, "4": 0.06, "5": 0.04}
_LONG_TAIL = {"class_names": [*_SHARES], "frequencies": _SHARES, "empty": 0.3}
# As average precision is a mean over the classes, each is there often enough to be measured.
_EVEN = {"frequencies": {}}


def _detector(class_names: tuple[str, ...]) -> Learner:
    return Detector(class_names, steps=400)


def _segmenter(class_names: tuple[str, ...]) -> Learner:
    return Segmenter(class_names, steps=300)


_COVER = {"strategy": "weighted_box_uncertainty", "options": {"of": "class", "over": "max"}}
SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        "long_tail": Setting(
            "Boxes: a pool with rare classes",
            "",
            "detection",
            1500,
            _LONG_TAIL,
            _EVEN,
            _detector,
            (60, 180, 300),
            (60, 80, 100, 120),
            {"random": "random", FOREGROUND: "random", "ours": _COVER, "MaskAL": "box_uncertainty"},
        ),
        "masks": Setting(
            "Masks: the same pool",
            "",
            "segmentation",
            1500,
            _LONG_TAIL,
            _EVEN,
            _segmenter,
            (60, 180, 300),
            (60, 90, 120, 150),
            {"random": "random", FOREGROUND: "random", "bald": "metadata.bald_top"},
        ),
    }
)
