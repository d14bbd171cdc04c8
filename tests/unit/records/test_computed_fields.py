import numpy as np
import pytest

from alhelpers import records, scores
from alhelpers.records import RecordError
from alhelpers.records.filters import COMPUTED

NAMES = ["cat", "dog", "fox"]
COUNT = 40


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
        detections=[[{"left": 1.0}] * (k % 4) for k in range(COUNT)],
    )


def expected_of(table):
    confidences = records.column(table, "confidences")
    passes = records.column(table, "mc_dropout")
    members = records.column(table, "query_by_committee")
    return {
        "prediction.confidence": confidences.max(axis=1),
        "prediction.class_name": np.array(NAMES, object)[confidences.argmax(axis=1)],
        "prediction.entropy": scores.entropy(confidences),
        "prediction.margin": scores.margin(confidences),
        "prediction.least_confidence": scores.least_confidence(confidences),
        "mc_dropout.bald": scores.bald(passes),
        "mc_dropout.variance": scores.variance(passes),
        "mc_dropout.predictive_entropy": scores.predictive_entropy(passes),
        "mc_dropout.margin": scores.mean_margin(passes),
        "mc_dropout.variation_ratio": scores.variation_ratio(passes),
        "query_by_committee.vote_entropy": scores.vote_entropy(members),
        "query_by_committee.consensus_kl": scores.consensus_kl(members),
        "embeddings.norm": np.linalg.norm(records.column(table, "embeddings"), axis=1),
        "embeddings:early.norm": np.linalg.norm(records.column(table, "embeddings:early"), axis=1),
        "detections.count": np.arange(COUNT) % 4,
    }


FIELDS = [*COMPUTED, "embeddings:early.norm"]


@pytest.mark.parametrize("field", FIELDS)
def test_a_computed_field_filters_and_orders_by_its_definition(table, tmp_path, field):
    path = tmp_path / "a.parquet"
    records.write(path, table)
    values, ids = expected_of(table)[field], table["id"].to_pylist()
    middle = sorted(values)[COUNT // 2]
    middle = middle if isinstance(middle, str) else float(middle) + 1e-4
    expected = [id for id, value in zip(ids, values, strict=True) if value > middle]
    by_value = [ids[k] for k in sorted(range(COUNT), key=lambda k: (-rank(values)[k], ids[k]))]
    condition = [{"left": field, "op": ">", "right": middle}]
    for source in (table, path):
        assert records.select(source, condition)["id"].to_pylist() == expected
        assert records.select(source, order_by=field, desc=True, limit=7)["id"].to_pylist() == by_value[:7]
        cut = records.parts(records.query(source, condition, order_by=field, limit=5), ["id"], rows=6)
        assert sum(part.load().num_rows for part in cut) == min(5, len(expected))
        assert all(part.load().column_names == ["id"] for part in cut)


def rank(values):
    return np.unique(values, return_inverse=True)[1]


def test_fields_of_the_prediction_come_from_what_there_is():
    logits = np.array([[0.0, 3.0, 1.0], [2.0, 1.0, 0.0]], np.float32)
    table = records.from_arrays(["a", "b"], class_names=NAMES, logits=logits)
    assert records.select(table, [{"left": "prediction.class_name", "op": "=", "right": "dog"}])[
        "id"
    ].to_pylist() == ["a"]
    entropy = scores.entropy(scores.confidences_from_logits(logits))
    threshold = float(entropy.mean())
    kept = records.select(table, [{"left": "prediction.entropy", "op": "<", "right": threshold}])
    assert kept["id"].to_pylist() == [["a", "b"][entropy.argmin()]]
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
        (
            "query_by_committee.vote_entropy",
            "is computed from query_by_committee; the records have: id, conf",
        ),
        (
            "prediction.class_name",
            "computed from class_name or confidences and class_names or logits and class_names; the",
        ),
    ],
)
def test_a_field_that_cannot_be_computed_is_named(field, message):
    table = records.from_arrays([1, 2], confidences=[[0.5, 0.5]] * 2)
    for make in (records.select, records.query):
        with pytest.raises(RecordError, match=message):
            make(table, [{"left": field, "op": "=", "right": None}])
        with pytest.raises(RecordError, match=message):
            make(table, order_by=field)


def test_a_record_that_cannot_be_scored_is_named():
    table = records.from_arrays(["a", "b"], confidences=[[0.5, 0.5], [0.5, 0.75]])
    with pytest.raises(
        RecordError, match=r"record 'b': field 'prediction.entropy' cannot be computed"
    ) as error:
        records.select(table, order_by="prediction.entropy")
    assert error.value.record == "b"
    single = records.from_arrays(["a"], confidences=[[1.0]])
    with pytest.raises(
        RecordError, match="field 'prediction.entropy' cannot be computed: confidences must have"
    ):
        records.select(single, order_by="prediction.entropy")


def test_no_record_has_no_value(table):
    none = records.select(table, limit=0)
    for field in FIELDS:
        assert (
            records.select(none, [{"left": field, "op": "!=", "right": None}], order_by=field).num_rows == 0
        )
