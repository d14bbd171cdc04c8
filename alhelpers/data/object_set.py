"""Images with objects: as detection the labels are boxes, as segmentation maps of classes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from alhelpers.data.arrays import ImageSet, Rows, rows_of
from alhelpers.data.objects import UNCOUNTED, Objects


class WithObjects:
    """What data sets with objects share. In their base the label of a row is the place of its image in the objects."""

    _objects: Objects
    # Height and width of the images in what inputs returns, if they are resized.
    size: tuple[int, int] | None = None

    def labels(self, rows: Rows = None) -> Any:
        """Return the boxes of the rows, without those of crowds, or their maps of classes, as ``task`` says.

        Returns
        -------
        list of dict, or numpy.ndarray of shape (B, H, W)
            For detection one a box, as :mod:`alhelpers.evaluation` takes them: ``image_id`` (its id in ``ids``),
            ``label`` (its class name), ``left``, ``top``, ``right`` and ``bottom`` in pixels of what ``inputs``
            returns. For segmentation uint8: places in ``class_names``, and 255 for crowds, which are not to be counted.
            Objects cover crowds, and those that come later cover the earlier ones.

        Raises
        ------
        ValueError
            If a row has no label; for segmentation also if an object has no mask, or the images differ in size.
        """
        if self.task != "segmentation":
            return self._boxes(rows, crowds=False)
        maps = self.objects(rows).maps(rows_of(self.ids, rows))
        if len({drawn.shape for drawn in maps}) > 1:
            raise ValueError("the images differ in size: pass size= where the data set is made")
        return np.stack(maps) if maps else np.zeros((0, *(self.size or (1, 1))), dtype=np.uint8)

    def crowds(self, rows: Rows = None) -> list[dict[str, Any]]:
        """Return the boxes around crowds, in which objects are not told apart, as rows with ``iscrowd`` of 1."""
        return [{**row, "iscrowd": 1} for row in self._boxes(rows, crowds=True)]

    def object_masks(self, rows: Rows = None) -> list[np.ndarray]:
        """Return the masks of the objects of each row, one bool array (K, H, W) an image, in the order of its boxes.

        Raises
        ------
        ValueError
            If a row has no label, or an object no mask.
        """
        found = self._stored(rows)
        return self._resized(found.only(~found.is_crowd)).masks(rows_of(self.ids, rows))

    def objects(self, rows: Rows = None) -> Objects:
        """Return the objects of the rows as arrays, in pixels of what ``inputs`` returns."""
        return self._resized(self._stored(rows))

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
                f"{len(self.class_names)} classes are too many for maps of 8 bits: keep at most {UNCOUNTED - 1}"
            )
        made = copy.copy(self)
        made.task, made.class_names = "segmentation", ("background", *self.class_names)
        return made

    def _stored(self, rows: Rows) -> Objects:
        return self._objects.take(super().labels(rows))

    def _resized(self, objects: Objects) -> Objects:
        return objects if self.size is None else objects.resized(self.size)

    def _boxes(self, rows: Rows, *, crowds: bool) -> list[dict[str, Any]]:
        found = self._stored(rows)
        found = found.only(found.is_crowd == crowds).without_masks()
        names = self.class_names[self.task == "segmentation" :]
        return self._resized(found).rows(rows_of(self.ids, rows), names)


class ObjectSet(WithObjects, ImageSet):
    """Images with objects, in memory.

    Parameters
    ----------
    name : str
        The data set's name.
    images : numpy.ndarray, shape (N, H, W) or (N, H, W, C), uint8
        Grey levels or colours, 0 to 255.
    objects : Objects
        The objects of all images; :meth:`Objects.from_rows` makes them of boxes and masks.
    class_names : sequence of str
        One name a class.
    ids : sequence of length N, optional
        One distinct id an image; the default is the name and the row.

    Raises
    ------
    ValueError
        If an object is not one of its image, or the images are not of the objects' sizes; the message names it.
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
        objects.check(self.ids, len(self.class_names))
        differ = (objects.sizes != images.shape[1:3]).any(axis=1)
        if differ.any():
            row = int(np.argmax(differ))
            raise ValueError(
                f"image {self.ids[row].item()!r} is {images.shape[1]} high and {images.shape[2]} wide, but its objects"
                f" are of one of {objects.sizes[row].tolist()}: resize them with .resized"
            )
        self._objects = objects
