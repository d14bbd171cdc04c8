import operator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers_records import full_table, ids_of
from hypothesis import given, settings
from hypothesis import strategies as st

from alhelpers import records
from alhelpers.records import RecordError


@pytest.mark.parametrize(
    ("left", "op", "right", "expected"),
    [
        ("tags.run_id", "=", 1, "14"),
        ("tags.run_id", "!=", 1, "0235"),
        ("tags.run_id", ">=", 1.5, "25"),
        ("metadata.x", "<", 1, "01"),
        ("metadata.x", "<=", 1, "012"),
        ("metadata.deep.y", ">", 3, "45"),
        ("id", "in", ["r3", "r0", "zz"], "03"),
        ("id", "not in", ("r3", "r0"), "1245"),
        ("tags.note", "like", "n_", "012345"),
        ("tags.note", "like", "%5", "5"),
        ("tags.note", "not like", "%5", "01234"),
        ("groundtruth", "=", None, "024"),
        ("groundtruth", "!=", None, "135"),
        ("groundtruth", "!=", "cat", "15"),
        ("groundtruth", "not in", ["cat"], "15"),
        ("groundtruth", "not like", "c%", "15"),
    ],
)
def test_filters(left, op, right, expected):
    chosen = records.select(full_table(), [{"left": left, "op": op, "right": right}])
    assert ids_of(chosen) == [f"r{k}" for k in expected]


def test_filters_all_hold_and_everything_is_optional():
    table = full_table()
    both = [{"left": "tags.run_id", "op": "=", "right": 1}, {"left": "metadata.x", "op": ">", "right": 1}]
    assert ids_of(records.select(table, both)) == ["r4"]
    assert records.select(table).equals(table)
    assert ids_of(records.select(table, both, limit=0)) == []
    assert ids_of(records.select(records.select(table, limit=0), both)) == []


def test_order_and_limit():
    table = full_table()
    assert ids_of(records.select(table, order_by="tags.run_id")) == ["r0", "r3", "r1", "r4", "r2", "r5"]
    assert ids_of(records.select(table, order_by="tags.run_id", desc=True, limit=3)) == ["r2", "r5", "r1"]
    for desc in (False, True):
        assert ids_of(records.select(table, order_by="groundtruth", desc=desc))[3:] == ["r0", "r2", "r4"]


@pytest.mark.parametrize(
    ("op", "right", "expected"), [("=", 0.9, "a"), ("<", 0.9, "b"), ("in", [0.9], "a"), (">=", 0.8, "ab")]
)
def test_floats_compare_as_they_are_stored(op, right, expected):
    table = records.as_table([{"id": "a", "confidence": 0.9}, {"id": "b", "confidence": 0.8}])
    assert ids_of(records.select(table, [{"left": "confidence", "op": op, "right": right}])) == list(expected)


def test_select_takes_every_form_of_records(tmp_path):
    path, table = tmp_path / "a.parquet", full_table()
    records.write(path, table)
    for form in (table.to_pylist(), table, path, str(tmp_path / "*.parquet"), records.query(path)):
        assert ids_of(records.select(form, [{"left": "groundtruth", "op": "=", "right": "dog"}])) == ["r1"]


@pytest.mark.parametrize("rows", [1, 2, 4, 100])
def test_filters_keep_the_samples_of_tables_in_several_pieces(tmp_path, rows):
    table = full_table(9)
    pq.write_table(table, tmp_path / "one_group.parquet")
    pieces = pa.concat_tables([table.slice(0, 2), table.slice(2, 3), table.slice(5)])
    odd = [{"left": "metadata.deep.y", "op": "in", "right": [1, 3, 5, 7]}]
    for source in (tmp_path / "one_group.parquet", pieces, records.as_table(pieces)):
        loaded = [part.load() for part in records.parts(records.query(source, odd), rows=rows)]
        for found in (
            pa.concat_tables(loaded),
            records.select(source, odd),
            records.select(source, odd, 4, "id"),
        ):
            samples = records.column(found, "mc_dropout")
            np.testing.assert_array_equal(samples, records.column(table, "mc_dropout")[1:8:2])


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        (
            ("tags.run", "=", 1),
            r"'tags.run' is unknown \(did you mean 'tags.run_id'\?\); the records have: id, ",
        ),
        (("confidences", "=", 1), "field 'confidences' is unknown"),
        (("id", "==", 1), "operator '==' must be one of <, <="),
        (("id", "=", 1), "the value does not fit the field, which holds string"),
        (("tags.run_id", "like", "1%"), "the field, which holds int64"),
        (("tags.run_id", "in", 1), "does not fit"),
        (("id", "in", "r1"), "does not fit"),
        (("tags.run_id", "in", ["a"]), "does not fit"),
        (("id", "<", None), "only = and != compare with None"),
        (("id", "="), "a filter must be"),
    ],
)
def test_filters_that_do_not_fit_are_named(condition, message):
    with pytest.raises(RecordError, match=message):
        records.select(full_table(), [dict(zip(("left", "op", "right"), condition, strict=False))])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order_by": "colour"}, "field 'colour' is unknown"),
        ({"limit": -1}, "limit must be"),
        ({"limit": 2.5}, "limit must be"),
    ],
)
def test_orders_and_limits_that_do_not_fit_are_named(options, message):
    with pytest.raises(RecordError, match=message):
        records.select(full_table(), **options)


OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "=": "!=", "!=": "="}
COMPARE = dict(
    zip(OPPOSITE, (operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne), strict=True)
)


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.one_of(st.none(), st.integers(-3, 3)), min_size=1, max_size=12).filter(
        lambda values: set(values) != {None}
    ),
    right=st.integers(-3, 3),
    op=st.sampled_from(list(OPPOSITE)),
)
def test_comparisons_equal_pythons_and_complement_each_other(values, right, op):
    table = pa.table({"id": list(range(len(values))), "metadata": [{"v": v} for v in values]})
    met, rest = (
        ids_of(records.select(table, [{"left": "metadata.v", "op": each, "right": right}]))
        for each in (op, OPPOSITE[op])
    )
    assert met == [k for k, v in enumerate(values) if v is not None and COMPARE[op](v, right)]
    assert sorted(met + rest) == [k for k, v in enumerate(values) if v is not None]
