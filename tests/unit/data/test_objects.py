"""Images with objects in memory."""

import numpy as np
import pandas as pd
import pytest

from alhelpers import data
from alhelpers.protocols import Dataset

IDS = ("a", "b", "c")
CLASSES = ("car", "tree")


def box(image_id, label, *sides):
    return {"image_id": image_id, "label": label} | dict(
        zip(("left", "top", "right", "bottom"), sides, strict=True)
    )


ROWS = [box("c", "tree", 0, 0, 4, 4), box("a", "car", 1, 1, 3, 4), box("c", "car", 2, 2, 6, 4)]


def filled(row, height=4, width=6):
    mask = np.zeros((height, width), dtype=bool)
    mask[row["top"] : row["bottom"], row["left"] : row["right"]] = True
    return mask


def made(rows=ROWS, is_crowd=None, masks=True):
    masks = [filled(row) for row in rows] if masks is True else masks
    return data.Objects.from_rows(rows, IDS, (4, 6), CLASSES, masks=masks, is_crowd=is_crowd)


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 4, 6, 3), dtype=np.uint8)


def test_boxes_and_masks_are_by_image(images):
    dataset = data.ObjectSet("mine", images, made(), CLASSES, ids=IDS)
    assert isinstance(dataset, Dataset) and dataset.task == "detection"
    assert dataset.labels() == [ROWS[1], ROWS[0], ROWS[2]]
    assert dataset.labels([2]) == [ROWS[0], ROWS[2]] and dataset.labels([1]) == [] == dataset.crowds()
    first, second, third = dataset.object_masks()
    assert (first == [filled(ROWS[1])]).all() and second.shape == (0, 4, 6)
    assert (third == [filled(ROWS[0]), filled(ROWS[2])]).all()
    assert dataset.inputs().shape == (3, 3, 4, 6)
    turned = dataset.take([2, 0])
    assert turned.labels() == [ROWS[0], ROWS[2], ROWS[1]] and turned.labels([1]) == [ROWS[1]]
    assert turned.objects().offsets.tolist() == [0, 2, 3]
    assert turned.objects([1]).boxes.tolist() == [[1, 1, 3, 4]]


def test_later_objects_are_in_front_and_crowds_behind(images):
    dataset = data.ObjectSet(
        "mine", images, made(is_crowd=[False, True, False]), CLASSES, ids=IDS
    ).segmentation()
    assert dataset.task == "segmentation" and dataset.class_names == ("background", *CLASSES)
    maps = dataset.labels()
    assert maps.dtype == np.uint8 and maps.shape == (3, 4, 6)
    assert maps[0].tolist() == np.where(filled(ROWS[1]), 255, 0).tolist() and not maps[1].any()
    expected = np.where(filled(ROWS[2]), 1, np.where(filled(ROWS[0]), 2, 0))
    assert (dataset.labels([2])[0] == expected).all()
    assert dataset.segmentation() is dataset and dataset.crowds() == [{**ROWS[1], "iscrowd": 1}]
    assert dataset.take([1]).labels([]).shape[0] == 0
    behind = [box("a", "car", 0, 0, 4, 4), box("a", "tree", 2, 0, 6, 4)]
    covered = data.ObjectSet("mine", images, made(behind, is_crowd=[False, True]), CLASSES, ids=IDS)
    assert covered.segmentation().labels()[0, 0].tolist() == [1, 1, 1, 1, 255, 255]


def test_objects_are_resized():
    objects = made().resized((8, 6))
    assert objects.boxes[0].tolist() == [1, 2, 3, 8] and objects.sizes.tolist() == [[8, 6]] * 3
    assert [masks.sum() for masks in objects.masks(IDS)] == [12, 0, 32 + 16]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (box("z", "car", 0, 0, 1, 1), "row 3 has image_id 'z', which is not among the ids"),
        (box("a", "bus", 0, 0, 1, 1), "row 3 has label 'bus', which is not among the class_names"),
        (box("b", "car", 2, 2, 2, 4), r"\[2.0, 2.0, 2.0, 4.0\] of image 'b', .* has no area"),
        (box("b", "car", 2, 2, 7, 4), "6 wide and 4 high, is not inside of its image"),
        (box("b", "car", 2, float("nan"), 4, 4), "is not finite"),
        ({"image_id": "b", "label": "car", "left": 1}, "row 3 has no 'top': it must be a number"),
        (box("b", "car", 2, 2, "q", 4), "row 3 has the right 'q': it must be a number"),
        (box("b", "car", 2, 2, None, 4), "row 3 has the right None"),
        (box(["b"], "car", 2, 2, 3, 4), r"row 3 has image_id \['b'\], which is not among"),
        ("b", "row 3 is of type str: it must be a dict of image_id, label, left"),
    ],
)
def test_wrong_rows_are_named(row, message):
    with pytest.raises(ValueError, match=message):
        made([*ROWS, row], masks=None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sizes": [(4, 6)] * 2}, r"sizes have the shape \(2, 2\): .* each of the 3 images"),
        ({"sizes": (0, 0)}, r"sizes are \[0, 0\]: they must be whole numbers of at least 1"),
        ({"sizes": (-4, 4)}, r"sizes are \[-4, 4\]"),
        ({"sizes": (16.7, 20)}, r"sizes are \[16.7, 20.0\]"),
        ({"ids": ("a", "a", "c")}, "ids hold 'a' twice: they must be distinct"),
        ({"class_names": ("car", "car")}, "class_names hold 'car' twice"),
        ({"rows": pd.DataFrame(ROWS)}, "rows are a DataFrame: they must be a list of dicts"),
    ],
)
def test_wrong_arguments_are_named(changed, message):
    right = {"rows": ROWS, "ids": IDS, "sizes": (4, 6), "class_names": CLASSES}
    with pytest.raises(ValueError, match=message):
        data.Objects.from_rows(**right | changed)


def test_wrong_masks_are_named(images):
    for wrong, message in (
        (np.full((4, 6), 0.2), "the mask of box .* of image 'a' has values other than 0 and 1: pass bool"),
        (np.full((4, 6), np.nan), "has values other than 0 and 1"),
        (np.zeros((4, 6), bool), r"of box \[1.0, 1.0, 3.0, 4.0\] of image 'a' has no pixel in it"),
        (np.arange(6) + np.zeros((4, 1), int) >= 4, "has no pixel in it: correct the mask or the box"),
    ):
        with pytest.raises(ValueError, match=message):
            made(masks=[None, wrong, None])
    with pytest.raises(ValueError, match="masks has the length 1: it must have one entry a row, 3"):
        made(masks=[None])
    with pytest.raises(ValueError, match=r"of image 'a' has a mask of size \[6, 4\]"):
        made(masks=[None, filled(ROWS[1], 6, 4), None])
    dataset = data.ObjectSet("mine", images, made(masks=[None, filled(ROWS[1]), None]), CLASSES, ids=IDS)
    assert len(dataset.object_masks([0])[0]) == 1
    with pytest.raises(ValueError, match="of image 'c' has no segmentation"):
        dataset.object_masks()
    with pytest.raises(ValueError, match="of image 'c' has no segmentation"):
        dataset.segmentation().labels()


def test_wrong_images_are_named(images):
    with pytest.raises(ValueError, match="image 'a' is 6 high and 4 wide, but its objects"):
        data.ObjectSet("mine", images.transpose(0, 2, 1, 3), made(), CLASSES, ids=IDS)
    with pytest.raises(ValueError, match="for 2 ids: they must be as many"):
        data.ObjectSet("mine", images[:2], made(), CLASSES)
    with pytest.raises(ValueError, match="is of no class of 1"):
        data.ObjectSet("mine", images, made(), CLASSES[:1], ids=IDS)
    many = data.ObjectSet("mine", images, made(), [*CLASSES, *map(str, range(253))], ids=IDS)
    with pytest.raises(ValueError, match="255 classes are too many"):
        many.segmentation()
