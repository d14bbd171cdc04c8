"""The grid of a detector: its loss, its peaks and its augmentation, against plain definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alhelpers import evaluation
from alhelpers.learners import _scene_augmentation as augmentation
from alhelpers.learners._box_decoding import activated, peaks, split
from alhelpers.learners._box_loss import _giou, box_loss

CLASSES, SIDE = 3, 6


def outputs(seed=0, images=2):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, CLASSES + 5, SIDE, SIDE, generator=generator)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    threshold=st.sampled_from([0.02, 0.2, 0.4]),
    overlap=st.sampled_from([0.2, 0.6]),
)
def test_peaks_are_those_of_a_plain_loop(seed, threshold, overlap):
    grids = activated(outputs(seed), (SIDE * 4, SIDE * 4))
    images, cells = peaks(grids, threshold, overlap)
    expected = []
    for image, grid in enumerate(grids.double().numpy()):
        heat, found = grid[:-4].max(0), []
        for y in range(SIDE):
            for x in range(SIDE):
                near = heat[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
                if heat[y, x] >= threshold and heat[y, x] == near.max():
                    found.append((heat[y, x], y * SIDE + x))
        kept = []
        for _, cell in sorted(found, reverse=True):
            boxes = grid[-4:].reshape(4, -1).T
            if all(evaluation.iou(boxes[[cell]], boxes[[other]])[0, 0] <= overlap for other in kept):
                kept.append(cell)
        expected += [(image, cell) for cell in kept]
    assert list(zip(images.tolist(), cells.tolist(), strict=True)) == expected


def test_giou_is_the_published_one():
    """Rezatofighi et al.: IoU - (hull - union) / hull."""
    draw = np.random.default_rng(0)
    low = draw.uniform(0, 10, (2, 40, 2))
    boxes = np.concatenate([low, low + draw.uniform(0.5, 8, (2, 40, 2))], axis=2)
    found = _giou(*torch.from_numpy(boxes)).numpy()
    for one, other, value in zip(*boxes, found, strict=True):
        iou = evaluation.iou(one[None], other[None])[0, 0]
        areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
        union = sum(areas) / (1 + iou)
        hull = np.prod(np.maximum(one[2:], other[2:]) - np.minimum(one[:2], other[:2]))
        assert value == pytest.approx(iou - (hull - union) / hull, abs=1e-9)


def perfect(targets):
    """The outputs that are right for boxes: at the cells of their centres."""
    found = torch.zeros(len(targets), CLASSES + 5, SIDE, SIDE)
    found[:, CLASSES] = -12.0
    for image, boxes in enumerate(targets):
        for left, top, right, bottom, label in boxes.tolist():
            if label < 0:
                continue
            x, y = int((left + right) / 8), int((top + bottom) / 8)
            found[image, CLASSES, y, x], found[image, int(label), y, x] = 12.0, 12.0
            sides = torch.tensor([4 * x + 2 - left, 4 * y + 2 - top, right - 4 * x - 2, bottom - 4 * y - 2])
            found[image, -4:, y, x] = (sides / 4).log()
    return found


def test_the_loss_is_least_for_the_right_boxes():
    targets = torch.tensor([[[2.0, 2, 12, 14, 1], [0, 0, 0, 0, -1]], [[8, 6, 22, 20, 2], [1, 16, 7, 23, 0]]])
    right = perfect(targets)
    images, cells = peaks(activated(right, (24, 24)), 0.5, 0.5)
    np.testing.assert_allclose(split(right)[2].flatten(2)[images, :, cells], [
        [2, 2, 12, 14], [8, 6, 22, 20], [1, 16, 7, 23]], atol=1e-4)  # fmt: skip
    least = box_loss(right, targets)
    order = torch.tensor([[1, 0], [0, 1]])[..., None].expand_as(targets)
    torch.testing.assert_close(box_loss(right, targets.gather(1, order)), least)
    for seed in range(5):
        assert box_loss(right + outputs(seed), targets) > least
    empty = torch.full((2, 1, 5), -1.0)
    assert box_loss(perfect(empty), empty) == pytest.approx(0, abs=1e-6)
    assert torch.isfinite(box_loss(outputs(), empty))


def painted(count=12, side=48):
    """Images whose boxes and maps can be read from their pixels: one filled box of a value of its own each."""
    draw = np.random.default_rng(3)
    images, boxes = torch.zeros(count, 1, side, side), torch.full((count, 2, 5), -1.0)
    for number in range(count):
        left, top = draw.integers(4, 20, 2).tolist()
        right, bottom = left + int(draw.integers(8, 20)), top + int(draw.integers(8, 20))
        images[number, 0, top:bottom, left:right] = 1 + number
        boxes[number, 0] = torch.tensor([left, top, right, bottom, number])
    return images, boxes


def test_boxes_and_maps_move_with_the_pixels(monkeypatch):
    monkeypatch.setattr(augmentation, "recoloured", lambda images, generator: images)
    images, boxes = painted()
    seen = 0
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        moved, found = augmentation.moved_boxes(images, boxes, generator, 0.7)
        assert moved.shape == images.shape and (found[..., :4][found[..., 4] >= 0] >= 0).all()
        for image, rows in zip(moved, found, strict=True):
            for left, top, right, bottom, label in rows[rows[:, 4] >= 0].tolist():
                # what is inside, but for the smooth edge, is of the box's own value
                inside = image[0, int(top) + 2 : int(bottom) - 1, int(left) + 2 : int(right) - 1]
                assert (inside - (label + 1)).abs().max() < 1e-3
                seen += 1
        both, maps = augmentation.moved_maps(images, images[:, 0].byte(), generator, 0.7)
        edges = both[:, 0] != maps
        assert edges.float().mean() < 0.2 and set(maps.unique().tolist()) <= set(range(13))
    assert seen > 60
