"""Large arrays: the scores of their pieces, the first wrong row named; and votes without confidences."""

import numpy as np
import pytest
from helpers_scores import CONFIDENCE_SCORES, SAMPLE_SCORES, VECTOR_SCORES, confidences_of, plain_entropy
from hypothesis import given, settings
from hypothesis import strategies as st

from alhelpers import scores
from alhelpers.scores import _blocks

SCORES = CONFIDENCE_SCORES | SAMPLE_SCORES | VECTOR_SCORES
ROWS = 16 * _blocks.CHUNK_ELEMENTS // 10


@pytest.fixture(scope="module")
def many():
    rows = np.random.default_rng(0).random((ROWS, 10), dtype=np.float32)
    return rows / rows.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("name", CONFIDENCE_SCORES)
def test_blocks_change_no_score(many, name):
    score = CONFIDENCE_SCORES[name]
    pieces = [score(many[start : start + 1000]) for start in range(0, len(many), 1000)]
    np.testing.assert_array_equal(score(many), np.concatenate(pieces))


@pytest.mark.filterwarnings("ignore:the logits are confidences")
@pytest.mark.parametrize("classes", [2, 10, 63, 64, 65, 200])
@pytest.mark.parametrize("name", SCORES)
def test_no_bit_of_a_score_depends_on_the_records_beside_it(name, classes):
    score = SCORES[name]
    rows = confidences_of(classes, (40, 6, classes) if name in SAMPLE_SCORES else (40, classes))
    together = score(rows)
    np.testing.assert_array_equal(score(rows[::-1]), together[::-1])
    for size in (1, 2, 3, 7, 16, 39):
        pieces = [score(rows[start : start + size]) for start in range(0, len(rows), size)]
        np.testing.assert_array_equal(np.concatenate(pieces), together)


def test_of_wrong_rows_in_several_blocks_the_first_is_named(many):
    broken = many.copy()
    first, last = ROWS // 10, ROWS - 1
    broken[[first, last], 3] = np.nan
    with pytest.raises(scores.ScoreError, match=f"row {first} of confidences holds NaN") as caught:
        scores.margin(broken)
    assert caught.value.row == first and str(caught.value).startswith(f"row {first} of confidences")


@settings(max_examples=100)
@given(classes=st.integers(2, 300), members=st.integers(2, 12), data=st.data())
def test_entropy_of_votes_is_its_definition(classes, members, data):
    one = st.lists(st.integers(0, classes - 1), min_size=members, max_size=members)
    votes = data.draw(st.lists(one, min_size=1))
    expected = [plain_entropy([row.count(c) / members for c in range(classes)]) for row in votes]
    np.testing.assert_allclose(scores.vote_entropy_from_votes(votes, classes), expected, atol=1e-6)


def test_votes_score_as_confidences_that_are_certain():
    votes = np.random.default_rng(1).integers(0, 4, (500, 7))
    np.testing.assert_array_equal(
        scores.vote_entropy_from_votes(votes, 4), scores.vote_entropy(np.eye(4, dtype=np.float32)[votes])
    )


@pytest.mark.parametrize(("members", "classes"), [(5, 10), (20, 4), (9, 300)])
def test_votes_that_differ_in_the_classes_only_tie(members, classes):
    draw = np.random.default_rng(members)
    votes = np.array([draw.integers(0, min(classes, 6), members)] * 200)
    for row in votes:
        row[:] = draw.permutation(draw.permutation(classes)[row])
    assert len(np.unique(scores.vote_entropy_from_votes(votes, classes))) == 1


@pytest.mark.parametrize(
    ("votes", "classes", "message"),
    [
        ([[0.0, 1.0]], 2, "votes must be whole numbers of shape"),
        ([0, 1], 2, "at least 2 members"),
        ([[0], [1]], 2, "at least 2 members"),
        ([[0, 1], [0, 2]], 2, "row 1 of votes has 2, which is not a class: classes are 0 to 1"),
        ([[0, -1]], 2, "row 0 of votes has -1"),
        ([[0, 0]], 1, "classes must be a whole number of at least 2, got 1"),
    ],
)
def test_votes_that_are_not_valid_are_named(votes, classes, message):
    with pytest.raises(scores.ScoreError, match=message):
        scores.vote_entropy_from_votes(votes, classes)


def test_no_votes_have_no_scores():
    assert scores.vote_entropy_from_votes(np.empty((0, 3), dtype=int), 2).shape == (0,)
