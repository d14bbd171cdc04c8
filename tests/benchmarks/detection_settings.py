"""What ``detection_curves.py`` races: pools of scenes, learners, and strategies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from alhelpers.learners import Detector, Segmenter
from alhelpers.protocols import Learner

# The pool, the budget and the strategies were chosen by looking at seed 0, which is therefore not among them.
SEEDS = range(1, 6)
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
    seeds: Sequence[int] = SEEDS
    passes: int = 10


# Digits by how often they come: two that are everywhere, and four that are rare.
_SHARES = {"0": 0.48, "1": 0.40, "2": 0.03, "3": 0.03, "4": 0.03, "5": 0.03}
_RARE_CLASSES = {"class_names": [*_SHARES], "frequencies": _SHARES, "empty": 0.3}
_FEW = {"0": 0.6, "1": 0.3, "2": 0.1}
# As average precision is a mean over the classes, each is there often enough to be measured.
_EVEN = {"frequencies": {}}


def _detector(class_names: tuple[str, ...]) -> Learner:
    return Detector(class_names, steps=400)


def _trained_longer(class_names: tuple[str, ...]) -> Learner:
    return Detector(class_names, steps=800)


def _segmenter(class_names: tuple[str, ...]) -> Learner:
    return Segmenter(class_names, steps=400)


# Doubt about the class times rarity, summed over the boxes that are likely to be there.
_RARE = {
    "strategy": "weighted_box_uncertainty",
    "options": {"of": "class", "over": "sum", "min_confidence": 0.4},
}
# The product of all certainties, an image as uncertain as its least certain object: that of MaskAL.
_MASKAL = "box_uncertainty"

SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        "longer": Setting(
            "Boxes: a pool with rare classes",
            "Two digits make up 88 % of all objects, the other four 3 % each, and three scenes in ten are empty, as "
            "where a camera looks at the same few things all day. Average precision is a mean over the classes, so "
            "the four rare ones decide. Every training has 800 steps, whatever the number of images, and so costs the "
            "same.",
            "detection",
            2000,
            _RARE_CLASSES,
            _EVEN,
            _trained_longer,
            (500,),
            (60, 105, 150, 195),
            {"random": "random", FOREGROUND: "random", "rare and doubtful": _RARE},
        ),
        "rare": Setting(
            "The same, trained half as long",
            "With 400 steps a training, which is too few: random learns no more from 500 images than from 250, so that "
            "the shares below flatter what is chosen.",
            "detection",
            2000,
            _RARE_CLASSES,
            _EVEN,
            _detector,
            (250, 500),
            (60, 105, 150, 195),
            {"random": "random", FOREGROUND: "random", "rare and doubtful": _RARE, "least certain": _MASKAL},
        ),
        "even": Setting(
            "Boxes: a pool without rare classes",
            "The same six digits, equally frequent, and the default share of empty scenes, one in five: a random "
            "choice is balanced already, and little is left to gain.",
            "detection",
            1000,
            {"class_names": [*_SHARES]},
            {},
            _detector,
            (300,),
            (60, 120, 180, 240),
            {"random": "random", "rare and doubtful": _RARE},
            range(1, 3),
        ),
        "masks": Setting(
            "Masks: a pool with many empty scenes",
            "Three digits with shares of 60, 30 and 10 %, and every second scene empty; the mean of the intersection "
            "over union is over the background and the three digits.",
            "segmentation",
            1500,
            {"class_names": [*_FEW], "frequencies": _FEW, "empty": 0.5},
            _EVEN,
            _segmenter,
            (60, 250, 500),
            (60, 120, 180, 240),
            {"random": "random", FOREGROUND: "random", "doubtful pixels": "metadata.entropy_top"},
            passes=5,
        ),
    }
)
