"""Digit scenes: drawn from a seed."""

import numpy as np
import pytest

from alhelpers import data
from alhelpers.data.scenes import _pasted


@pytest.fixture(scope="module")
def scenes():
    return data.scenes(60, seed=1)


def test_a_scene_is_the_same_whatever_the_count(scenes):
    few = data.scenes(5, seed=1)
    assert (few.images == scenes.images[:5]).all() and few.ids.tolist() == scenes.ids[:5].tolist()
    assert few.labels() == scenes.labels(range(5))
    other, test = data.scenes(5, seed=2), data.scenes(5, seed=1, subset="test")
    assert (other.images != few.images).any() and (test.images != few.images).any()
    assert len({*few.ids, *other.ids, *test.ids}) == 15


def test_a_box_is_the_extent_of_the_mask(scenes):
    assert scenes.images.shape == (60, 64, 64, 3) and scenes.images.dtype == np.uint8
    boxes = iter(scenes.labels())
    for masks in scenes.object_masks():
        assert (masks.sum(axis=0) <= 1).all()  # what can be seen of each
        for mask in masks:
            rows, columns = np.nonzero(mask)
            row = next(boxes)
            assert [row[side] for side in ("left", "top", "right", "bottom")] == [
                columns.min(),
                rows.min(),
                columns.max() + 1,
                rows.max() + 1,
            ]


def test_maps_are_of_the_visible_ink(scenes):
    maps = scenes.segmentation()
    assert maps.class_names == ("background", *"0123456789")
    ink = [masks.any(axis=0) for masks in scenes.object_masks()]
    assert ((maps.labels() > 0) == ink).all()


def test_train_and_test_share_no_image():
    train, test = (np.concatenate([*_pasted("mnist", subset, None).values()]) for subset in ("train", "test"))
    assert len(train) == 5000 and len(test) == 2000
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in test}


def test_shares_are_those_asked_for():
    whole = data.scenes(20, empty=0, class_names=["7", "3"], frequencies={"7": 0})
    assert whole.class_names == ("7", "3") and {row["label"] for row in whole.labels()} == {"3"}
    assert len({row["image_id"] for row in whole.labels()}) == 20
    assert data.scenes(20, empty=1).labels() == []
    # of 280 objects or so 1.1 % are of the rare class; 5 % or none come by chance in fewer than 1 of 20 seeds
    rare = data.scenes(200, seed=5, frequencies={"1": 0.1}, size=32, clutter=0)
    counts = sum(row["label"] == "1" for row in rare.labels())
    assert 0 < counts < 0.05 * len(rare.labels())


def test_boxes_keep_apart_unless_they_may_overlap():
    for overlap in (0, 1):
        scenes = data.scenes(40, seed=3, size=32, overlap=overlap, empty=0, occlusion=0.3)
        boxes = scenes.objects().boxes
        image = scenes.objects().images()
        pairs = [
            min(one[2:] - other[:2]) > 0 and min(other[2:] - one[:2]) > 0
            for row, one in enumerate(boxes)
            for other in boxes[row + 1 :][image[row + 1 :] == image[row]]
        ]
        assert len(pairs) > 10 and any(pairs) == bool(overlap)


def test_a_shift_makes_other_images():
    # the flower is red, and darker than the sky
    near, far = (
        data.scenes(10, shifted=share, clutter=0, empty=1).images.mean(axis=(0, 1, 2)) for share in (0, 1)
    )
    assert far.mean() < 0.6 * near.mean()


def test_other_sizes_and_objects():
    clothes = data.scenes(4, objects="fashion", size=96, empty=0)
    assert clothes.class_names[0] == "T-shirt" and clothes.inputs().shape == (4, 3, 96, 96)
    digits = data.scenes(4, objects="digits", size=32, empty=0)
    sides = [max(row["right"] - row["left"], row["bottom"] - row["top"]) for row in digits.labels()]
    assert 8 <= max(sides) <= 17
    tiny, large = (data.scenes(30, size=16, empty=0, sides=sides) for sides in ((0.1, 0.2), (1, 1)))
    assert all(len({row["image_id"] for row in scenes.labels()}) == 30 for scenes in (tiny, large))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"empty": 1.5}, "empty is 1.5: it must be from 0 to 1"),
        ({"occlusion": float("nan")}, "occlusion is nan"),
        ({"sides": (0.5, 0.2)}, r"sides are \(0.5, 0.2\): they must be two numbers that rise"),
        ({"clutter": -1}, "clutter is -1: it must be at least 0"),
        ({"size": 8}, "size is 8: it must be a whole number of at least 16"),
        ({"size": 20.5}, "size is 20.5: it must be"),
        ({"count": 0}, "count is 0: it must be a whole number of at least 1"),
        ({"count": 2.5}, "count is 2.5"),
        ({"count": "3"}, "count is '3'"),
        ({"seed": -1}, "seed is -1: it must be a whole number of at least 0"),
        ({"seed": 1.5}, "seed is 1.5"),
        ({"empty": "a"}, "empty is 'a': it must be from 0 to 1"),
        ({"frequencies": ["1"]}, r"frequencies are \['1'\]: they must be a dict"),
        ({"frequencies": {"1": "x"}}, "they must be at least 0, and one above 0"),
        ({"sides": 0.3}, "sides are 0.3: they must be two numbers that rise"),
        ({"sides": (0.01, 0.02)}, "at most 1.28 of 64 pixels: an object has at least 3"),
        ({"subset": "validation"}, "subset is 'validation': it must be 'train' or 'test'"),
        ({"objects": "cats"}, "unknown data set 'cats'"),
        ({"class_names": ["1", "x"]}, r"class_names are \['1', 'x'\]: they must be distinct classes of 0, 1"),
        ({"class_names": ["1", "1"]}, "must be distinct"),
        ({"frequencies": {"x": 1}}, "frequencies name 'x', which is no class"),
        ({"frequencies": {"1": float("nan")}}, "they must be at least 0, and one above 0"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        data.scenes(**{"count": 2} | options)
