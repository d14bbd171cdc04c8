"""Images of scenes changed while training, together with their boxes or maps of classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.nn import functional

from alhelpers.data.objects import UNCOUNTED

# How far an image may be scaled and stretched, as a factor either way, and shifted, as a share of its size.
_SCALE, _STRETCH, _SHIFT = 1.25, 1.1, 0.12

# The share of images that are put together from four windows, and the share of these that are around an object.
_MOSAICS, _AROUND_OBJECTS = 0.8, 0.8

# The share of the steps after which there are no mosaics: a model that sees too many objects expects too many.
_UNTIL = 0.6

# A box that is cut to less than this share of its area is no object to find.
_LEAST_VISIBLE = 0.4


#: Changes a batch of which a share become mosaics.
Moved = Callable[[torch.Tensor, torch.Tensor, torch.Generator, float], tuple[torch.Tensor, torch.Tensor]]


class _Windows(NamedTuple):
    """Where new images are read: at ``scale * x + shift`` of the old ones, x and y from -1 to 1; both (B, 2)."""

    scale: torch.Tensor
    shift: torch.Tensor


class Moves:
    """The changes of a training of so many steps: ``moved_boxes`` or ``moved_maps``, first with mosaics, then without.

    Ge et al., "YOLOX", 2021, for the end without mosaics.
    """

    def __init__(self, moved: Moved, steps: int) -> None:
        self._moved, self._left = moved, round(_UNTIL * steps)

    def __call__(
        self, images: torch.Tensor, targets: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Change the batch of the next step."""
        self._left -= 1
        return self._moved(images, targets, generator, _MOSAICS if self._left >= 0 else 0.0)


def moved_boxes(
    images: torch.Tensor, targets: torch.Tensor, generator: torch.Generator, share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale, shift and recolour images (B, C, H, W) with boxes (B, K, 5); never flip them, as digits are read.

    Most of a scene is background, and what has to be learned are objects: a share of the images become mosaics of
    windows around objects. Bochkovskiy et al., "YOLOv4", 2020.
    """
    size, there = images.shape[2:], torch.nonzero(targets[..., 4] >= 0)
    mosaics = _number_of_mosaics(images, there, generator, share)
    windows = _drawn(len(images) - mosaics, images, generator)
    moved, boxes = _read(images[mosaics:], windows, size), _boxes_in(targets[mosaics:], windows, size, size)
    if mosaics:
        half, of = (size[0] // 2, size[1] // 2), _chosen(there, 4 * mosaics, generator)
        windows = _around(targets[of[:, 0], of[:, 1], :4], size, generator)
        moved = torch.cat([moved, _joined(_read(images[of[:, 0]], windows, half))])
        parts = _joined_boxes(_boxes_in(targets[of[:, 0]], windows, size, half), half)
        boxes = functional.pad(boxes, (0, 0, 0, parts.shape[1] - boxes.shape[1]), value=-1.0)
        boxes = torch.cat([boxes, parts])
    return recoloured(moved, generator), boxes


def moved_maps(
    images: torch.Tensor, targets: torch.Tensor, generator: torch.Generator, share: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Move and recolour images (B, C, H, W) with maps of classes (B, H, W), as :func:`moved_boxes` does."""
    size, there = images.shape[2:], torch.nonzero((targets > 0) & (targets != UNCOUNTED))
    maps = targets[:, None].to(images.dtype)
    mosaics = _number_of_mosaics(images, there, generator, share)
    windows = _drawn(len(images) - mosaics, images, generator)
    moved, read = (
        _read(images[mosaics:], windows, size),
        _read(maps[mosaics:], windows, size, "nearest"),
    )
    if mosaics:
        half, of = (size[0] // 2, size[1] // 2), _chosen(there, 4 * mosaics, generator)
        windows = _around(_extents(targets, of), size, generator)
        moved = torch.cat([moved, _joined(_read(images[of[:, 0]], windows, half))])
        read = torch.cat([read, _joined(_read(maps[of[:, 0]], windows, half, "nearest"))])
    return recoloured(moved, generator), read[:, 0].to(targets.dtype)


def _extents(maps: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    """Return the boxes (K, 4) around all of the class that is at pixels (K, 3) of maps, each in its image."""
    inside = maps[pixels[:, 0]] == maps[tuple(pixels.T)][:, None, None]
    sides = []
    for line in (inside.any(1), inside.any(2)):
        sides.append((line.byte().argmax(1), line.shape[1] - line.flip(1).byte().argmax(1)))
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom], 1).float()


def _number_of_mosaics(
    images: torch.Tensor, there: torch.Tensor, generator: torch.Generator, share: float
) -> int:
    """Return how many images become mosaics: at least one stays whole, and all do where there is no object."""
    drawn = int((torch.rand(len(images), generator=generator) < share).sum())
    is_even = not (images.shape[2] % 2 or images.shape[3] % 2)
    return min(drawn, len(images) - 1) if len(there) and is_even else 0


def _chosen(rows: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    return rows[torch.randint(len(rows), (count,), generator=generator).to(rows.device)]


def recoloured(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Change light and contrast, a little those of each channel."""
    draw = torch.rand(4, len(images), images.shape[1], 1, 1, generator=generator).to(images) - 0.5
    contrast = (1 + 0.6 * draw[0, :, :1]) * (1 + 0.2 * draw[1])
    middle = images.mean((2, 3), keepdim=True)
    return (images - middle) * contrast + middle + 0.2 * draw[2, :, :1] + 0.1 * draw[3]


def _drawn(count: int, like: torch.Tensor, generator: torch.Generator) -> _Windows:
    """Return windows of nearly the whole of images."""
    draw = torch.rand(count, 4, generator=generator).to(like) * 2 - 1
    return _Windows(_stretched(draw[:, :2]), draw[:, 2:] * 2 * _SHIFT)


def _around(boxes: torch.Tensor, size: torch.Size, generator: torch.Generator) -> _Windows:
    """Return windows of half the size around boxes (B, 4), which are inside if they fit, and some windows anywhere."""
    draw = torch.rand(len(boxes), 5, generator=generator).to(boxes)
    scale = _stretched(draw[:, :2] * 2 - 1) / 2
    low, high = (corner / boxes.new_tensor([size[1], size[0]]) * 2 - 1 for corner in boxes.split(2, 1))
    room = (scale - (high - low) / 2).clamp(min=0)
    jitter = draw[:, 2:4] * 2 - 1
    near = (low + high) / 2 + room * jitter
    return _Windows(scale, torch.where(draw[:, 4:] < _AROUND_OBJECTS, near, jitter / 2))


def _stretched(draw: torch.Tensor) -> torch.Tensor:
    """Return scales of x and y from numbers between -1 and 1, (B, 2)."""
    scale, stretch = _SCALE ** draw[:, 0], _STRETCH ** draw[:, 1]
    return torch.stack([scale * stretch, scale / stretch], 1)


def _read(
    planes: torch.Tensor, windows: _Windows, size: tuple[int, int], mode: str = "bilinear"
) -> torch.Tensor:
    matrices = torch.cat([torch.diag_embed(windows.scale), windows.shift[..., None]], 2)
    grid = functional.affine_grid(matrices, [*planes.shape[:2], *size], align_corners=False)
    return functional.grid_sample(planes, grid, mode, "border", align_corners=False)


def _boxes_in(
    targets: torch.Tensor, windows: _Windows, size: tuple[int, int], new: tuple[int, int]
) -> torch.Tensor:
    """Return boxes of images of a size as they are in windows, which become images of a new size."""
    old, wanted = (targets.new_tensor([width, height]) for height, width in (size, new))
    corners = targets[..., :4].unflatten(-1, (2, 2)) / old * 2 - 1
    corners = (corners - windows.shift[:, None, None]) / windows.scale[:, None, None]
    cut = corners.clamp(-1, 1)
    visible = _areas(cut) / _areas(corners).clamp(min=1e-9)
    classes = torch.where(visible >= _LEAST_VISIBLE, targets[..., 4], -1)
    return torch.cat([((cut + 1) / 2 * wanted).flatten(-2), classes[..., None]], -1)


def _areas(corners: torch.Tensor) -> torch.Tensor:
    return (corners[..., 1, :] - corners[..., 0, :]).clamp(min=0).prod(-1)


def _joined(parts: torch.Tensor) -> torch.Tensor:
    """Return images of four parts each, (4 B, C, h, w) to (B, C, 2 h, 2 w)."""
    lines = torch.cat([parts[0::2], parts[1::2]], 3)
    return torch.cat([lines[0::2], lines[1::2]], 2)


def _joined_boxes(boxes: torch.Tensor, half: tuple[int, int]) -> torch.Tensor:
    """Return the boxes (B, 4 K, 5) of images of four parts of a size, from those of the parts (4 B, K, 5)."""
    across, down = half[1], half[0]
    moves = boxes.new_tensor([[0, 0], [across, 0], [0, down], [across, down]])
    moves = torch.cat([moves, moves, moves.new_zeros(4, 1)], 1)
    return (boxes.unflatten(0, (-1, 4)) + moves[:, None]).flatten(1, 2)
