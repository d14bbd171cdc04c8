"""A detector by its predictions alone."""

import numpy as np
import pytest
import torch

from alhelpers import data, protocols
from alhelpers.learners import DetectorFunction
from alhelpers.uncertainty import Committee, CommitteeError, merge_boxes
from alhelpers.uncertainty._torch import derived_seed

NAMES = ("cat", "dog")
IMAGES = data.ArrayDataset(
    np.arange(3 * 100, dtype=np.float32).reshape(3, 1, 10, 10), None, NAMES, task="detection"
)
FOUND = [[((1, 2, 5, 6), 0, 0.75), ((0, 0, 2, 2), 1, 0.5)], [], [((3, 3, 9, 9), 1, 0.25)]]


def arrays(objects):
    boxes = np.array([sides for sides, _, _ in objects])
    confidences = np.array([[score * (label == place) for place in range(2)] for _, label, score in objects])
    return boxes, confidences


def rows(objects):
    sides = ("left", "top", "right", "bottom")
    return [
        {"label": NAMES[label], "score": score, **dict(zip(sides, box, strict=True))}
        for box, label, score in objects
    ]


def torchvision(objects):
    columns = zip(*objects, strict=True) if objects else ((), (), ())
    names = ("boxes", "labels", "scores")
    return {
        name: torch.tensor(column, requires_grad=name == "scores")
        for name, column in zip(names, columns, strict=True)
    }


FORMS = {
    "tuples": arrays,
    "dicts": lambda objects: dict(zip(("boxes", "confidences"), arrays(objects), strict=True)),
    "torchvision": torchvision,
    "rows": rows,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_is_read(form):
    seen = []

    def function(images):
        seen.append(images)
        start = sum(map(len, seen[:-1]))
        return [form(objects) for objects in FOUND[start : start + len(images)]]

    learner = DetectorFunction(function, NAMES, batch_size=2)
    assert isinstance(learner, protocols.Learner)
    found = learner.predict(IMAGES)
    assert [len(images) for images in seen] == [2, 1]
    np.testing.assert_array_equal(np.concatenate(seen), IMAGES.inputs())
    assert found.offsets.tolist() == [0, 2, 2, 3] and found.labels.tolist() == [0, 1, 1]
    assert found.boxes.tolist() == [[1, 2, 5, 6], [0, 0, 2, 2], [3, 3, 9, 9]]
    assert found.scores.tolist() == [0.75, 0.5, 0.25] and found.samples is None


def shaken(images, seed):
    draw = np.random.default_rng(seed)
    return [(np.array([[1, 1, 9, 9]]) + draw.normal(0, 0.3, 4), draw.uniform(0, 1, (1, 2))) for _ in images]


def test_passes_call_a_function_with_a_seed():
    learner = DetectorFunction(shaken, NAMES).fresh(3)
    found = learner.predict(IMAGES, passes=4, seed=5)
    each = [learner.predict(IMAGES, seed=derived_seed(5, number)) for number in range(4)]
    for values, expected in zip(found.samples, merge_boxes(each), strict=True):
        np.testing.assert_array_equal(values, expected)
    assert found.boxes.shape == (3, 4) and found.certainties()["existence"].tolist() == [1, 1, 1]
    np.testing.assert_allclose(found.confidences, found.samples.confidences.mean(1), rtol=1e-6)


def test_a_plain_prediction_is_without_noise_and_boxes_are_cut_as_coco_rounds_them():
    def find(images, seed=None):
        shift = 0 if seed is None else np.random.default_rng(seed).uniform(0.1, 1)
        return [([[-0.5 + shift, 1, 10.75, 9]], [[0.5, 0]]) for _ in images]

    learner = DetectorFunction(find, NAMES)
    assert learner.predict(IMAGES, seed=3).boxes.tolist() == [[0, 1, 10, 9]] * 3
    assert np.ptp(learner.predict(IMAGES, passes=3).samples.boxes[:, :, 0]) > 0


def test_a_committee_of_ready_detectors_predicts():
    def of(shift):
        return lambda images: [([[1 + shift, 1, 8, 9]], [[0.5, 0.25]]) for _ in images]

    both = [DetectorFunction(of(shift), NAMES) for shift in (0, 1)]
    found = Committee(both).predict(IMAGES)
    assert found.boxes.tolist() == [[1.5, 1, 8, 9]] * 3 and found.samples.boxes.shape == (3, 2, 4)
    assert Committee(both).fresh(1).predict(IMAGES).boxes.tolist() == found.boxes.tolist()
    for wrong, message in (
        ((both, 3), "members is 3, but 2 learners were passed"),
        ((both[:1],), "members must be a whole number of at least 2, got 1"),
        (([],), "got 0"),
        (([of(0), of(1)],), "members must be learners, got a function"),
    ):
        with pytest.raises(CommitteeError, match=message):
            Committee(*wrong)


def test_what_it_cannot_do_is_named(tmp_path):
    learner = DetectorFunction(lambda images: [arrays(objects) for objects in FOUND], NAMES)
    for call, message in (
        (lambda: learner.fit(IMAGES), "a DetectorFunction cannot be fitted"),
        (lambda: learner.save(tmp_path), "has no weights to save"),
        (lambda: learner.load(tmp_path), "has no weights to load"),
        (lambda: learner.predict(IMAGES, embeddings=True), "has no embeddings"),
        (lambda: learner.predict(IMAGES, passes=3), "passes is 3, but the function has no parameter seed"),
        (lambda: learner.predict(IMAGES, passes=1), "passes is 1"),
        (lambda: learner.predict(IMAGES.take([])), "the data set is empty"),
        (lambda: DetectorFunction(3, NAMES), "function is a int"),
        (lambda: DetectorFunction(shaken, NAMES, batch_size=0), "batch_size is 0"),
        (
            lambda: DetectorFunction(shaken, ("dog", "cat")).predict(IMAGES),
            "class names of the data set are cat, dog",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "returned a NoneType for 3 images"),
        ([[]], "returned 1 entries for 3 images"),
        (["x", [], []], "returned a str for an image"),
        ([[], ([[1, 1, 2]], [[1, 0]]), []], r"boxes \(1, 3\) and confidences \(1, 2\) for image 1"),
        ([[], ([[1, 1, 2, 2]], [[1, 0, 0]]), []], r"confidences \(1, 3\) for image 1"),
        ([[], [], ([[2, 1, 2, 2]], [[1, 0]])], "box 0 of image 2 is .*left < right"),
        ([[], [], ([[1, 1, 2, np.nan]], [[1, 0]])], "box 0 of image 2"),
        ([[], [], ([[1, 1, 2, 2]], [[1.5, 0]])], "box 0 of image 2 .* confidences from 0 to 1"),
        ([[{**rows(FOUND[0])[0], "label": "cow"}], [], []], "image 0 has the label 'cow': .* the class names cat, dog"),
        ([([[5, 5, 90, 9]], [[1, 0]]), [], []], "box 0 of image 0 .* not inside of its image, 10 wide and 10 high"),
        ([([[10.2, 5, 10.9, 9]], [[1, 0]]), [], []], "not inside of its image"),
        ([[{**rows(FOUND[0])[0], "score": None}], [], []], "box 0 of image 0 has the score None: it must be a number"),
        ([[{**rows(FOUND[0])[0], "top": "q"}], [], []], "box 0 of image 0 has the top 'q': it must be a number"),
        ([{"boxes": [[1, 1, 2, 2]], "labels": [1], "scores": [0.5, 0.5]}, [], []], r"scores \(2,\) and labels \(1,\)"),
        ([{"boxes": [[1, 1, 2, 2]], "labels": [2], "scores": [0.5]}, [], []], "label 2: .* an index from 0 to 1 of"),
    ],
)  # fmt: skip
def test_wrong_returns_are_named(returned, message):
    with pytest.raises(ValueError, match=message):
        DetectorFunction(lambda images: returned, NAMES).predict(IMAGES)


@pytest.mark.parametrize("names", [(), ("cat", "cat")])
def test_class_names_are_distinct(names):
    with pytest.raises(ValueError, match="class_names are .*: they must be distinct, and at least one"):
        DetectorFunction(lambda images: [], names)
