"""Images with boxes and masks in files."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from alhelpers.data.arrays import ImageSet
from alhelpers.data.image_files import FolderDataset, Problem
from alhelpers.data.images import UnreadableImage, upright_size
from alhelpers.data.object_set import ObjectSet, WithObjects


class ObjectFiles(WithObjects, FolderDataset):
    """Images with objects, in the files of a folder; the label of a file is its place among the objects.

    Those of ``spoilt`` (what is wrong by the id) have labels that cannot be used, and are among :attr:`problems`.
    """

    def __init__(self, *arguments: Any, spoilt: Mapping[str, str] | None = None, **options: Any) -> None:
        self._spoilt = spoilt or {}
        listed = [Problem(id, "unreadable", reason) for id, reason in self._spoilt.items()]
        super().__init__(*arguments, problems=listed, **options)

    def load(self) -> ImageSet:
        """Return what can be read, in memory, with its objects; :attr:`problems` lists the rest.

        Returns
        -------
        ObjectSet, or ImageSet if an image has no label

        Raises
        ------
        ValueError
            If none can be read.

        Warns
        -----
        UserWarning
            If a file is left out.
        """
        return super().load()

    def _image_set(self, rows: list[int], images: np.ndarray) -> ImageSet:
        if not rows or not self._is_labelled[rows].all():
            return ImageSet(
                self.root.name, images, None, self.class_names, task=self.task, ids=self.ids[rows]
            )
        names = self.class_names[self.task == "segmentation" :]
        read = ObjectSet(self.root.name, images, self.objects(rows), names, ids=self.ids[rows])
        return read.segmentation() if self.task == "segmentation" else read

    def _labels_differ(self, first: int, second: int) -> bool:
        if not self._is_labelled[[first, second]].all():
            return False
        one, other = (self._boxes([row], crowds=False) for row in (first, second))
        return [{**row, "image_id": None} for row in one] != [{**row, "image_id": None} for row in other]

    def _decode(self, content: bytes, row: int) -> np.ndarray:
        if reason := self._spoilt.get(str(self.ids[row])):
            raise UnreadableImage(reason)
        height, width = self._objects.sizes[self._labels[row]].tolist()
        found = upright_size(io.BytesIO(content))
        if found != (height, width):
            raise UnreadableImage(
                f"it is {found[1]} pixels wide and {found[0]} high, but {width} and {height} where its boxes come from:"
                " they are of another image"
            )
        return super()._decode(content, row)
