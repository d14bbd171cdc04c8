"""What a detector predicts, as rows and records."""

import numpy as np
import pytest

from alhelpers import evaluation, records, scores
from alhelpers.learners import BoxPredictions, SegmentationPredictions
from alhelpers.protocols import Predictions
from alhelpers.uncertainty import BoxSamples

NAMES = ("cat", "dog")
BOXES = np.array([[0, 0, 4, 2], [5, 5, 9, 9], [1, 2, 3, 8]], np.float32)
CONFIDENCES = np.array([[0.75, 0.5], [0.25, 0.5], [0.0, 1.0]], np.float32)
OFFSETS = np.array([0, 2, 2, 3])


def make(**fields):
    parts = {"offsets": OFFSETS, "boxes": BOXES, "confidences": CONFIDENCES, "class_names": NAMES}
    return BoxPredictions(**{**parts, **fields})


def samples(passes=4):
    boxes = BOXES[:, None] + np.arange(passes)[:, None] * np.float32([0, 0, 0.5, 0.5])
    confidences = np.repeat(CONFIDENCES[:, None], passes, axis=1)
    boxes[1, 2:], confidences[1, 2:] = np.nan, np.nan
    return BoxSamples(OFFSETS, boxes, confidences)


def test_rows_are_what_evaluation_takes():
    predictions = make()
    assert isinstance(predictions, Predictions) and len(predictions) == 3 and predictions.task == "detection"
    assert predictions.labels.tolist() == [0, 1, 1] and predictions.scores.tolist() == [0.75, 0.5, 1]
    rows = predictions.rows(["a", "b", "c"])
    assert rows[1] == {
        "image_id": "a", "label": "dog", "score": 0.5, "left": 5, "top": 5, "right": 9, "bottom": 9
    }  # fmt: skip
    assert [row["image_id"] for row in rows] == ["a", "a", "c"]
    truth = [{key: value for key, value in row.items() if key != "score"} for row in rows]
    assert evaluation.average_precision(truth, rows).macro == 1


def test_records_have_what_the_passes_say():
    found = samples()
    predictions = make(samples=found, embeddings=np.ones((3, 5)), object_embeddings=np.ones((3, 2)))
    certainties = predictions.certainties()
    assert list(certainties) == ["class", "location", "existence", "combined", "object"]
    np.testing.assert_array_equal(certainties["class"], scores.class_certainty(found.confidences))
    np.testing.assert_array_equal(certainties["location"], scores.location_certainty(found.boxes))
    assert certainties["existence"].tolist() == [1, 0.5, 1]
    parts = [certainties[name] for name in ("class", "location", "existence")]
    np.testing.assert_allclose(certainties["combined"], np.prod(parts, axis=0), rtol=1e-6)
    table = predictions.to_records(["a", "b", "c"])
    assert records.validate(table, task="detection") == 3
    boxes = records.boxes(table)
    assert boxes.offsets.tolist() == OFFSETS.tolist() and boxes.class_name.tolist() == ["cat", "dog", "dog"]
    assert boxes.width.tolist() == [4, 4, 2] and boxes.height.tolist() == [2, 4, 6]
    assert boxes.confidence.tolist() == [0.75, 0.5, 1] and boxes.confidences.tolist() == CONFIDENCES.tolist()
    np.testing.assert_array_equal(boxes.existence_certainty, certainties["existence"])
    np.testing.assert_array_equal(boxes.box_variance, scores.box_variance(found.boxes))
    assert boxes.embeddings.shape == (3, 2) and records.column(table, "embeddings").shape == (3, 5)
    least = records.field_values(table, "detections.combined_certainty").to_pylist()
    assert least[1] is None and least[0] == pytest.approx(certainties["combined"][:2].min())


def test_one_pass_has_no_certainties():
    table = make().to_records([1, 2, 3])
    assert records.boxes(table).location_certainty is None and "embeddings" not in table.column_names
    with pytest.raises(ValueError, match="predictions of one pass have no certainties: predict with passes"):
        make().certainties()


def test_images_without_any_box():
    none = BoxSamples(np.zeros(3, int), np.empty((0, 4, 4)), np.empty((0, 4, 2)))
    predictions = make(offsets=[0, 0, 0], boxes=np.empty((0, 4)), confidences=np.empty((0, 2)), samples=none)
    assert len(predictions) == 2 and predictions.rows("ab") == []
    table = predictions.to_records(["a", "b"])
    assert table["detections"].to_pylist() == [[], []] and records.boxes(table).class_certainty.shape == (0,)
    assert {name: len(values) for name, values in predictions.certainties().items()} == dict.fromkeys(
        ("class", "location", "existence", "combined", "object"), 0
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"offsets": [0, 2]}, "offsets must go from 0 to the number of objects, 3"),
        ({"boxes": BOXES[:, :3]}, r"boxes must have shape \(3, 4\), got \(3, 3\)"),
        ({"boxes": BOXES[:, [2, 1, 0, 3]]}, "row 0 of boxes must have left < right and top < bottom, got"),
        ({"boxes": BOXES * np.float32([1, 1, np.inf, 1])}, "row 0 of boxes must have finite numbers"),
        ({"boxes": BOXES * np.nan}, "row 0 of boxes must have left < right"),
        ({"confidences": CONFIDENCES * 1.5}, "row 0 of confidences must have confidences from 0 to 1"),
        ({"confidences": CONFIDENCES * np.nan}, "row 0 of confidences must have confidences from 0 to 1"),
        ({"class_names": ["cat"]}, r"confidences must have shape \(3, 1\), got \(3, 2\)"),
        ({"embeddings": np.ones((2, 5))}, r"embeddings must have shape \(3, any\), got \(2, 5\)"),
        ({"object_embeddings": np.full((3, 2), np.nan)}, "row 0 of object_embeddings must have finite numbers"),
        ({"samples": samples()._replace(offsets=np.array([0, 1, 2, 3]))}, "samples have other offsets than the boxes"),
        ({"samples": samples()._replace(boxes=np.ones((2, 4, 4)))}, r"boxes of the samples must have shape \(3, 4, 4"),
        ({"samples": samples()._replace(confidences=np.ones((3, 4, 3)))}, "confidences of the samples must have shape"),
        ({"samples": samples()._replace(confidences=np.ones((3, 4, 2)))}, "object 1 of the samples has a box without"),
    ],
)  # fmt: skip
def test_predictions_that_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        make(**fields)


def test_ids_are_those_of_the_images():
    for method in (make().rows, make().to_records):
        with pytest.raises(ValueError, match="there are 2 ids of 3 images"):
            method(["a", "b"])


@pytest.mark.parametrize("kind", ["boxes", "maps"])
def test_only_predictions_of_the_same_images_and_classes_are_merged(kind):
    def of(images, names=NAMES, size=4):
        if kind == "maps":
            return SegmentationPredictions(np.full((images, 2, size, size), 0.5), names)
        return make(offsets=np.minimum(np.arange(images + 1), 1) * 3, class_names=names)

    merged = type(of(2)).merged
    with pytest.raises(
        ValueError, match="predictions 1 are dog, cat, and those of predictions 0 cat, dog: use"
    ):
        merged([of(2), of(2, ("dog", "cat"))])
    for images in (1, 3):
        with pytest.raises(ValueError, match=f"predictions 1 are of {images} images, and predictions 0 of 2"):
            merged([of(2), of(images)])
    with pytest.raises(ValueError, match="no predictions to merge"):
        merged([])
    if kind == "maps":
        with pytest.raises(ValueError, match=r"the maps have the sizes \[\(4, 4\), \(5, 5\)\]"):
            merged([of(2), of(2, size=5)])
