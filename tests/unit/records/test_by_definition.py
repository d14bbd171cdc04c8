"""Random records in every form, selected as a few lines of plain Python select them."""

import operator
import re

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from alhelpers import records

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.sampled_from("ab%_\n\0é€ '\"."), max_size=4)
VALUES = {
    int: st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1),
    float: FLOATS,
    str: TEXTS,
    bool: st.booleans(),
}
KEYS = st.sampled_from(["a", "b", "c d", "é", "list", "element"])


def objects(draw, deeper=True):
    """Draw a strategy of documents, whose keys may be missing or None but hold values of one type each."""
    kinds = draw(st.dictionaries(KEYS, st.sampled_from(list(VALUES)), min_size=1, max_size=3))
    keys = {key: st.none() | VALUES[kind] for key, kind in kinds.items()}
    if deeper:
        keys["deep"] = objects(draw, deeper=False)
    return st.none() | st.fixed_dictionaries({}, optional=keys)


@st.composite
def rows_of_records(draw):
    size, passes = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    vectors = st.lists(FLOATS, min_size=size, max_size=size)
    box = {"class_name": st.none() | TEXTS, "left": FLOATS, "logits": vectors}
    known = {
        "confidence": FLOATS,
        "confidences": vectors,
        "embeddings:x.1": vectors,
        "mc_dropout": st.lists(vectors, min_size=passes, max_size=passes),
        "class_names": st.none() | st.lists(TEXTS, min_size=size, max_size=size),
        "groundtruth": st.none() | TEXTS,
        "detections": st.lists(st.fixed_dictionaries(box), max_size=3),
        "tags": objects(draw),
        "metadata": objects(draw),
    }
    columns = {name: known[name] for name in sorted(draw(st.sets(st.sampled_from(list(known)))))}
    columns["id"] = draw(st.sampled_from([st.integers(-5, 20), TEXTS]))
    return draw(
        st.lists(st.fixed_dictionaries(columns), min_size=1, max_size=9, unique_by=lambda row: row["id"])
    )


def plain(value):
    """Return a value without keys that have none: such a key is null, or missing, as the form of the records has it."""
    if isinstance(value, list):
        return [plain(part) for part in value]
    if not isinstance(value, dict):
        return value
    parts = {key: plain(part) for key, part in value.items()}
    return {key: part for key, part in parts.items() if part is not None} or None


def fields(rows, above=()):
    """Return the paths to the values that can be compared."""
    found = {}
    for row in rows:
        for key, value in row.items():
            if isinstance(value, dict):
                found |= fields([value], (*above, key))
            elif value is not None and not isinstance(value, list):
                found[(*above, key)] = type(value)
    return found


def value_of(row, path):
    for key in path:
        row = None if row is None else row.get(key)
    return row


def is_like(value, pattern):
    regex = "".join({"%": ".*", "_": "."}.get(letter, re.escape(letter)) for letter in pattern)
    return re.fullmatch(regex, value, re.DOTALL) is not None


OPERATORS = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "!=": operator.ne,
    "in": lambda value, values: value in values,
    "not in": lambda value, values: value not in values,
    "like": is_like,
    "not like": lambda value, pattern: not is_like(value, pattern),
}


def meets(row, path, operation, right):
    value = value_of(row, path)
    if right is None:
        return (value is None) == (operation == "=")
    return value is not None and OPERATORS[operation](value, right)


@st.composite
def conditions(draw, rows):
    path, kind = draw(st.sampled_from(sorted(fields(rows).items(), key=str)))
    values = (
        st.sampled_from([value for row in rows if (value := value_of(row, path)) is not None]) | VALUES[kind]
    )
    operation = draw(
        st.sampled_from([name for name in OPERATORS if kind is str or not name.endswith("like")])
    )
    if operation.endswith("in"):
        return path, operation, draw(st.lists(values, max_size=3))
    return path, operation, draw(values | st.none() if operation in ("=", "!=") else values)


def ordered(rows, path, desc):
    rows = sorted(rows, key=lambda row: row["id"])
    have = [row for row in rows if value_of(row, path) is not None]
    have.sort(key=lambda row: value_of(row, path), reverse=desc)
    return have + [row for row in rows if value_of(row, path) is None]


def forms(rows, folder, cut):
    """Yield the same records in every form."""
    table = records.as_table(rows)
    records.write(folder / "whole.parquet", rows)
    pq.write_table(table, folder / "groups.parquet", row_group_size=cut)
    pq.write_table(pa.Table.from_pylist(table.to_pylist()), folder / "lists.parquet", row_group_size=cut)
    records.write(folder / "part1.parquet", rows[:cut])
    if rows[cut:]:
        records.write(folder / "part2.parquet", rows[cut:])
    records.to_json_lines(folder / "rows.jsonl", rows)
    records.convert(folder / "rows.jsonl", folder / "lines.parquet")
    yield from (rows, table, pa.concat_tables([table.slice(0, cut), table.slice(cut)]))
    yield from (folder / f"{name}.parquet" for name in ("whole", "groups", "lists", "lines"))
    yield str(folder / "part*.parquet")


@settings(max_examples=25)
@given(st.data())
def test_records_of_every_form_are_selected_by_definition(tmp_path_factory, data):
    rows = data.draw(rows_of_records())
    met = data.draw(st.lists(conditions(rows), max_size=2))
    by = data.draw(st.none() | st.sampled_from(sorted(fields(rows))))
    desc, limit = data.draw(st.booleans()), data.draw(st.none() | st.integers(0, len(rows)))
    cut = data.draw(st.integers(1, len(rows)))
    expected = [row for row in rows if all(meets(row, *condition) for condition in met)]
    expected = [plain(row) for row in (ordered(expected, by, desc) if by else expected)[:limit]]
    filters = [{"left": ".".join(path), "op": name, "right": right} for path, name, right in met]
    for source in forms(rows, tmp_path_factory.mktemp("forms"), cut):
        query = records.query(source, filters, limit, ".".join(by) if by else None, desc)
        assert plain(records.select(query).to_pylist()) == expected
        assert records.count(query) == len(expected)
        loaded = [part.load() for part in records.parts(query, rows=cut)]
        assert {str(table.schema) for table in loaded} == {str(loaded[0].schema)}
        found = [plain(row) for table in loaded for row in table.to_pylist()]
        assert sorted(found, key=operator.itemgetter("id")) == sorted(expected, key=operator.itemgetter("id"))
