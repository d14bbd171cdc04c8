"""Masks as run lengths and polygons."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as peer

from alhelpers.data import decode_mask, encode_mask
from alhelpers.data.masks import _to_text
from alhelpers.data.polygons import fill_polygon, trace_polygons

# what pycocotools does with NumPy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

masks = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.booleans())


@given(masks)
@settings(max_examples=60, deadline=None)
def test_run_lengths_are_those_of_pycocotools(mask):
    encoded = encode_mask(mask)
    theirs = peer.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert encoded == {"size": list(mask.shape), "counts": theirs["counts"].decode()}
    assert (decode_mask(encoded, *mask.shape) == mask).all()


def test_long_runs_are_those_of_pycocotools():
    mask = np.zeros((700, 500), dtype=bool)
    mask[100:600, 300:310] = mask[5, 400:] = True
    encoded = encode_mask(mask)
    assert encoded["counts"].encode() == peer.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
    assert (decode_mask(encoded, 700, 500) == mask).all()


def test_run_lengths_may_be_numbers():
    mask = decode_mask({"size": [2, 3], "counts": [1, 2, 3]}, 2, 3)
    assert mask.tolist() == [[False, True, False], [True, False, False]]
    assert decode_mask({"size": [1, 2], "counts": (0, 2)}, 1, 2).all()


@given(masks)
@settings(max_examples=60, deadline=None)
def test_traced_polygons_cover_the_same_pixels(mask):
    polygons = trace_polygons(mask)
    if not mask.any():
        assert polygons == []
        return
    assert (decode_mask(polygons, *mask.shape) == mask).all()
    theirs = peer.decode(peer.merge(peer.frPyObjects(polygons, *mask.shape)))
    assert (theirs == mask).all()


def test_a_hole_and_parts_are_traced():
    mask = np.ones((5, 5), dtype=bool)
    mask[1:4, 1:4] = False
    mask[2, 2] = True
    ring, inner = sorted(trace_polygons(mask), key=len, reverse=True)
    assert len(inner) == 8 and len(ring) == 2 * (4 + 1 + 4 + 1)


def test_a_pixel_is_in_a_polygon_if_its_centre_is():
    assert fill_polygon([0.6, 0, 2.4, 0, 2.4, 2, 0.6, 2], 2, 4).tolist() == [[False, True, False, False]] * 2
    # crossed edges: even-odd
    assert fill_polygon([0, 0, 4, 4, 4, 0, 0, 4], 4, 4).sum() == 8


def test_polygons_differ_from_those_of_pycocotools_at_the_edge_alone():
    """It rounds edges to fifths of a pixel: 0.5 % of the pixels of these polygons are another's."""
    draw = np.random.default_rng(0)
    either = differ = 0
    for _ in range(100):
        height, width = draw.integers(20, 200, 2).tolist()
        angles = np.sort(draw.uniform(0, 2 * np.pi, draw.integers(3, 12)))
        radii = draw.uniform(0.2, 0.5, (len(angles), 1)) * min(height, width)
        points = np.array([width, height]) / 2 + radii * np.column_stack([np.cos(angles), np.sin(angles)])
        polygon = points.ravel().tolist()
        ours = fill_polygon(polygon, height, width)
        theirs = peer.decode(peer.merge(peer.frPyObjects([polygon], height, width))).astype(bool)
        either += np.count_nonzero(ours | theirs)
        differ += np.count_nonzero(ours ^ theirs)
        inner = np.pad(ours, 1)
        inner = inner[1:-1, 1:-1] & inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
        assert not (inner & ~theirs).any()
    assert differ / either < 0.01


def test_masks_are_resized():
    polygons = [[1, 1, 3, 1, 3, 3, 1, 3]]
    larger = decode_mask(polygons, 4, 4, size=(8, 12))
    assert larger.shape == (8, 12) and larger[2:6, 3:9].all() and larger.sum() == 4 * 6
    counts = encode_mask(decode_mask(polygons, 4, 4))
    assert (decode_mask(counts, 4, 4, size=(2, 2))).sum() == 0  # each covers a quarter
    whole = encode_mask(np.ones((4, 6), dtype=bool))
    assert decode_mask(whole, 4, 6, size=(3, 3)).all()


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [4, 5], "counts": [20]}, r"mask of size \[4, 5\], but its image has \[4, 6\]"),
        ({"counts": [24]}, "mask of size None"),
        ({"size": [4, 6], "counts": [20]}, "run lengths of 20 pixels, but its image has 24"),
        ({"size": [4, 6], "counts": [25, -1]}, "none may be below 0"),
        # sums that are 24 in 64 bits
        ({"size": [4, 6], "counts": [2**63 - 1, 2**63 - 1, 26]}, f"run lengths of {2**64 + 24} pixels"),
        ({"size": [4, 6], "counts": [2**64 - 1]}, "none may be below 0"),
        ({"size": [4, 6], "counts": _to_text(np.array([2**58] * 64 + [24]))}, f"of {2**64 + 24} pixels"),
        ({"size": [4, 6], "counts": [2.5, 21.5]}, "must be a text or a list of whole numbers"),
        ({"size": [4, 6], "counts": "X"}, "not run lengths: the text is not complete"),
        ({"size": [4, 6], "counts": "é"}, "has counts that are not run lengths"),
        ({"size": [4, 6], "counts": ""}, "not complete"),
        ({"size": [4, 6], "counts": None}, "must be a text or a list"),
        ([[0, 0, 4, 4]], "polygon of 4 numbers, which must be x, y of at least three points"),
        ([[0, 0, 4, 4, 1, 1, 2]], "polygon of 7 numbers"),
        ([[0, 0, 4, 4, 1, float("nan")]], "not a finite number"),
        ([[0, 0, 9, 4, 1, 1]], "reaches 3 pixels beyond its image, 6 wide and 4 high"),
        ([0, 0, 4, 4, 1, 1], "has the polygon 0, which must be a list of numbers"),
        ("mask", "must be a list of polygons"),
        ([], "must be a list of polygons"),
    ],
)
def test_wrong_segmentations_are_named(segmentation, message):
    with pytest.raises(ValueError, match=message):
        decode_mask(segmentation, 4, 6)


def test_wrong_masks_are_named():
    with pytest.raises(ValueError, match=r"the mask has the shape \(3,\)"):
        encode_mask(np.ones(3))
