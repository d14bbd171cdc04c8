"""What the detector and the segmenter share: training, and reading images part by part."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from alhelpers.data.arrays import to_planes
from alhelpers.learners._scene_augmentation import Moved, Moves
from alhelpers.learners._torch_passes import Preprocessed
from alhelpers.learners.predictions import check_request, checked_names, listed_names
from alhelpers.learners.weights import WithWeights
from alhelpers.protocols import Dataset, History, Progress, Task
from alhelpers.training import Loss, as_tensors, floating_type, train
from alhelpers.training.devices import device_of, named_device
from alhelpers.uncertainty._torch import called_with_seed, first_not_finite, is_count

# Bytes of the outputs of all passes that a prediction has at once.
_AT_ONCE = 2**26

# Steps of a training on N images, 16 N^0.6: 490 on 300, 1530 on 2,000; and at least.
_STEPS, _POWER, _LEAST_STEPS = 16, 0.6, 200

# What data sets have labels for a task.
_LABELS = {
    "segmentation": "the maps of a data set with masks, dataset.segmentation()",
    "detection": "a data set with boxes, such as data.coco returns",
}

# The key of the class names beside the weights.
_NAMES = "class_names"

# Fewer pixels have no features at an eighth of the size.
_LEAST_SIDE = 8


class GridLearner(WithWeights):
    """A learner of images, of which something is predicted at each cell of a grid."""

    task: ClassVar[Task]
    _moved: ClassVar[Moved]
    _loss: ClassVar[Loss]

    def __init__(self, class_names: Sequence[str], options: dict[str, Any], seed: int) -> None:
        self.class_names = listed_names(class_names)
        for name in ("batch_size", "evaluations", "prediction_batch_size"):
            if not is_count(options[name]):
                raise ValueError(f"{name} is {options[name]!r}: it must be a whole number of at least 1")
        if options["steps"] is not None and not is_count(options["steps"]):
            raise ValueError(f"steps is {options['steps']!r}: it must be at least 1, or None")
        if options["channels"] not in (1, 3):
            raise ValueError(f"channels is {options['channels']!r}: it must be 1 for grey images, or 3")
        if not 0 < options["dropout"] < 1:
            raise ValueError(f"dropout is {options['dropout']!r}: it must be above 0 and below 1")
        if not 0 < options["learning_rate"] < math.inf:
            raise ValueError(
                f"learning_rate is {options['learning_rate']!r}: it must be a finite number above 0"
            )
        named_device(options["device"])
        self._options, self.device = options, options["device"]
        self.network: Any = called_with_seed(self._network, seed).to(memory_format=torch.channels_last).eval()

    def _state(self) -> dict[str, Any]:
        return {**self.network.state_dict(), _NAMES: [*self.class_names]}

    def _weights_of(self, state: Any, path: Path) -> Any:
        if not isinstance(state, dict) or _NAMES not in state:  # as those saved before names were
            return state
        if state[_NAMES] != [*self.class_names]:
            raise ValueError(
                f"{path} holds weights for the classes {state[_NAMES]}, and those of this {type(self).__name__} are"
                f" {[*self.class_names]}: make it with the same names in the same order"
            )
        return {name: values for name, values in state.items() if name != _NAMES}

    def _network(self) -> nn.Module:
        raise NotImplementedError

    def _targets(self, dataset: Dataset, shape: tuple[int, int]) -> torch.Tensor:
        """Return what the loss compares the outputs with, one row an image of ``shape``, or raise a ValueError."""
        raise NotImplementedError

    def fit(
        self,
        dataset: Dataset,
        *,
        validation: Dataset | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> History:
        """Train from the current weights with :func:`alhelpers.training.train`.

        Returns
        -------
        History
            The losses; it has no accuracy.

        Raises
        ------
        ValueError
            If the data set or the validation set is empty, is of another task, or has other class names; if a label is
            not valid, or an input is not finite; the message names it.

        Warns
        -----
        UserWarning
            If a class has no example in many labels.
        """
        if not len(dataset):
            raise ValueError("the data set is empty: label at least one row to learn from")
        if validation is not None and not len(validation):
            raise ValueError("the validation set is empty: pass at least one row, or validation=None")
        pairs = [self._pair(each) for each in (dataset, validation) if each is not None]
        recipe = ("batch_size", "learning_rate", "patience", "evaluations", "device")
        options = {name: self._options[name] for name in recipe}
        steps = self._options["steps"] or default_steps(len(dataset))
        return train(
            self.network,
            *pairs[0],
            task=None,
            loss=type(self)._loss,
            steps=steps,
            augmentation=self._options["augmentation"] and Moves(type(self)._moved, steps),
            validation=pairs[1] if validation is not None else None,
            seed=seed,
            progress=progress,
            **options,
        )

    def fresh(self, seed: int) -> Self:
        """Return an untrained learner of the same design, with the initial weights of the seed."""
        return type(self)(self.class_names, **self._options, seed=seed)

    def _pair(self, dataset: Dataset) -> tuple[Dataset, torch.Tensor]:
        """Return a data set of planes, and its targets."""
        if dataset.task != self.task:
            raise ValueError(
                f"the data set is for {dataset.task}, and a {type(self).__name__} is for {self.task}: take another"
                f" learner, or {_LABELS[self.task]}"
            )
        planes = self._planes(dataset)
        return planes, self._targets(dataset, planes.inputs(np.arange(1)).shape[2:])

    def _planes(self, dataset: Dataset) -> Preprocessed:
        checked_names(self.class_names, dataset)
        return Preprocessed(dataset, partial(as_planes, channels=self._options["channels"]))

    def _parts(self, dataset: Dataset, passes: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Check a data set to predict on, and read its images in parts, each with its first row."""
        check_request(dataset, passes)
        planes = self._planes(dataset)
        size, few = self._options["prediction_batch_size"], planes.inputs(np.arange(1))
        if passes:
            outputs = few[0, 0].size * passes * self._outputs_a_pixel() * 4
            size = min(size, max(int(_AT_ONCE / outputs), 1))
        for first in range(0, len(dataset), size):
            rows = np.arange(first, min(first + size, len(dataset)))
            images = as_tensors(planes.inputs(rows), device_of(self.network), floating_type(self.network))
            row = first_not_finite(images)
            if row is not None:
                raise ValueError(
                    f"the inputs of record {dataset.ids[first + row]} are not finite: replace their NaN and inf, or"
                    " leave the record out"
                )
            yield first, images

    def _outputs_a_pixel(self) -> float:
        """Return how many numbers a pass has for each pixel of an image."""
        raise NotImplementedError


def default_steps(count: int) -> int:
    """Return the number of steps of a training on so many images."""
    return max(round(_STEPS * count**_POWER), _LEAST_STEPS)


def as_planes(images: Any, channels: int) -> np.ndarray:
    """Return images as (B, channels, H, W) from 0 to 1; grey levels stand for three colours where these are wanted.

    ``images`` are (B, C, H, W) from 0 to 1, or uint8 (B, H, W) or (B, H, W, C) from 0 to 255.
    """
    planes = np.asarray(images)
    if planes.dtype == np.uint8 and planes.ndim in (3, 4):
        planes = to_planes(planes)
    if planes.ndim != 4 or planes.dtype.kind != "f" or min(planes.shape[2:]) < _LEAST_SIDE:
        raise ValueError(
            f"the inputs are {planes.dtype} of shape {planes.shape}: images must be (B, C, H, W) from 0 to 1, or uint8"
            f" (B, H, W, C), at least {_LEAST_SIDE} pixels high and wide"
        )
    if planes.shape[1] not in (1, channels):
        raise ValueError(
            f"the images have {planes.shape[1]} channels, and the network takes {channels}: pass channels=3 for"
            " colours, or grey levels"
        )
    return planes if planes.shape[1] == channels else np.repeat(planes, channels, axis=1)
