"""What a segmenter predicts: the class of each pixel, and scores of whole images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from alhelpers import records, scores
from alhelpers.learners.predictions import check_members

if TYPE_CHECKING:
    import pyarrow as pa

#: The scores of samples by their names among the image scores.
OF_SAMPLES = {"entropy": "predictive_entropy", "margin": "mean_margin", "bald": "bald"}

# The share of pixels of which ``*_top`` is the mean.
_TOP_SHARE = 0.02


@dataclass(frozen=True, eq=False)
class SegmentationPredictions:
    """Predicted classes of the pixels of N images; what does not apply is None, numbers are float32.

    Parameters
    ----------
    confidences : numpy.ndarray of shape (N, C, H, W)
        Those of a pixel sum to 1.
    class_names : tuple of str, of length C
        The first is the background.
    embeddings : numpy.ndarray of shape (N, D), optional
    image_scores : dict of str to numpy.ndarray of shape (N,)
        Higher means label it first. Of each score of pixels, such as ``entropy``: ``entropy`` is the mean of all
        pixels, ``entropy_top`` that of the highest 2 %, and ``entropy_foreground`` that of the pixels whose class is
        not the background.

    Raises
    ------
    ValueError
        If shapes do not fit each other, or a confidence is not from 0 to 1.
    """

    confidences: np.ndarray
    class_names: tuple[str, ...]
    embeddings: np.ndarray | None = None
    image_scores: Mapping[str, np.ndarray] = field(default_factory=dict)

    task: ClassVar[str] = "segmentation"

    def __post_init__(self) -> None:
        given = np.asarray(self.confidences, dtype=np.float32)
        object.__setattr__(self, "confidences", given)
        object.__setattr__(self, "class_names", tuple(map(str, self.class_names)))
        if given.ndim != 4 or given.shape[1] != len(self.class_names):
            raise ValueError(
                f"confidences must have shape (N, {len(self.class_names)}, H, W), one map a class name, got"
                f" {given.shape}"
            )
        for image in range(len(given)):  # one by one, as all of them at once would need much memory
            if not (given[image].min() >= 0 and given[image].max() <= 1 + 1e-6):
                raise ValueError(
                    f"confidences of image {image} are not from 0 to 1: check the network's outputs"
                )
        for name, values in {"embeddings": self.embeddings, **self.image_scores}.items():
            if values is not None and len(values) != len(given):
                raise ValueError(f"{name} has {len(values)} rows, and there are {len(given)} images")

    def __len__(self) -> int:
        return len(self.confidences)

    @property
    def labels(self) -> np.ndarray:
        """The class of the highest confidence of each pixel, (N, H, W) uint8."""
        return self.confidences.argmax(axis=1).astype(np.uint8)

    def to_records(self, ids: Sequence[Any]) -> pa.Table:
        """Return the predictions as records, one an image, with the image's scores under ``metadata``.

        Any strategy takes one of them by its column, such as ``metadata.bald``.

        Parameters
        ----------
        ids : sequence of length N
            All strings or all whole numbers, each once.

        Returns
        -------
        pyarrow.Table
            As :func:`alhelpers.records.from_arrays` returns it.
        """
        columns = {name: values.tolist() for name, values in self.image_scores.items()}
        metadata = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        embeddings = {} if self.embeddings is None else {"embeddings": self.embeddings}
        return records.from_arrays(
            ids, class_names=list(self.class_names), metadata=metadata or None, **embeddings
        )

    @classmethod
    def merged(cls, predictions: Sequence[SegmentationPredictions]) -> SegmentationPredictions:
        """Return the means of several members' predictions, with the scores of their disagreement.

        Of members with passes, their means are taken. A ValueError is raised if there are none, or they are not of as
        many images, of one size, and of the same classes in the same order.
        """
        check_members(predictions)
        sizes = [each.confidences.shape[2:] for each in predictions]
        if len(set(sizes)) > 1:
            raise ValueError(f"the maps have the sizes {sizes}: predict the same images with each member")
        parts = []
        for image in range(len(predictions[0])):
            samples = np.stack([each.confidences[image : image + 1] for each in predictions], axis=1)
            parts.append((samples.mean(axis=1), image_scores(score_maps(samples), samples.mean(axis=1))))
        confidences = np.concatenate([part[0] for part in parts])
        first = predictions[0]
        return cls(confidences, first.class_names, first.embeddings, joined(part[1] for part in parts))


def score_maps(predictions: np.ndarray) -> dict[str, np.ndarray]:
    """Score the pixels of confidences (N, C, H, W), or of samples (N, T, C, H, W); maps are (N, H, W)."""
    if predictions.ndim == 4:
        return {name: scores.pixel_map(predictions, name) for name in ("entropy", "margin")}
    return {name: scores.pixel_map(predictions, score) for name, score in OF_SAMPLES.items()}


def image_scores(maps: Mapping[str, np.ndarray], confidences: np.ndarray) -> dict[str, np.ndarray]:
    """Reduce maps of pixel scores (N, H, W) to scores of images, (N,) float32.

    Of each, such as ``entropy``: ``entropy`` is the mean of all pixels, ``entropy_top`` that of the highest 2 %, and
    ``entropy_foreground`` that of the pixels whose class is not the background, 0 without any.
    """
    found = {}
    foreground = confidences.argmax(axis=1) > 0
    count = np.maximum(foreground.sum(axis=(1, 2)), 1)
    for name, values in maps.items():
        found[name] = scores.over_pixels(values)
        found[f"{name}_top"] = scores.over_pixels(values, "top_k", k=_TOP_SHARE)
        total = np.where(foreground, values, 0).sum(axis=(1, 2), dtype=np.float64)
        found[f"{name}_foreground"] = (total / count).astype(np.float32)
    return found


def joined(parts: Any) -> dict[str, np.ndarray]:
    """Join the image scores of several parts."""
    every = list(parts)
    return {name: np.concatenate([part[name] for part in every]) for name in every[0]}
