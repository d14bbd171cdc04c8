import numpy as np
import pytest
from cleanlab.multiannotator import get_label_quality_multiannotator
from cleanlab.rank import get_label_quality_scores
from hypothesis import given, settings
from hypothesis import strategies as st

from alhelpers import mining, records

MISSING = mining.MISSING


def simulated(seed=0, count=200, noise=(0.2, 0.2, 0.2), classes=5, asked=0.6, model=0.8):
    """Return the truth, annotations, and confidences of a model that is right that often."""
    draw = np.random.default_rng(seed)
    truth = draw.integers(0, classes, count)
    wrong = (truth[:, None] + draw.integers(1, classes, (count, len(noise)))) % classes
    votes = np.where(draw.random((count, len(noise))) < np.array(noise), wrong, truth[:, None])
    votes[draw.random(votes.shape) > asked] = MISSING
    none = (votes == MISSING).all(1)
    votes[none, 0] = truth[none]
    believed = np.where(draw.random(count) < model, truth, draw.integers(0, classes, count))
    confidences = 0.6 * np.eye(classes)[believed] + 0.4 * draw.dirichlet(np.ones(classes), count)
    return truth, votes, confidences


# ------------------------------------------------------------------------------
# label errors
# ------------------------------------------------------------------------------


@pytest.mark.parametrize("score", ["normalized_margin", "self_confidence"])
def test_label_errors_are_those_of_cleanlab(score):
    truth, _, confidences = simulated()
    expected = 1 - get_label_quality_scores(truth, confidences, method=score)
    np.testing.assert_allclose(mining.label_errors(truth, confidences, score), expected, atol=1e-6)


def test_label_errors_find_the_wrong_labels():
    # 40 of 400 labels are wrong, and the model is right on 80 %. A score at random has an AUC of 0.5 with a standard
    # deviation of 0.048; below 0.75 a useful score falls with a probability under 1 in 1000.
    from sklearn.metrics import roc_auc_score

    truth, _, confidences = simulated(seed=1, count=400)
    wrong = np.arange(400) < 40
    labels = np.where(wrong, (truth + 1) % 5, truth)
    assert roc_auc_score(wrong, mining.label_errors(labels, confidences)) > 0.75


# ------------------------------------------------------------------------------
# consensus
# ------------------------------------------------------------------------------


def test_with_one_annotation_each_the_consensus_is_bayes_rule():
    votes = np.array([[0, MISSING], [MISSING, 2], [MISSING, MISSING]])
    confidences = np.array([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05], [0.1, 0.8, 0.1]])
    prior = np.sqrt(confidences)
    prior[0] *= [0.7, 0.15, 0.15]
    prior[1] *= [0.15, 0.15, 0.7]
    expected = prior / prior.sum(1, keepdims=True)
    found = mining.consensus(votes, confidences, accuracy=0.7)
    np.testing.assert_allclose(found.probabilities, expected, rtol=1e-5)
    assert found.labels.tolist() == expected.argmax(1).tolist()
    np.testing.assert_allclose(found.accuracy, 0.7)
    np.testing.assert_allclose(found.agreement, [1, found.labels[1] == 2, np.nan])


def test_annotators_are_told_apart():
    # 300 shared labels each: the standard error of a share is below 0.03, and the gaps are ten times that.
    _, votes, confidences = simulated(seed=2, count=400, noise=(0.05, 0.2, 0.6), asked=0.9)
    accuracy = mining.consensus(votes, confidences).accuracy
    np.testing.assert_allclose(accuracy, [0.95, 0.8, 0.4], atol=0.1)


def test_the_consensus_is_right_as_often_as_that_of_cleanlab():
    # Ours less cleanlab's on 10 x 200 records; equal methods would lose by more than 0.02 once in 1000.
    ours, peer, majority = [], [], []
    for seed in range(10):
        truth, votes, confidences = simulated(seed)
        given = np.where(votes == MISSING, np.nan, votes)
        found = get_label_quality_multiannotator(given, confidences, verbose=False)["label_quality"]
        ours.append((mining.consensus(votes, confidences).labels == truth).mean())
        peer.append((found["consensus_label"].to_numpy() == truth).mean())
        counts = (votes[:, :, None] == np.arange(5)).sum(1)
        majority.append((counts.argmax(1) == truth).mean())
    assert np.mean(ours) > np.mean(peer) - 0.02
    assert np.mean(ours) > np.mean(majority) + 0.02


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_neither_the_order_of_records_nor_of_annotators_matters(seed):
    _, votes, confidences = simulated(seed, count=40)
    draw = np.random.default_rng(seed)
    rows, columns = draw.permutation(40), draw.permutation(3)
    one, other = (
        mining.consensus(votes, confidences),
        mining.consensus(votes[rows][:, columns], confidences[rows]),
    )
    np.testing.assert_allclose(one.probabilities[rows], other.probabilities, atol=1e-5)
    np.testing.assert_allclose(one.accuracy[columns], other.accuracy, atol=1e-5)


# ------------------------------------------------------------------------------
# the choice
# ------------------------------------------------------------------------------


def table(confidences, first=0, labels=None):
    names = [f"c{number}" for number in range(confidences.shape[1])]
    truth = None if labels is None else [names[label] for label in labels]
    ids = np.arange(first, first + len(confidences))
    return records.from_arrays(ids, confidences=confidences, class_names=names, groundtruth=truth)


def test_without_annotators_suspicious_labels_come_first():
    truth, _, confidences = simulated()
    found = mining.relabel(table(confidences, labels=truth), 5)
    scores = mining.label_errors(truth, confidences)
    assert found.ids == np.argsort(-scores, kind="stable")[:5].tolist()
    assert found.meta["relabel"] == 5 and found.meta["label"] == 0


def test_new_and_labelled_records_are_ranked_on_one_scale():
    _, votes, confidences = simulated(count=60)
    _, _, fresh = simulated(seed=9, count=60)
    found = mining.relabel(
        table(confidences), 120 - (votes != MISSING).all(1).sum(), pool=table(fresh, 60), annotations=votes
    )
    posterior = np.sort(mining.consensus(votes, confidences).probabilities, axis=1)
    roots = np.sqrt(fresh.clip(1e-3))
    prior = np.sort(roots / roots.sum(1, keepdims=True), axis=1)
    scores = np.concatenate([1 - posterior[:, -1] + posterior[:, -2], 1 - prior[:, -1] + prior[:, -2]])
    np.testing.assert_allclose(found.scores, scores[found.ids], rtol=1e-5)
    assert (np.diff(found.scores) <= 0).all()
    complete = set(np.flatnonzero((votes != MISSING).all(1)))
    assert complete and complete.isdisjoint(found.ids), "whom all have labelled is not asked again"
    assert found.meta["label"] == 60


def test_a_label_that_the_model_contradicts_is_asked_again_before_a_clear_new_record():
    sure = np.array([[0.98, 0.01, 0.01]])
    found = mining.relabel(table(sure, labels=[1]), 2, pool=table(sure, 1))
    assert found.ids == [0, 1]
    assert mining.relabel(table(sure, labels=[0]), 2, pool=table(sure, 1)).ids == [1, 0]
    assert mining.relabel(table(sure, labels=[1]), 2, pool=table(sure, 1), cost=50).ids == [1, 0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size must be"),
        ({"size": 99}, "size=99 records were asked for, but there are 4"),
        ({"cost": 0}, "cost is 0"),
        ({"score": "best"}, "score is 'best': choose consensus"),
        ({"score": "self_confidence"}, "knows neither annotators nor new records"),
        ({"accuracy": 0.2}, "above chance, 0.333"),
        ({"annotations": [[0], [1]]}, "annotations have the shape"),
        ({"annotations": [[0], [1], [2], [3]]}, "annotator 0 chose 3 for record 3: class indices are 0 to 2"),
        ({"annotations": [["a"], ["b"], ["c"], ["d"]]}, "must be class indices, -1 where missing"),
        ({"annotations": [[0.5], [1], [2], [0]]}, "must be class indices, -1 where missing"),
        ({"pool": table(np.ones((2, 2)) / 2, 9)}, "the pool has 2 classes, the labelled records 3"),
        ({"pool": table(np.ones((2, 3)) / 3, 3)}, "3"),
    ],
)
def test_mistakes_are_named(change, message):
    arguments = {"size": 1, "annotations": [[0, -1], [1, -1], [2, -1], [0, -1]]} | change
    if "pool" in change:
        arguments["annotations"] = None
    with pytest.raises(ValueError, match=message):
        mining.relabel(table(np.ones((4, 3)) / 3, labels=[0, 1, 2, 0]), **arguments)


def test_a_label_of_no_class_is_named():
    with pytest.raises(records.RecordError, match="record 1: its groundtruth is None"):
        part = records.from_arrays(
            [0, 1], confidences=np.ones((2, 2)) / 2, class_names=["a", "b"], groundtruth=["a", None]
        )
        mining.relabel(part, 1)
