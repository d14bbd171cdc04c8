import datetime

import pytest
from helpers_records import full_table, ids_of

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


def test_the_order_of_a_query_stays_unless_another_is_asked_for():
    query = records.query(full_table(), order_by="tags.run_id", desc=True)
    assert ids_of(records.select(query)) == ["r2", "r5", "r1", "r4", "r0", "r3"]
    assert ids_of(records.select(query, limit=3)) == ["r2", "r5", "r1"]
    assert ids_of(records.select(query, order_by="id", limit=3)) == ["r0", "r1", "r2"]


def test_filters_of_times_and_of_keys_with_dots():
    moments = [datetime.datetime(2026, 1, day) for day in (1, 2, 3)]
    rows = [{"id": k, "metadata": {"at": each, "a.b": k, "a": {"b": -k}}} for k, each in enumerate(moments)]
    table = records.as_table([*rows, {"id": 3, "metadata": None}])
    for right in ("2026-01-02", "2026-01-02T00:00:00", moments[1]):
        assert ids_of(records.select(table, [{"left": "metadata.at", "op": ">=", "right": right}])) == [1, 2]
    # a record without the field meets no condition but "= None", also where None is in the list
    assert ids_of(
        records.select(table, [{"left": "metadata.at", "op": "in", "right": [moments[0], None]}])
    ) == [0]
    assert ids_of(records.select(table, [{"left": "metadata.at", "op": "not in", "right": [None]}])) == [
        0,
        1,
        2,
    ]
    with pytest.raises(RecordError, match="field 'metadata.a.b' has two meanings"):
        records.query(table, order_by="metadata.a.b")
    with pytest.raises(RecordError, match="does not fit the field, which holds timestamp"):
        records.select(table, [{"left": "metadata.at", "op": ">", "right": "yesterday"}])
