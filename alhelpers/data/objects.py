"""Images with objects: their boxes and masks, and the maps of classes drawn from them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from alhelpers.data.arrays import ImageSet, Rows, rows_of
from alhelpers.data.masks import decode_mask

#: The value of a map's pixels that are not counted: those of crowds.
UNCOUNTED = 255


class Objects(NamedTuple):
    """The objects of N images, M in all, sorted by image.

    Attributes
    ----------
    offsets : numpy.ndarray of shape (N + 1,)
        Those of image i are the rows from ``offsets[i]`` to ``offsets[i + 1]``.
    boxes : numpy.ndarray of shape (M, 4)
        Left, top, right and bottom in pixels.
    classes : numpy.ndarray of shape (M,)
        Indices of classes.
    crowds : numpy.ndarray of shape (M,)
        Whether the box is around a crowd, in which objects are not told apart.
    masks : sequence of length M
        Of each object its polygons or run lengths as in COCO's format, or None.
    """

    offsets: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    crowds: np.ndarray
    masks: Sequence[Any]


class WithObjects:
    """What data sets with objects share; the label of a row, in their base, is its place among the objects.

    As ``task`` is "detection" or "segmentation", the labels are boxes or maps of classes.
    """

    _objects: Objects

    def labels(self, rows: Rows = None) -> Any:
        """Return the boxes of the rows, without those of crowds, or their maps of classes, by the task.

        Returns
        -------
        list of dict, or numpy.ndarray of shape (B, H, W)
            For detection one a box, as :mod:`alhelpers.evaluation` takes them: ``image_id`` (its id in ``ids``),
            ``label`` (its class name), ``left``, ``top``, ``right`` and ``bottom`` in pixels of what ``inputs``
            returns. For segmentation uint8: indices into ``class_names``, and 255 for crowds, which are not counted;
            where objects overlap, the later one of :meth:`object_masks` is in front.

        Raises
        ------
        ValueError
            If a row has no label; for segmentation also if an object has no mask, or the images differ in size.
        """
        if self.task == "segmentation":
            maps = [self._draw(place) for place in self._places(rows)]
            return np.stack(maps) if maps else np.zeros((0, 1, 1), dtype=np.uint8)
        return self._box_rows(rows, crowds=False)

    def crowds(self, rows: Rows = None) -> list[dict[str, Any]]:
        """Return the boxes around crowds (``iscrowd``), in which objects are not told apart, in the form of boxes."""
        return self._box_rows(rows, crowds=True)

    def object_masks(self, rows: Rows = None) -> list[np.ndarray]:
        """Return the masks of the objects of each row, one bool array (K, H, W) an image, in the order of its boxes.

        Raises
        ------
        ValueError
            If a row has no label, or an object no mask.
        """
        return [self._masks(place, crowds=False) for place in self._places(rows)]

    def segmentation(self) -> Self:
        """Return the same images with maps of classes as labels; the first class name is "background".

        Raises
        ------
        ValueError
            If there are more than 254 classes.
        """
        if self.task == "segmentation":
            return self
        if len(self.class_names) >= UNCOUNTED:
            raise ValueError(
                f"{len(self.class_names)} classes are too many for maps of 8 bits: keep at most 254"
            )
        made = copy.copy(self)
        made.task, made.class_names = "segmentation", ("background", *self.class_names)
        return made

    def _places(self, rows: Rows) -> list[int]:
        return super().labels(rows).tolist()

    def _sizes_of(self, place: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return height and width of an image as its objects are stored, and as ``inputs`` returns it."""
        raise NotImplementedError

    def _rows_of(self, place: int, *, crowds: bool) -> np.ndarray:
        first, last = self._objects.offsets[place : place + 2]
        return np.flatnonzero(self._objects.crowds[first:last] == crowds) + first

    def _box_rows(self, rows: Rows, *, crowds: bool) -> list[dict[str, Any]]:
        found = []
        names = self.class_names[self.task == "segmentation" :]
        for name, place in zip(rows_of(self.ids, rows).tolist(), self._places(rows), strict=True):
            kept = self._rows_of(place, crowds=crowds)
            stored, shown = self._sizes_of(place)
            scale = np.array([shown[1] / stored[1], shown[0] / stored[0]] * 2)
            sides = (self._objects.boxes[kept] * scale).tolist()
            for label, (left, top, right, bottom) in zip(
                self._objects.classes[kept].tolist(), sides, strict=True
            ):
                row = {"image_id": name, "label": names[label]}
                found.append(row | {"left": left, "top": top, "right": right, "bottom": bottom})
        return found

    def _masks(self, place: int, *, crowds: bool) -> np.ndarray:
        stored, shown = self._sizes_of(place)
        found = [
            decode_mask(self._objects.masks[row], *stored) for row in self._rows_of(place, crowds=crowds)
        ]
        return np.stack(found) if found else np.zeros((0, *shown), dtype=bool)

    def _draw(self, place: int) -> np.ndarray:
        map_ = np.zeros(self._sizes_of(place)[1], dtype=np.uint8)
        for mask in self._masks(place, crowds=True):
            map_[mask] = UNCOUNTED
        classes = self._objects.classes[self._rows_of(place, crowds=False)] + 1
        for mask, label in zip(self._masks(place, crowds=False), classes, strict=True):
            map_[mask] = label
        return map_


class ObjectSet(WithObjects, ImageSet):
    """Images with objects, in memory.

    Parameters
    ----------
    name : str
        The data set's name.
    images : numpy.ndarray, shape (N, H, W) or (N, H, W, C), uint8
        Grey levels or colours, 0 to 255.
    objects : Objects
        The boxes of all images, and their masks.
    class_names : sequence of str
        One name a class.
    ids : sequence of length N, optional
        One distinct id an image; the default is the name and the row.
    """

    def __init__(
        self,
        name: str,
        images: np.ndarray,
        objects: Objects,
        class_names: Sequence[str],
        *,
        ids: Sequence[Any] | None = None,
    ) -> None:
        super().__init__(name, images, np.arange(len(images)), class_names, task="detection", ids=ids)
        self._objects = objects

    def _sizes_of(self, place: int) -> tuple[tuple[int, int], tuple[int, int]]:
        size = self.images.shape[1:3]
        return size, size
