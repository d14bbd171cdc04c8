"""A small segmenter: the class of each pixel, in plain torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch

from alhelpers.data.objects import UNCOUNTED
from alhelpers.learners._map_decoding import at_pixels, passes_at_pixels
from alhelpers.learners._map_loss import map_loss
from alhelpers.learners._map_targets import map_targets
from alhelpers.learners._scene_augmentation import moved_maps
from alhelpers.learners.grid_learner import GridLearner
from alhelpers.learners.grid_network import STRIDE, MapNetwork, passes_of
from alhelpers.learners.predictions import listed_names
from alhelpers.learners.segmentation_predictions import (
    SegmentationPredictions,
    image_scores,
    joined,
    score_maps,
)
from alhelpers.protocols import Dataset, Task
from alhelpers.training.devices import Device, working_on
from alhelpers.uncertainty._torch import kept_modes


class Segmenter(GridLearner):
    """Find the class of each pixel: a :class:`~alhelpers.protocols.Learner` of maps.

    A convolutional network of 180,000 parameters: a :class:`Detector` whose cells also predict which of their 4 x 4
    pixels are foreground. The class of a pixel is that of the objects' centres nearby. For training, connected pixels
    of a class are taken for an object. Dropout comes last here too, so that many passes share all that is costly.

    Parameters
    ----------
    class_names : sequence of str
        The C classes, in the order of the data sets' names; the first is the background.
    channels, dropout, steps, augmentation, prediction_batch_size, device, seed
        As of :class:`Detector`.
    batch_size, learning_rate, patience, evaluations
        As of :func:`alhelpers.training.train`.

    Attributes
    ----------
    network : torch.nn.Module
        Takes images (B, channels, H, W) from 0 to 1.
    class_names : tuple of str

    Notes
    -----
    Inputs are as those of :class:`Detector`. Labels are maps (B, H, W) of class indices; pixels of 255 are not counted.

    References
    ----------
    Those of :class:`Detector`; Ronneberger, Fischer and Brox, "U-Net", MICCAI 2015; Shi et al., "Real-time single image
    and video super-resolution using an efficient sub-pixel convolutional neural network", CVPR 2016; Kendall and Gal,
    "What uncertainties do we need in Bayesian deep learning for computer vision?", NeurIPS 2017.
    """

    task: ClassVar[Task] = "segmentation"
    _moved = staticmethod(moved_maps)
    _loss = staticmethod(map_loss)

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
        prediction_batch_size: int = 64,
        device: Device = None,
        seed: int = 0,
    ) -> None:
        class_names = listed_names(class_names)
        if not 2 <= len(class_names) <= UNCOUNTED:
            raise ValueError(
                f"class_names are {len(class_names)}: they must be at least 2, the background first, and at most 255"
            )
        options = {
            "channels": channels,
            "dropout": dropout,
            "steps": steps,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "augmentation": augmentation,
            "patience": patience,
            "evaluations": evaluations,
            "prediction_batch_size": prediction_batch_size,
            "device": device,
        }
        super().__init__(class_names, options, seed)

    def predict(
        self, dataset: Dataset, *, passes: int = 0, embeddings: bool = False, seed: int = 0
    ) -> SegmentationPredictions:
        """Predict without changing the model.

        Parameters
        ----------
        dataset : Dataset
            N images, read part by part.
        passes : int
            The number T of passes with dropout on: 0, or at least 2. They are summed up part by part, and not kept.
        embeddings : bool
            Whether to return embeddings of the images, the means of their features.
        seed : int
            Of the passes.

        Returns
        -------
        SegmentationPredictions
            With passes, the confidences are their means. ``image_scores`` has ``entropy`` and ``margin``, and with
            passes ``bald``, each also as ``*_top`` and ``*_foreground``.

        Raises
        ------
        ValueError
            If the data set is empty or has other classes, passes is not valid, or an image is not
            finite.
        """
        with working_on(self.device, self.network):
            found = [
                self._predict_part(images, passes, embeddings, seed)
                for _, images in self._parts(dataset, passes)
            ]
        confidences, reduced, vectors = zip(*found, strict=True)
        return SegmentationPredictions(
            np.concatenate(confidences),
            self.class_names,
            np.concatenate(vectors) if embeddings else None,
            joined(reduced),
        )

    def samples(self, dataset: Dataset, passes: int = 20, *, seed: int = 0) -> np.ndarray:
        """Return what each pass predicts, to look at a few images; :meth:`predict` sums the same passes up.

        Parameters
        ----------
        dataset : Dataset
            N images.
        passes : int
            The number T of passes with dropout on, at least 2.
        seed : int
            Of the passes.

        Returns
        -------
        numpy.ndarray of shape (N, T, C, H, W), float32
            Confidences, as :func:`alhelpers.scores.pixel_map` takes them.

        Raises
        ------
        ValueError
            As of :meth:`predict`, and for fewer passes.
        """
        if not passes:
            raise ValueError("passes is 0: it must be at least 2")
        found = []
        with working_on(self.device, self.network), kept_modes(self.network), torch.inference_mode():
            for _, images in self._parts(dataset, passes):
                outputs = passes_of(self.network.head, self.network.features(images), passes, seed)
                pixels = at_pixels(outputs.flatten(0, 1), images.shape[2:]).exp()
                found.append(pixels.clamp(0, 1).unflatten(0, (-1, passes)).float().cpu().numpy())
        return np.concatenate(found)

    def _predict_part(
        self, images: torch.Tensor, passes: int, embeddings: bool, seed: int
    ) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray | None]:
        """Return confidences, image scores and embeddings."""
        network, size = self.network, images.shape[2:]
        with kept_modes(network), torch.inference_mode():
            features = network.features(images)
            if passes:
                outputs = passes_of(network.head, features, passes, seed)
                means, entropies = passes_at_pixels(outputs, size)
            else:
                means = at_pixels(network.head(features), size).exp()
        confidences = means.clamp(0, 1).float().cpu().numpy()
        maps = score_maps(confidences)
        if passes:
            expected = entropies.float().cpu().numpy() / np.float32(np.log(len(self.class_names)))
            maps["bald"] = np.maximum(maps["entropy"] - expected, 0)
        vectors = features.mean((2, 3)).float().cpu().numpy() if embeddings else None
        return confidences, image_scores(maps, confidences), vectors

    def _network(self) -> MapNetwork:
        return MapNetwork(self._options["channels"], len(self.class_names), self._options["dropout"])

    def _targets(self, dataset: Dataset, shape: tuple[int, int]) -> torch.Tensor:
        return map_targets(dataset, self.class_names, shape)

    def _outputs_a_pixel(self) -> float:
        return (len(self.class_names) + 20) / STRIDE**2
