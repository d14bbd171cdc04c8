"""The objects of images as arrays: boxes, classes and masks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from alhelpers.data.box_rows import SIDES, sides_of
from alhelpers.data.masks import check_segmentation, decode_mask, encode_mask, resize_segmentation

#: The value of a map's pixels that are not counted: those of crowds.
UNCOUNTED = 255


@dataclass(frozen=True)
class Objects:
    """The objects of N images, M in all, sorted by image.

    Attributes
    ----------
    sizes : numpy.ndarray of shape (N, 2)
        Height and width of each image in pixels.
    offsets : numpy.ndarray of shape (N + 1,)
        The objects of image i are the rows from ``offsets[i]`` to ``offsets[i + 1]``.
    boxes : numpy.ndarray of shape (M, 4)
        Left, top, right and bottom in pixels.
    classes : numpy.ndarray of shape (M,)
        Indices of classes.
    is_crowd : numpy.ndarray of shape (M,), bool
        Whether the box is around a crowd, in which objects are not told apart.
    segmentations : tuple of length M
        The mask of each object in COCO's form, as :func:`encode_mask` returns it or as polygons, or None.
    """

    sizes: np.ndarray
    offsets: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    is_crowd: np.ndarray
    segmentations: tuple[Any, ...]

    @classmethod
    def from_rows(
        cls,
        rows: Sequence[Mapping[str, Any]],
        ids: Sequence[Any],
        sizes: Sequence[int] | Sequence[Sequence[int]],
        class_names: Sequence[str],
        *,
        masks: Sequence[Any] | None = None,
        is_crowd: Sequence[bool] | None = None,
    ) -> Self:
        """Return the objects of box rows, checked.

        Parameters
        ----------
        rows : sequence of dict
            One a box, in any order: ``image_id``, ``label``, ``left``, ``top``, ``right``, ``bottom``.
        ids : sequence of length N
            The ids of the images, also of those without a box.
        sizes : (int, int), or one such pair an image
            Height and width of the images.
        class_names : sequence of str
            The classes; their order numbers them.
        masks : sequence, optional
            Of each row the mask, bool (H, W), its polygons or run lengths in COCO's form, or None.
        is_crowd : sequence of bool, optional
            Of each row whether it is a crowd.

        Raises
        ------
        ValueError
            If ids, class names or sizes are not valid, a row is of an image or a class that is not there, a box is not
            finite, has no area or is outside of its image, or a mask is of another size, not of zeros and ones, or has
            no pixel in its box; the message names it.
        """
        if hasattr(rows, "columns"):
            raise ValueError(
                'rows are a DataFrame: they must be a list of dicts, such as rows.to_dict("records")'
            )
        places = _numbered("ids", np.asarray(ids).tolist())
        classes = _numbered("class_names", list(map(str, class_names)))
        sides = [sides_of(row, f"row {number}") for number, row in enumerate(rows)]
        for number, row in enumerate(rows):
            for field, known, what in (("image_id", places, "ids"), ("label", classes, "class_names")):
                if not isinstance(row.get(field), Hashable) or row.get(field) not in known:
                    raise ValueError(
                        f"row {number} has {field} {row.get(field)!r}, which is not among the {what}: add it there, or"
                        " leave the row out"
                    )
        for name, given in (("masks", masks), ("is_crowd", is_crowd)):
            if given is not None and len(given) != len(rows):
                raise ValueError(
                    f"{name} has the length {len(given)}: it must have one entry a row, {len(rows)}"
                )
        image = np.array([places[row["image_id"]] for row in rows], dtype=np.intp)
        order = np.argsort(image, kind="stable")
        taken = [rows[number] for number in order.tolist()]
        forms = [None if masks is None else masks[number] for number in order.tolist()]
        found = cls(
            _checked_sizes(sizes, len(places)),
            np.searchsorted(image[order], np.arange(len(places) + 1)),
            np.array(sides, dtype=float).reshape(-1, 4)[order],
            np.array([classes[row["label"]] for row in taken], dtype=np.intp),
            np.zeros(len(rows), dtype=bool) if is_crowd is None else np.asarray(is_crowd, dtype=bool)[order],
            tuple(encode_mask(form) if isinstance(form, np.ndarray) else form for form in forms),
        )
        found.check(list(places), len(classes))
        for row, form in enumerate(forms):
            if isinstance(form, np.ndarray):
                _check_mask(form, found.boxes[row], f"image {_name(list(places), found.images()[row])}")
        return found

    def check(self, ids: Sequence[Any], classes: int) -> None:
        """Raise a ValueError that names the first object which is not one of its image."""
        counts = [len(self.boxes), len(self.classes), len(self.is_crowd), len(self.segmentations)]
        rises = len(self.offsets) == len(self.sizes) + 1 and (np.diff(self.offsets) >= 0).all()
        if (
            not rises
            or len({*counts, int(self.offsets[-1])}) > 1
            or self.offsets[0]
            or len(ids) != len(self.sizes)
        ):
            raise ValueError(
                f"objects of {len(self.sizes)} images have {counts} boxes, classes, is_crowd and segmentations, and"
                f" offsets up to {self.offsets[-1]}, for {len(ids)} ids: they must be as many"
            )
        image = self.images()
        inside = (self.boxes[:, :2] >= 0).all(1) & (self.boxes[:, 2:] <= self.sizes[image][:, ::-1]).all(1)
        for wrong, what in (
            (~np.isfinite(self.boxes).all(1), "is not finite"),
            (~(self.boxes[:, :2] < self.boxes[:, 2:]).all(1), "has no area"),
            (~inside, "is not inside of its image"),
            ((self.classes < 0) | (self.classes >= classes), f"is of no class of {classes}"),
        ):
            if wrong.any():
                row = int(np.argmax(wrong))
                (height, width), name = self.sizes[image[row]].tolist(), _name(ids, image[row])
                raise ValueError(
                    f"the box {self.boxes[row].tolist()} of image {name}, {width} wide and {height} high, {what}:"
                    " correct it, or leave it out"
                )
        for row, segmentation in enumerate(self.segmentations):
            try:
                if segmentation is not None:
                    check_segmentation(segmentation, *self.sizes[image[row]].tolist())
            except ValueError as error:
                raise ValueError(
                    f"the segmentation of box {self.boxes[row].tolist()} of image {_name(ids, image[row])} {error}"
                ) from error

    def __len__(self) -> int:
        return len(self.boxes)

    def images(self) -> np.ndarray:
        """Return the place of the image of each object, (M,)."""
        return np.repeat(np.arange(len(self.sizes)), np.diff(self.offsets))

    def take(self, places: np.ndarray) -> Self:
        """Return the objects of the images at these places, in their order."""
        places = np.asarray(places, dtype=np.intp)
        starts, counts = self.offsets[places], np.diff(self.offsets)[places]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        return self._of(
            np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], counts), offsets, self.sizes[places]
        )

    def only(self, kept: np.ndarray) -> Self:
        """Return the objects for which ``kept`` (M,) is true, of all images."""
        before = np.concatenate([[0], np.cumsum(kept)])
        return self._of(np.flatnonzero(kept), before[self.offsets], self.sizes)

    def _of(self, rows: np.ndarray, offsets: np.ndarray, sizes: np.ndarray) -> Self:
        segmentations = tuple(self.segmentations[row] for row in rows.tolist())
        return replace(
            self,
            sizes=sizes,
            offsets=offsets,
            boxes=self.boxes[rows],
            classes=self.classes[rows],
            is_crowd=self.is_crowd[rows],
            segmentations=segmentations,
        )

    def without_masks(self) -> Self:
        """Return the objects with their boxes alone."""
        return replace(self, segmentations=(None,) * len(self))

    def resized(self, size: tuple[int, int]) -> Self:
        """Return the objects of the images as they are at one height and width."""
        image = self.images()
        scale = (np.array(size) / self.sizes)[:, ::-1]
        segmentations = tuple(
            None if one is None else resize_segmentation(one, *self.sizes[place].tolist(), size)
            for one, place in zip(self.segmentations, image.tolist(), strict=True)
        )
        return replace(
            self,
            sizes=np.broadcast_to(np.array(size), self.sizes.shape),
            boxes=self.boxes * np.tile(scale, 2)[image],
            segmentations=segmentations,
        )

    def rows(self, ids: Sequence[Any], class_names: Sequence[str]) -> list[dict[str, Any]]:
        """Return one dict a box, as :mod:`alhelpers.evaluation` takes them."""
        names = np.asarray(ids).tolist()
        return [
            {"image_id": names[image], "label": class_names[label], **dict(zip(SIDES, sides, strict=True))}
            for image, label, sides in zip(
                self.images().tolist(), self.classes.tolist(), self.boxes.tolist(), strict=True
            )
        ]

    def masks(self, ids: Sequence[Any]) -> list[np.ndarray]:
        """Return the masks of each image, bool (K, H, W); a ValueError names the first object without one."""
        image = self.images()
        missing = next((row for row, one in enumerate(self.segmentations) if one is None), None)
        if missing is not None:
            raise ValueError(
                f"the box {self.boxes[missing].tolist()} of image {_name(ids, image[missing])} has no segmentation:"
                " add it where the objects come from, or use the boxes alone"
            )
        found = []
        for (height, width), first, last in zip(
            self.sizes.tolist(), self.offsets[:-1].tolist(), self.offsets[1:].tolist(), strict=True
        ):
            masks = np.zeros((last - first, height, width), dtype=bool)
            for row in range(first, last):
                masks[row - first] = decode_mask(self.segmentations[row], height, width)
            found.append(masks)
        return found

    def maps(self, ids: Sequence[Any]) -> list[np.ndarray]:
        """Return a map of classes of each image, (H, W) uint8: 0 stands for no object, 255 for a crowd.

        Objects cover crowds, and those that come later cover the earlier ones.
        """
        found = []
        for place, masks in enumerate(self.masks(ids)):
            taken = slice(*self.offsets[place : place + 2])
            values = np.where(self.is_crowd[taken], UNCOUNTED, self.classes[taken] + 1)
            drawn = np.zeros(masks.shape[1:], dtype=np.uint8)
            for number in np.argsort(~self.is_crowd[taken], kind="stable").tolist():
                drawn[masks[number]] = values[number]
            found.append(drawn)
        return found


def _name(ids: Sequence[Any], place: int) -> str:
    """Return an id as errors name it; numpy's texts have another representation."""
    return repr(np.asarray(ids)[place].item())


def _numbered(what: str, names: list[Any]) -> dict[Any, int]:
    """Return the place of each name, or raise a ValueError that names the first that is there twice."""
    places: dict[Any, int] = {}
    for place, name in enumerate(names):
        if places.setdefault(name, place) != place:
            raise ValueError(f"{what} hold {name!r} twice: they must be distinct")
    return places


def _checked_sizes(sizes: Any, count: int) -> np.ndarray:
    """Return height and width of each image, (N, 2), or raise a ValueError."""
    found = np.asarray(sizes)
    if found.shape not in ((2,), (count, 2)):
        raise ValueError(
            f"sizes have the shape {found.shape}: they must be a height and a width, or such a pair for each of the"
            f" {count} images"
        )
    if found.size and (found.dtype.kind not in "iu" or found.min() < 1):
        raise ValueError(f"sizes are {found.tolist()}: they must be whole numbers of at least 1")
    return np.broadcast_to(found.astype(np.intp), (count, 2))


def _check_mask(mask: np.ndarray, box: np.ndarray, image: str) -> None:
    """Raise a ValueError unless a mask is of zeros and ones, and has a pixel in its box."""
    where = f"the mask of box {box.tolist()} of {image}"
    if mask.dtype.kind not in "biu" and not np.isin(mask, (0, 1)).all():
        raise ValueError(f"{where} has values other than 0 and 1: pass bool, such as mask >= 0.5")
    left, top = np.floor(box[:2]).astype(int).tolist()
    right, bottom = np.ceil(box[2:]).astype(int).tolist()
    if not mask[top:bottom, left:right].any():
        raise ValueError(
            f"{where} has no pixel in it: correct the mask or the box, or pass None for the mask"
        )
