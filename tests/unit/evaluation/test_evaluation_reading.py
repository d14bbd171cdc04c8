"""Columns of rows, names as numbers, and which boxes are compared at all."""

import datetime
import decimal
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alhelpers.evaluation import Detections, EvaluationError, iou
from alhelpers.evaluation.boxes import Boxes
from alhelpers.evaluation.matching import _groups, _touch
from alhelpers.evaluation.rows import Names, column, floats, keys, name_column, number_columns

NUMBERS = [
    *(1, 0.5, True, "1", " 2 ", b"3", np.float16(1), np.int64(7), np.str_("4"), np.array(1.0)),
    *(decimal.Decimal(1), 10**30),
]
NO_NUMBERS = [
    *(None, "x", float("nan"), float("inf"), pd.NA, [1.0], (1.0,), {}, np.array([1.0]), object()),
    *(datetime.datetime(2020, 1, 1), np.ma.masked),
]
NAMES = st.one_of(
    st.integers(-3, 3),
    st.sampled_from(["a", "b", "1", 1.0, True, np.int64(2), np.str_("a"), (1, 2), b"a"]),
)


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_numbers_of_every_type_are_read_as_column_by_column(value):
    rows = [{"a": 0.25, "b": 3, "c": "not read"}, {"a": value, "b": 0.5}]
    expected = np.stack([floats(column(rows, key, "n"), key, "n") for key in "ab"], axis=1)
    for given_rows in (rows, tuple(rows)):
        np.testing.assert_array_equal(number_columns(given_rows, "ab", "n"), expected)
    np.testing.assert_array_equal(number_columns(rows, ["a"], "n"), expected[:, :1])


@pytest.mark.filterwarnings("ignore:Warning. converting a masked element")
@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: re.sub(r" at 0x\w+", "", repr(value)))
@pytest.mark.parametrize("place", [0, 2])
def test_what_is_no_number_is_named_as_column_by_column(value, place):
    rows = [{"a": 1.0, "b": 2.0} for _ in range(3)]
    rows[place]["b"] = value
    with pytest.raises(EvaluationError) as expected:
        floats(column(rows, "b", "rows"), "b", "rows")
    with pytest.raises(EvaluationError) as found:
        number_columns(rows, "ab", "rows")
    assert str(found.value) == str(expected.value)


def test_a_row_that_lacks_a_column_or_is_none_is_named():
    rows = [{"a": 1.0}, {"b": 1.0}]
    for read in (lambda: number_columns(rows, ["a"], "rows"), lambda: name_column(rows, "a", "rows")):
        with pytest.raises(EvaluationError, match=r"row 1 of rows has no 'a', it has \['b'\]"):
            read()
    for rows in ([1, 2], iter([{"a": 1}])):
        for read in (number_columns, name_column):
            with pytest.raises(EvaluationError, match="rows must be a list of dicts or a DataFrame, got"):
                read(rows, "a", "rows")
    assert number_columns([], "ab", "rows").shape == (0, 2) and not len(name_column([], "a", "rows"))


@given(st.lists(NAMES, max_size=12))
def test_names_are_the_values_numbered_as_they_come(values):
    found = name_column([{"a": value} for value in values], "a", "rows")
    plain = keys(values, "a", "rows")
    assert list(found) == plain and len(found) == len(values)
    assert found.distinct == list(dict.fromkeys(plain))
    assert [found[row] for row in range(len(values))] == plain
    some = np.arange(len(values)) % 2 == 0
    assert list(found.take(some)) == plain[::2] and list(found.take(np.flatnonzero(some))) == plain[::2]
    assert found.take(some).present() == [name for name in found.distinct if name in plain[::2]]
    known = {"b": 0}
    assert [list(known)[number] for number in found.numbered(known)] == plain
    assert Names.of(found) is found


@pytest.mark.parametrize("value", [None, float("nan"), [1], {}, pd.NA, np.float64("nan")], ids=repr)
def test_what_is_no_name_is_named(value):
    with pytest.raises(EvaluationError, match="row 1 of rows: a is .*, not a name"):
        name_column([{"a": "x"}, {"a": value}], "a", "rows")


def boxes_of(rng, images, count):
    """Boxes of small whole numbers, so that many touch, and many are of no area."""
    corners = rng.integers(6, size=(count, 2))
    ends = corners + rng.integers(4, size=(count, 2))
    names = [[f"{kind}{number}" for number in rng.integers(images, size=count)] for kind in "il"]
    rows = [
        dict(image_id=image, label=label, left=left, top=top, right=right, bottom=bottom)
        for image, label, (left, top), (right, bottom) in zip(*names, corners, ends, strict=True)
    ]
    return rows, Boxes.read(rows, "rows")


@pytest.mark.parametrize("images", [3, 80, 1000])
def test_boxes_of_an_image_and_label_have_one_number(images):
    rng = np.random.default_rng(images)
    (rows, truth), (other_rows, found) = (boxes_of(rng, images, count) for count in (150, 120))
    first, second, groups = _groups(truth, found)
    pairs = [(row["image_id"], row["label"]) for row in (*rows, *other_rows)]
    numbers = [*first.tolist(), *second.tolist()]
    assert len(set(zip(pairs, numbers, strict=True))) == len(set(pairs)) == len(set(numbers))
    # A thousand images and as many labels would be a million groups, nearly all of no row.
    assert max(numbers) < groups <= 4 * len(pairs) + 1000


@given(st.integers(0, 1000))
def test_boxes_that_do_not_touch_are_those_without_overlap(seed):
    rng = np.random.default_rng(seed)
    first, second = (boxes_of(rng, 1, 12)[1].corners for _ in range(2))
    rows, others = (places.ravel() for places in np.indices((12, 12)))
    apart = np.ones(144, dtype=bool)
    apart[_touch(first, rows, second, others)] = False
    assert (iou(first, second).ravel()[apart] == 0).all()
    a, b = first[rows], second[others]
    expected = (np.minimum(a, b)[:, 2:] > np.maximum(a, b)[:, :2]).all(axis=1)
    # Boxes without area inside another may be compared; they overlap by nothing.
    np.testing.assert_array_equal(expected & ~apart, expected)


def test_rows_are_the_same_as_dicts_tuples_and_frames():
    rows, _ = boxes_of(np.random.default_rng(0), 5, 60)
    found = [row | {"score": place / 60} for place, row in enumerate(rows)]
    forms = [(rows, found), (tuple(rows), tuple(found)), (pd.DataFrame(rows), pd.DataFrame(found))]
    values = [Detections(*form).mean_average_precision().per_label for form in forms]
    assert values[0] == values[1] == values[2]
