import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, average_precision_score, jaccard_score

from alhelpers.evaluation import EvaluationError, NoGroundTruth, Segmentations, paired_bootstrap

NAMES = ["background", "cat", "dog", "emu"]
MASK = {"image_id": "a", "label": "cat", "mask": np.eye(4, 5, dtype=bool)}


def random_maps(seed, images=7, size=(9, 11), classes=4):
    rng = np.random.default_rng(seed)
    truth = rng.integers(rng.integers(2, classes + 1), size=(images, *size)).astype(np.uint8)
    truth[rng.uniform(size=truth.shape) < 0.1] = 255
    confidences = rng.dirichlet(np.ones(classes), size=(images, *size)).astype(np.float32)
    return truth, np.moveaxis(confidences, -1, 1)


@pytest.mark.parametrize("seed", range(6))
def test_the_metrics_of_pixels_equal_scikit_learn(seed):
    truth, confidences = random_maps(seed)
    counts = truth != 255
    true, guess = truth[counts], confidences.argmax(axis=1)[counts]
    present = [NAMES[place] for place in np.unique(true)]
    for predicted in (confidences, confidences.argmax(axis=1)):
        model = Segmentations(truth, predicted, NAMES)
        own = jaccard_score(true, guess, average=None, labels=np.unique(true))
        assert model.mean_iou().per_label == pytest.approx(dict(zip(present, own, strict=True)))
        assert model.mean_iou().value == pytest.approx(own.mean())
        assert model.accuracy().value == pytest.approx(accuracy_score(true, guess))
    rounded = np.rint(np.moveaxis(confidences, 1, -1)[counts] * 255)
    areas = {NAMES[k]: average_precision_score(true == k, rounded[:, k]) for k in np.unique(true).tolist()}
    found = Segmentations(truth, confidences, NAMES).average_precision()
    assert found.per_label == pytest.approx(areas)
    exact = np.mean(
        [
            average_precision_score(true == k, np.moveaxis(confidences, 1, -1)[counts][:, k])
            for k in np.unique(true)
        ]
    )
    assert found.value == pytest.approx(exact, abs=0.01)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_resample_is_the_metric_of_the_images_drawn(seed):
    truth, confidences = random_maps(seed, images=4)
    drawn = np.random.default_rng(seed).integers(4, size=4)
    counts = np.bincount(drawn, minlength=4)[:, None].astype(np.int32)
    first = Segmentations(truth, confidences, NAMES)
    second = Segmentations(truth[drawn], confidences[drawn], NAMES)
    for metric in ("mean_iou", "accuracy", "average_precision"):
        value = getattr(first, metric)().term.values(counts)
        assert value == pytest.approx(getattr(second, metric)().value)


def test_images_of_several_sizes_and_without_objects():
    truth = [np.array([[0, 1], [1, 255]]), np.zeros((3, 1), int), np.full((1, 1), 255)]
    found = [np.array([[0, 1], [0, 3]]), np.array([[0], [0], [2]]), np.zeros((1, 1), int)]
    measure = Segmentations(truth, found, NAMES).mean_iou()
    assert measure.per_label == {"background": 3 / 5, "cat": 1 / 2}
    assert measure.warnings == (
        "label 'dog' was predicted but has no ground truth: the macro mean does not count these errors",
    )


@pytest.mark.parametrize("seed", range(4))
def test_masks_of_labels_equal_maps_without_their_background(seed):
    truth, confidences = random_maps(seed)
    guess = confidences.argmax(axis=1)
    rows = [mask_rows(each) for each in (truth, guess)]
    rows[1] = [{key: row[key] for key in MASK} for row in rows[1]]
    maps, masks = Segmentations(truth, guess, NAMES).mean_iou(), Segmentations.from_masks(*rows).mean_iou()
    assert masks.per_label == {
        label: value for label, value in maps.per_label.items() if label != "background"
    }
    rng = np.random.default_rng(seed)
    split = [part for row in rows[1] for part in parts(row, rng)]
    again = Segmentations.from_masks(rows[0], [split[place] for place in rng.permutation(len(split))])
    assert again.mean_iou().per_label == masks.per_label


def mask_rows(maps):
    """Write maps as masks of labels; what does not count is a crowd."""
    names = dict(enumerate(NAMES)) | {255: "cat"}
    return [
        {"image_id": image, "label": names[k], "mask": classes == k, "iscrowd": int(k == 255)}
        for image, classes in enumerate(maps)
        for k in np.unique(classes).tolist()
        if k
    ]


def parts(row, rng):
    """Cut a mask into two that overlap."""
    first, second = (rng.uniform(size=row["mask"].shape) < 0.6 for _ in range(2))
    return [row | {"mask": row["mask"] & half} for half in (first | ~second, second)]


def test_a_better_segmenter_has_an_interval_above_zero():
    truth, confidences = random_maps(0, images=40)
    rng = np.random.default_rng(0)
    better = np.where(rng.uniform(size=truth.shape) < 0.3, np.minimum(truth, 3), confidences.argmax(axis=1))
    models = [Segmentations(truth, found, NAMES).mean_iou() for found in (confidences, better)]
    paired = paired_bootstrap(*models, samples=200)
    assert 0 < paired.low < paired.difference < paired.high


def test_wrong_maps_are_named():
    truth, found = np.zeros((2, 3, 4), int), np.zeros((2, 3, 4), int)
    nan = np.full((2, 4, 3, 4), np.nan)
    for arguments, message in (
        (
            (truth, found[:, :, 1:], NAMES, "ab"),
            r"image 'a': predicted must be classes of shape \(3, 4\) or conf",
        ),
        ((truth * 1.0, found, NAMES), "image 0: truth must be an array of classes"),
        ((truth + 4, found, NAMES), "image 0: truth holds the class 4, and there are 4 class names"),
        ((truth, found - 1, NAMES), "image 0: predicted holds the class -1"),
        ((truth, found + 255, NAMES), "image 0: predicted holds the class 255"),
        ((truth, nan, NAMES), "image 0: predicted holds the confidence nan, it must be from 0 to 1"),
        ((truth, nan[:, :3], NAMES), r"predicted must be .*got float64 of shape \(3, 3, 4\)"),
        ((truth, found[:1], NAMES), "equally many, truth has more than 1"),
        ((truth, found, NAMES, ["a"]), "items must name each image once: 1 names for 2 images"),
        ((truth, found, ["a", "a"]), "class_names must be 1 to 255 that differ"),
    ):
        with pytest.raises(EvaluationError, match=message):
            Segmentations(*arguments)
    with pytest.raises(NoGroundTruth, match="no pixel of the ground truth counts"):
        Segmentations(truth + 255, found, NAMES)
    with pytest.raises(EvaluationError, match="needs the confidences of all classes"):
        Segmentations(truth, found, NAMES).average_precision()


def test_wrong_masks_are_named():
    with pytest.raises(EvaluationError, match="accuracy of pixels needs the class of every pixel"):
        Segmentations.from_masks([MASK], [MASK]).accuracy()
    with pytest.raises(EvaluationError, match="row of image 'a', which is not among items"):
        Segmentations.from_masks([MASK], [], items=["b"])
    with pytest.raises(EvaluationError, match=r"image 'a' have the sizes \(4, 5\) and \(5, 4\)"):
        Segmentations.from_masks([MASK], [MASK | {"mask": MASK["mask"].T}])
    with pytest.raises(NoGroundTruth, match="no pixel"):
        Segmentations.from_masks([MASK | {"iscrowd": 1}], [MASK])
    assert Segmentations.from_masks([MASK], [], items=["b", "a"]).mean_iou().value == 0
