"""A small detector: boxes and classes from a grid of cells, in plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch

from alhelpers.learners._box_decoding import activated, peaks
from alhelpers.learners._box_loss import box_loss
from alhelpers.learners._box_targets import box_targets
from alhelpers.learners._scene_augmentation import moved_boxes
from alhelpers.learners.box_predictions import BoxPredictions
from alhelpers.learners.grid_learner import GridLearner
from alhelpers.learners.grid_network import STRIDE, BoxNetwork, passes_of
from alhelpers.protocols import Dataset, Task
from alhelpers.training.devices import Device, working_on
from alhelpers.uncertainty import BoxSamples, merge_boxes
from alhelpers.uncertainty._torch import check_choice, first_not_finite, kept_modes


class Detector(GridLearner):
    """Find objects: a :class:`~alhelpers.protocols.Learner` of boxes and classes.

    A convolutional network of 175,000 parameters without anchors: each cell of 4 x 4 pixels has a confidence for each
    class, which is high at the centre of an object, and the distances to the sides of its box. Dropout comes last, so
    that many passes share all that is costly.

    Parameters
    ----------
    class_names : sequence of str
        The C classes, in the order of the data sets' names.
    channels : {3, 1}
        Of the images: colours, as which grey levels are taken too, or grey levels alone.
    dropout : float
        The probability that a feature of an image is dropped, above 0 and below 1.
    steps : int, optional
        Of a training. None: 16 N^0.6 for N images, at least 200.
    batch_size, learning_rate, patience, evaluations
        As of :func:`alhelpers.training.train`.
    augmentation : bool
        Whether images are scaled, shifted and recoloured while training. They are not flipped.
    merge : {"grid", "iou"}
        How passes become one prediction. ``"grid"``: confidences and distances are averaged cell by cell, and objects
        are the peaks of the means, so that nothing has to be matched. ``"iou"``: each pass has its own boxes, which
        are merged where they overlap (:func:`alhelpers.uncertainty.merge_boxes`).
    score_threshold : float
        The least confidence of an object. It is low, as uncertainty is about objects that are hardly found.
    overlap : float
        The IoU above which the less confident of two boxes is left out; boxes of passes are merged from 0.5 on.
    prediction_batch_size : int
        Images in one forward pass.
    device : str or torch.device, optional
        Where to train and predict; between calls the network is on the CPU. None: a GPU if torch finds one, else the
        CPU.
    seed : int
        Of the initial weights.

    Attributes
    ----------
    network : torch.nn.Module
        Takes images (B, channels, H, W) from 0 to 1.
    class_names : tuple of str

    Notes
    -----
    Inputs are images (B, C, H, W) from 0 to 1, or uint8 (B, H, W, C), all of one size, which may be any from 8 pixels
    on. Labels are rows of boxes, as :func:`alhelpers.data.coco` returns them. Crowds are not among these, so that what
    is in them is learned as background: leave out images with large crowds, which ``dataset.crowds()`` lists.

    References
    ----------
    Zhou, Wang and Krähenbühl, "Objects as points", 2019 (arXiv:1904.07850); Tian et al., "FCOS", ICCV 2019; Gal and
    Ghahramani, "Dropout as a Bayesian approximation", ICML 2016.

    Examples
    --------
    >>> detector = Detector(scenes.class_names)  # doctest: +SKIP
    >>> detector.fit(scenes)  # doctest: +SKIP
    >>> detector.predict(scenes, passes=20).certainties()["combined"]  # doctest: +SKIP
    """

    task: ClassVar[Task] = "detection"
    _moved = staticmethod(moved_boxes)
    _loss = staticmethod(box_loss)

    def __init__(
        self,
        class_names: Sequence[str],
        *,
        channels: Literal[1, 3] = 3,
        dropout: float = 0.2,
        steps: int | None = None,
        batch_size: int = 16,
        learning_rate: float = 1e-2,
        augmentation: bool = True,
        patience: int | None = None,
        evaluations: int = 10,
        merge: Literal["grid", "iou"] = "grid",
        score_threshold: float = 0.05,
        overlap: float = 0.6,
        prediction_batch_size: int = 64,
        device: Device = None,
        seed: int = 0,
    ) -> None:
        check_choice("merge", merge, ("grid", "iou"))
        for name, value in (("score_threshold", score_threshold), ("overlap", overlap)):
            if not 0 < value < 1:
                raise ValueError(f"{name} is {value!r}: it must be above 0 and below 1")
        options = {
            "channels": channels,
            "dropout": dropout,
            "steps": steps,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "augmentation": augmentation,
            "patience": patience,
            "evaluations": evaluations,
            "merge": merge,
            "score_threshold": score_threshold,
            "overlap": overlap,
            "prediction_batch_size": prediction_batch_size,
            "device": device,
        }
        super().__init__(class_names, options, seed)

    def predict(
        self, dataset: Dataset, *, passes: int = 0, embeddings: bool = False, seed: int = 0
    ) -> BoxPredictions:
        """Predict without changing the model.

        Parameters
        ----------
        dataset : Dataset
            N images, read part by part.
        passes : int
            The number T of passes with dropout on: 0, or at least 2.
        embeddings : bool
            Whether to return embeddings of images, the mean of their features, and of objects, those of their cells.
        seed : int
            Of the passes.

        Returns
        -------
        BoxPredictions
            With passes, the objects are those of the passes' means, and ``samples`` hold what each pass says of them:
            NaN where its confidence is below ``score_threshold``, or it has no box there.

        Raises
        ------
        ValueError
            If the data set is empty or has other classes, passes is not valid, or an image is not
            finite; or if the network's weights give outputs that are not.
        """
        with working_on(self.device, self.network):
            found = [
                self._predict_part(images, dataset.ids[first:], passes, embeddings, seed)
                for first, images in self._parts(dataset, passes)
            ]
        counts, _, *columns = zip(*found, strict=True)
        boxes, confidences, samples, sampled, vectors, objects = (
            None if column[0] is None else np.concatenate(column) for column in columns
        )
        offsets = np.append(0, np.cumsum(np.concatenate(counts))).astype(np.int64)
        return BoxPredictions(
            offsets,
            boxes,
            confidences,
            self.class_names,
            vectors,
            objects,
            None if samples is None else BoxSamples(offsets, samples, sampled),
        )

    def _predict_part(
        self, images: torch.Tensor, ids: Sequence[Any], passes: int, embeddings: bool, seed: int
    ) -> _Part:
        network, found = self.network, (self._options["score_threshold"], self._options["overlap"])
        with kept_modes(network), torch.inference_mode():
            features = network.features(images)
            if not passes:
                grids = activated(network.head(features), images.shape[2:])
            else:
                outputs = passes_of(network.head, features, passes, seed)
                grids = activated(outputs.flatten(0, 1), images.shape[2:]).unflatten(0, (-1, passes))
        _check_outputs(grids, ids)
        if not passes:
            part = _of_grid(grids, *found)
        elif self._options["merge"] == "grid":
            part = _with_passes(_of_grid(grids.mean(1), *found), grids, found[0])
        else:
            each = [_of_grid(grids[:, number], *found) for number in range(passes)]
            part = _merged(each, found[0], grids.shape[-1])
        if not embeddings:
            return part
        images = np.repeat(np.arange(len(part.counts)), part.counts)
        return part._replace(
            image_embeddings=features.mean((2, 3)).float().cpu().numpy(),
            object_embeddings=features.flatten(2)[images, :, part.cells].float().cpu().numpy(),
        )

    def _network(self) -> BoxNetwork:
        return BoxNetwork(self._options["channels"], len(self.class_names), self._options["dropout"])

    def _targets(self, dataset: Dataset, shape: tuple[int, int]) -> torch.Tensor:
        return box_targets(dataset, self.class_names, shape)

    def _outputs_a_pixel(self) -> float:
        return (len(self.class_names) + 4) / STRIDE**2


class _Part(NamedTuple):
    """The objects of some images; m objects."""

    counts: np.ndarray
    cells: np.ndarray
    boxes: np.ndarray
    confidences: np.ndarray
    sampled_boxes: np.ndarray | None = None
    sampled_confidences: np.ndarray | None = None
    image_embeddings: np.ndarray | None = None
    object_embeddings: np.ndarray | None = None

    @property
    def offsets(self) -> np.ndarray:
        return np.append(0, np.cumsum(self.counts)).astype(np.int64)

    def take(self, kept: np.ndarray) -> _Part:
        """Return the part with some of its objects."""
        owners = np.repeat(np.arange(len(self.counts)), self.counts)
        columns = [None if column is None else column[kept] for column in self[1:]]
        return _Part(np.bincount(owners[kept], minlength=len(self.counts)), *columns)


def _check_outputs(grids: torch.Tensor, ids: Sequence[Any]) -> None:
    """Raise a ValueError unless all outputs are finite: others would be no objects, without a word."""
    row = first_not_finite(grids)
    if row is not None:
        raise ValueError(
            f"the network's outputs for record {ids[row]} are not finite: its weights are damaged, such as by a"
            " training that diverged; load or train others"
        )


def _of_grid(grids: torch.Tensor, threshold: float, overlap: float) -> _Part:
    """Return the objects of confidences and boxes of cells, (B, C + 4, h, w)."""
    images, cells = peaks(grids, threshold, overlap)
    values = grids.flatten(2)[images, :, cells].float().cpu().numpy()
    counts = torch.bincount(images, minlength=len(grids)).cpu().numpy()
    return _Part(counts, cells.cpu().numpy(), values[:, -4:], values[:, :-4])


def _with_passes(part: _Part, grids: torch.Tensor, threshold: float) -> _Part:
    """Add what each pass (B, T, C + 4, h, w) says at the cells of the objects."""
    images = np.repeat(np.arange(len(part.counts)), part.counts)
    values = grids.flatten(3)[images, :, :, part.cells].float().cpu().numpy()
    best = values[..., :-4].max(2)
    # a mean is never above the best of the passes, but for its rounding
    values[best < np.minimum(threshold, best.max(1, keepdims=True))] = np.nan
    return part._replace(sampled_boxes=values[..., -4:], sampled_confidences=values[..., :-4])


def _merged(passes: list[_Part], threshold: float, width: int) -> _Part:
    """Merge the boxes of passes; what a pass did not find counts as a confidence of 0 in the mean."""
    samples = merge_boxes(passes)
    boxes, _ = samples.means()
    confidences = np.nan_to_num(samples.confidences).mean(axis=1)
    cells = ((boxes[:, :2] + boxes[:, 2:]) / 2 // STRIDE).clip(0).astype(np.int64)
    cells = cells[:, 1] * width + cells[:, 0].clip(max=width - 1)
    whole = _Part(np.diff(samples.offsets), cells, boxes, confidences, samples.boxes, samples.confidences)
    return whole.take(confidences.max(axis=1) >= threshold)
