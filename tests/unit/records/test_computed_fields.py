import numpy as np
import pytest
from helpers_records import NAMES, ids_of

from alhelpers import records, scores
from alhelpers.records import RecordError
from alhelpers.records.filters import COMPUTED

COUNT = 40
OF_BOXES = (
    "class_certainty",
    "location_certainty",
    "existence_certainty",
    "object_certainty",
    "box_variance",
)


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return records.from_arrays(
        [f"r{k:02d}" for k in rng.permutation(COUNT)],
        class_names=NAMES,
        confidences=rng.dirichlet(np.ones(3), size=COUNT),
        mc_dropout=rng.dirichlet(np.ones(3), size=(COUNT, 5)),
        query_by_committee=rng.dirichlet(np.ones(3), size=(COUNT, 3)),
        embeddings={"": rng.normal(size=(COUNT, 4)), "early": rng.normal(size=(COUNT, 2))},
        detections=[[dict(zip(OF_BOXES, rng.random(5), strict=True))] * (1 + k % 4) for k in range(COUNT)],
    )


def norm(vectors):
    return np.linalg.norm(vectors, axis=1)


def of_boxes(name, reduce=min):
    return lambda records: np.array([reduce(box[name] for box in boxes) for boxes in records])


def combined(records):
    products = [[np.prod([box[name] for name in OF_BOXES[:3]]) for box in boxes] for boxes in records]
    return np.array(list(map(min, products)))


DEFINITIONS = {
    "prediction.confidence": ("confidences", lambda values: values.max(axis=1)),
    "prediction.class_name": ("confidences", lambda values: np.array(NAMES, object)[values.argmax(axis=1)]),
    "prediction.entropy": ("confidences", scores.entropy),
    "prediction.margin": ("confidences", scores.margin),
    "prediction.least_confidence": ("confidences", scores.least_confidence),
    "mc_dropout.bald": ("mc_dropout", scores.bald),
    "mc_dropout.variance": ("mc_dropout", scores.variance),
    "mc_dropout.predictive_entropy": ("mc_dropout", scores.predictive_entropy),
    "mc_dropout.margin": ("mc_dropout", scores.mean_margin),
    "mc_dropout.variation_ratio": ("mc_dropout", scores.variation_ratio),
    "query_by_committee.vote_entropy": ("query_by_committee", scores.vote_entropy),
    "query_by_committee.consensus_kl": ("query_by_committee", scores.consensus_kl),
    "embeddings.norm": ("embeddings", norm),
    "embeddings:early.norm": ("embeddings:early", norm),
    "detections.count": ("detections", lambda boxes: np.array([len(each) for each in boxes])),
    **{f"detections.{name}": ("detections", of_boxes(name)) for name in OF_BOXES[:4]},
    "detections.combined_certainty": ("detections", combined),
    "detections.box_variance": ("detections", of_boxes("box_variance", max)),
}


def test_every_computed_field_is_tested():
    assert DEFINITIONS.keys() == COMPUTED.keys() | {"embeddings:early.norm"}


@pytest.mark.parametrize("field", DEFINITIONS)
def test_a_computed_field_filters_and_orders_by_its_definition(table, tmp_path, field):
    records.write(tmp_path / "a.parquet", table)
    column, definition = DEFINITIONS[field]
    values, ids = definition(records.column(table, column)), ids_of(table)
    middle = sorted(values)[COUNT // 2]
    middle = middle if isinstance(middle, str) else float(middle) + 1e-4
    expected = [id for id, value in zip(ids, values, strict=True) if value > middle]
    rank = np.unique(values, return_inverse=True)[1]
    by_value = [ids[k] for k in sorted(range(COUNT), key=lambda k: (-rank[k], ids[k]))]
    condition = [{"left": field, "op": ">", "right": middle}]
    for source in (table, tmp_path / "a.parquet"):
        assert ids_of(records.select(source, condition)) == expected
        assert ids_of(records.select(source, order_by=field, desc=True, limit=7)) == by_value[:7]
        cut = records.parts(records.query(source, condition, order_by=field, limit=5), ["id"], rows=6)
        assert sum(part.load().num_rows for part in cut) == min(5, len(expected))
        assert all(part.load().column_names == ["id"] for part in cut)


def test_fields_of_the_prediction_come_from_what_there_is():
    logits = np.array([[0.0, 3.0, 1.0], [2.0, 1.0, 0.0]], np.float32)
    table = records.from_arrays(["a", "b"], class_names=NAMES, logits=logits)
    dogs = records.select(table, [{"left": "prediction.class_name", "op": "=", "right": "dog"}])
    assert ids_of(dogs) == ["a"]
    entropy = scores.entropy(scores.confidences_from_logits(logits))
    condition = {"left": "prediction.entropy", "op": "<", "right": float(entropy.mean())}
    assert ids_of(records.select(table, [condition])) == [["a", "b"][entropy.argmin()]]
    confident = records.as_table([{"id": 1, "confidence": 0.25, "class_name": "cat"}])
    for field, value in [("confidence", 0.25), ("least_confidence", 0.75), ("class_name", "cat")]:
        condition = {"left": f"prediction.{field}", "op": "=", "right": value}
        assert records.select(confident, [condition]).num_rows == 1


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("prediction.entropi", r"'prediction.entropi' is unknown \(did you mean 'prediction.entropy'\?\)"),
        ("mc_dropout.bold", r"did you mean 'mc_dropout.bald'\?"),
        ("logits.norm", "is unknown"),
        ("query_by_committee.vote_entropy", "computed from query_by_committee; the records have: id, conf"),
        (
            "prediction.class_name",
            "from class_name or confidences and class_names or logits and class_names; the records have",
        ),
    ],
)
def test_a_field_that_cannot_be_computed_is_named(field, message):
    table = records.from_arrays([1, 2], confidences=[[0.5, 0.5]] * 2)
    for make in (records.select, records.query):
        for options in ({"filters": [{"left": field, "op": "=", "right": None}]}, {"order_by": field}):
            with pytest.raises(RecordError, match=message):
                make(table, **options)


@pytest.mark.parametrize(
    ("confidences", "record", "message"),
    [
        ([[0.5, 0.5], [0.5, 0.75]], "b", "record 'b': field 'prediction.entropy' cannot be computed"),
        ([[1.0], [1.0]], None, "^field 'prediction.entropy' cannot be computed: confidences must have"),
    ],
)
def test_a_record_that_cannot_be_scored_is_named(confidences, record, message):
    table = records.from_arrays(["a", "b"], confidences=confidences)
    with pytest.raises(RecordError, match=message) as error:
        records.select(table, order_by="prediction.entropy")
    assert error.value.record == record


def test_certainty_of_a_record_is_that_of_its_least_certain_box():
    boxes = [{"location_certainty": each, "box_variance": each} for each in (0.75, 0.25, 0.5)]
    rows = [
        {"id": "a", "detections": boxes},
        {"id": "b", "detections": []},
        {"id": "c", "detections": boxes[2:]},
    ]
    certain, variable = "detections.location_certainty", "detections.box_variance"
    assert records.field_values(records.as_table(rows), certain).to_pylist() == [0.25, None, 0.5]
    assert records.field_values(records.as_table(rows), variable).to_pylist() == [0.75, None, 0.5]
    assert ids_of(records.select(rows, [{"left": certain, "op": "<", "right": 0.9}])) == ["a", "c"]
    assert ids_of(records.select(rows, [{"left": certain, "op": "=", "right": None}])) == ["b"]
    assert ids_of(records.select(rows, order_by=certain)) == ["a", "c", "b"]
    with pytest.raises(
        RecordError, match="computed from detections.class_certainty; the records have: id, detec"
    ):
        records.select(rows, order_by="detections.class_certainty")


@pytest.mark.parametrize("field", DEFINITIONS)
def test_no_record_has_no_value(table, field):
    none = records.select(table, limit=0)
    condition = {"left": field, "op": "!=", "right": None}
    assert records.select(none, [condition], order_by=field).num_rows == 0
