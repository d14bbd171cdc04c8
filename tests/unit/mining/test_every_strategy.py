"""What holds for every strategy, whatever it computes."""

import copy
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from helpers_mining import same

from alhelpers import records
from alhelpers.mining import MiningError, MissingField, PoolExhausted, UnknownOption, mine, strategies

ALL = strategies()
VARIANTS = [(name, {}) for name in ALL] + [
    ("query_by_committee", {"score": "consensus_kl"}),
    ("query_by_committee", {"score": "consensus_kl", "reduction": "max"}),
    *[("mc_dropout", {"score": s}) for s in ("bald", "predictive_entropy", "variance", "variation_ratio")],
    *[
        (name, {"metric": "cosine"})
        for name in ("embedding_distance", "novelty", "outlier", "coreset", "object_coreset")
    ],
    ("nearest_neighbors", {"metric": "euclidean"}),
    *[("label_uncertainty", {"score": s, "over": "max"}) for s in ("margin", "confidence", "bald")],
    ("spread", {"reduction": "sum"}),
    *[(name, {"layer": "early"}) for name in ALL if "layer" in ALL[name]["options"]],
    ("activation", {"source": "logits"}),
    ("typicality", {"max_clusters": 3}),
    ("box_uncertainty", {"of": "variance", "over": "top_k", "top_k": 2}),
    ("weighted_box_uncertainty", {"of": "class", "noise": 0.5}),
]
WITH_FIELDS = [name for name in ALL if ALL[name]["fields"]]
WITH_LAYER = [name for name in ALL if "layer" in ALL[name]["options"]]
every_variant = pytest.mark.parametrize(("name", "options"), VARIANTS, ids=lambda value: str(value))


def column_of(field):
    return field.partition(".")[0]


def shuffled(table, seed=5):
    return table.take(np.random.default_rng(seed).permutation(table.num_rows))


def as_rows(table):
    """A list of dicts, with numpy vectors in it."""
    rows = [{"id": id} for id in table["id"].to_pylist()]
    for name in table.column_names[1:]:
        values = table[name].to_pylist()
        for row, value in zip(rows, values, strict=True):
            row[name] = np.array(value, dtype=np.float32) if name.startswith("embeddings") else value
    return rows


@every_variant
@pytest.mark.parametrize("size", [1, 7, 60])
def test_a_selection_is_what_was_asked_for(name, options, size, pool, reference):
    found = mine(pool, name, size, reference=reference, **options)
    assert len(found) == len(found.ids) == size == len(set(found.ids))
    assert set(found.ids) <= set(pool["id"].to_pylist())
    assert found.scores.shape == (size,) and found.scores.dtype == np.float32
    assert np.isfinite(found.scores).all()
    assert (np.diff(found.scores) <= 0).all()
    assert found.meta["strategy"] == name and found.meta["size"] == size and found.meta["pool"] == 60
    assert found.meta["options"] == ALL[name]["options"] | options


@every_variant
def test_same_seed_same_picks_whatever_the_order_of_the_rows(name, options, pool, reference):
    for seed in (0, 3):
        first = mine(pool, name, 12, reference=reference, seed=seed, **options)
        same(first, mine(pool, name, 12, reference=reference, seed=seed, **options))
        same(first, mine(shuffled(pool), name, 12, reference=shuffled(reference), seed=seed, **options))


@pytest.mark.parametrize("name", [name for name in ALL if name not in ("badge", "random", "typicality")])
def test_ties_go_to_the_smaller_id(name, reference):
    one = {"confidences": [0.7, 0.3], "embeddings": [1.0, 2.0], "query_by_committee": [[1, 0], [0, 1]]}
    one["mc_dropout"] = one["query_by_committee"]
    one["detections"] = [box(0.5)]
    rows = [{"id": f"r{k}", **one} for k in (5, 3, 8, 1, 9, 0)]
    other = [{"id": f"s{k}", **one, "embeddings": [k, 1.0]} for k in range(4)]
    found = mine(rows, name, 3, reference=other)
    assert found.ids == ["r0", "r1", "r3"]


@pytest.mark.parametrize("name", ALL)
def test_inputs_are_not_changed_and_every_form_of_records_gives_the_same(name, pool, reference, tmp_path):
    rows, labelled = as_rows(pool), as_rows(reference)
    before = copy.deepcopy((rows, labelled))
    found = mine(rows, name, 9, reference=labelled)
    assert str(before) == str((rows, labelled))
    same(found, mine(pool, name, 9, reference=reference))
    records.write(tmp_path / "pool-0.parquet", pool.slice(0, 20))
    records.write(tmp_path / "pool-1.parquet", pool.slice(20))
    records.write(tmp_path / "reference.parquet", reference)
    at = tmp_path / "reference.parquet"
    same(found, mine(str(tmp_path / "pool-*.parquet"), name, 9, reference=at))


@pytest.mark.parametrize("name", WITH_FIELDS)
def test_a_missing_field_is_named(name, pool, reference):
    for need in ALL[name]["fields"]:
        dropped = {*map(column_of, need)} & {*pool.column_names}
        left = pool.drop_columns(dropped)
        first = next(each for each in ALL[name]["fields"] if dropped & {*map(column_of, each)})
        message = f"strategy '{name}' needs {' or '.join(first)} in the records"
        with pytest.raises(MissingField, match=message) as error:
            mine(left, name, 3, reference=reference)
        assert all(column in str(error.value) for column in left.column_names)
        with pytest.raises(MissingField):
            mine(as_rows(left), name, 3, reference=reference)


@pytest.mark.parametrize("name", WITH_FIELDS)
def test_each_field_that_meets_a_need_is_enough(name, pool, reference):
    for need in ALL[name]["fields"]:
        for column in set(need) & set(pool.column_names):
            left = pool.drop_columns(
                [other for other in need if other != column and other in pool.column_names]
            )
            assert len(mine(left, name, 3, reference=reference)) == 3


@pytest.mark.parametrize("name", [name for name in ALL if ALL[name]["reference"] != "none"])
def test_the_reference_is_checked(name, pool, reference):
    if ALL[name]["reference"] == "required":
        with pytest.raises(MissingField, match=f"strategy '{name}' needs a reference"):
            mine(pool, name, 3)
    else:
        assert len(mine(pool, name, 3)) == 3
    if "layer" in ALL[name]["options"]:
        message = f"strategy '{name}' needs embeddings in the reference, which have: id"
        with pytest.raises(MissingField, match=message):
            mine(pool, name, 3, reference=reference.select(["id", "confidences"]))
        narrow = records.from_arrays(["a", "b"], embeddings=np.ones((2, 3), np.float32))
        with pytest.raises(MiningError, match="have 6 numbers, the reference's 3"):
            mine(pool, name, 3, reference=narrow)


@pytest.mark.parametrize("name", ALL)
def test_mistakes_are_named(name, pool, reference):
    with pytest.raises(UnknownOption, match=f"strategy '{name}' has no option 'colour'; its options are: "):
        mine(pool, name, 3, reference=reference, colour=1)
    with pytest.raises(PoolExhausted, match="size=61 records were asked for, but the pool holds 60"):
        mine(pool, name, 61, reference=reference)
    none = [{"left": "id", "op": "=", "right": "x"}]
    for nothing in (pool.slice(0, 0), records.query(pool, none)):
        with pytest.raises(records.RecordError, match="records hold no record"):
            mine(nothing, name, 1, reference=reference)
    with pytest.raises(records.RecordError, match="comes more than once"):
        mine(pa.concat_tables([pool, pool.slice(0, 1)]), name, 3, reference=reference)
    for size in (0, -1, 2.5, True, "3"):
        with pytest.raises(MiningError, match="size must be a whole number"):
            mine(pool, name, size, reference=reference)
    wrong = dict.fromkeys(("metric", "score", "reduction", "source"), ("best", "one of .* got 'best'"))
    wrong |= dict.fromkeys(("n_neighbors", "max_clusters"), (0, "a whole number"))
    for option in wrong.keys() & ALL[name]["options"]:
        value, valid = wrong[option]
        with pytest.raises(UnknownOption, match=f"option {option} of strategy '{name}' must be {valid}"):
            mine(pool, name, 3, reference=reference, **{option: value})


# What is worth more comes first in each pair; the reference lies around the second.
SURE, UNSURE = [0.9, 0.1], [0.55, 0.45]
NEAR, FAR = {"embeddings": [1.0, 1.2]}, {"embeddings": [9.0, 1.0]}


def box(certainty, vector=(1.0, 1.0)):
    """A box of whose class, place and existence passes are so certain."""
    same = dict.fromkeys(("class_certainty", "location_certainty", "existence_certainty"), certainty)
    return {"class_name": "a", "box_variance": 1 - certainty, "embeddings": list(vector), **same}


WORTHIER = {
    "box_uncertainty": ({"detections": [box(0.9), box(0.2)]}, {"detections": [box(0.8)]}),
    "weighted_box_uncertainty": ({"detections": [box(0.2)]}, {"detections": [box(0.9)]}),
    "object_coreset": (
        {"detections": [box(1), box(1, (9.0, 1.0))]},
        {"detections": [box(1, (1.0, 1.2)), box(1, (1.0, 1.1))]},
    ),
    "confidence": ({"confidence": 0.4}, {"confidence": 0.9}),
    "margin": ({"confidences": UNSURE}, {"confidences": SURE}),
    "entropy": ({"confidences": UNSURE}, {"confidences": SURE}),
    "weighted_entropy": ({"confidences": UNSURE[::-1]}, {"confidences": UNSURE}),  # the rarer class
    "query_by_committee": (
        {"query_by_committee": [SURE, SURE[::-1]]},
        {"query_by_committee": [SURE, UNSURE]},
    ),
    "mc_dropout": ({"mc_dropout": [SURE, SURE[::-1]]}, {"mc_dropout": [SURE, SURE]}),
    "label_uncertainty": (
        {"confidences": [0.6, 0.6], "mc_dropout": [SURE, SURE[::-1]]},
        {"confidences": [0.9, 0.9], "mc_dropout": [SURE, SURE]},
    ),
    "spread": ({"mc_dropout": [[7.0], [-9.0]]}, {"mc_dropout": [[50.0], [51.0]]}),
    "embedding_distance": (FAR, NEAR),
    "novelty": (FAR, NEAR),
    "outlier": (FAR, NEAR),
    "activation": ({"embeddings": [0.1, 0.1]}, FAR),
    "nearest_neighbors": (NEAR, {"embeddings": [-9.0, 1.0]}),
    "coreset": (FAR, NEAR),
    "badge": ({"confidences": UNSURE, **FAR}, {"confidences": SURE, **NEAR}),
    "typicality": (NEAR, {"embeddings": [1.0, 1.9]}),
}
DIRECTIONS = [
    (name, options)
    for name, options in VARIANTS
    if name != "random" and not {"layer", "source", "max_clusters"} & options.keys()
]


@pytest.mark.parametrize(("name", "options"), DIRECTIONS, ids=str)
def test_a_higher_score_is_mined_first(name, options):
    worthier, other = WORTHIER[name]
    names = {"class_names": ["a", "b"]}
    around = [[1.0, 1 + k / 10] for k in range(4)]
    labelled = [
        {"id": f"l{k}", "embeddings": v, "groundtruth": "a", "confidences": SURE} | names
        for k, v in enumerate(around)
    ]
    rows = [{"id": f"r{k}", "embeddings": v, "detections": [box(1, v)]} for k, v in enumerate(around)]
    given = options | {"reference": labelled if ALL[name]["reference"] == "required" else None}
    if name == "weighted_entropy":
        given["reference"] = labelled
    if name == "typicality":
        given["max_clusters"] = 1
    if name == "outlier":
        given["n_neighbors"] = 2
    for ids in (("a", "z"), ("z", "a")):
        pool = [{"id": ids[0], **worthier} | names, {"id": ids[1], **other} | names]
        pool += rows if name in ("outlier", "typicality", "coreset", "object_coreset") else []
        found = mine(pool, name, len(pool), **given)
        score = dict(zip(found.ids, found.scores, strict=True))
        assert score[ids[0]] > score[ids[1]] and found.ids.index(ids[0]) < found.ids.index(ids[1])


def test_each_strategy_has_a_direction():
    assert {*WORTHIER, "random"} == set(ALL)


@every_variant
def test_no_record_scores_higher_than_those_before_it_whatever_the_size(name, options, pool, reference):
    whole = mine(pool, name, 60, reference=reference, seed=1, **options)
    assert sorted(whole.ids) == sorted(pool["id"].to_pylist())
    if name not in ("typicality", "badge"):  # their first picks depend on how many there will be
        for size in (1, 13):
            assert mine(pool, name, size, reference=reference, seed=1, **options).ids == whole.ids[:size]


@pytest.mark.parametrize("name", WITH_LAYER)
def test_numbers_of_any_size_in_memory_are_the_same(name, pool, reference):
    vectors = records.column(pool, "embeddings").astype(np.float16)
    left = pool.drop_columns(["embeddings"]).to_pylist()
    rows = [[row | {"embeddings": vector} for row, vector in zip(left, vectors.astype(kind), strict=True)]
            for kind in ("f4", "f2", "f8", ">f4")]  # fmt: skip
    lists = pa.array(vectors.astype(float).tolist(), pa.list_(pa.float64()))
    first, *others = [
        mine(each, name, 12, reference=reference)
        for each in (*rows, pool.set_column(pool.column_names.index("embeddings"), "embeddings", lists))
    ]
    for other in others:
        same(first, other)


@pytest.mark.parametrize("name", ALL)
def test_a_pool_of_one_record(name, pool, reference):
    if name == "outlier":
        with pytest.raises(MiningError, match="needs at least 2 records as records, got 1"):
            mine(pool.slice(0, 1), name, 1)
    else:
        found = mine(pool.slice(0, 1), name, 1, reference=reference)
        assert found.ids == pool["id"].to_pylist()[:1] and np.isfinite(found.scores).all()


@pytest.mark.parametrize("name", ["embedding_distance", "coreset"])
def test_records_that_are_labelled_already_come_last(name, pool):
    found = mine(pool, name, 60, reference=pool.slice(20, 5))
    assert found.ids[-5:] == sorted(pool["id"].to_pylist()[20:25]) and not found.scores[-5:].any()


@pytest.mark.parametrize("value", [0.0, -1.5])
@pytest.mark.parametrize("name", WITH_LAYER)
def test_embeddings_that_are_all_equal(name, value, pool, reference):
    rows = [row | {"embeddings": [value] * 6} for row in pool.to_pylist()]
    labelled = [row | {"embeddings": [value] * 6} for row in reference.to_pylist()]
    options = {"metric": "euclidean"} if "metric" in ALL[name]["options"] else {}  # zeros have no cosine
    for given in (reference, labelled, None):
        if given is not None or ALL[name]["reference"] != "required":
            found = mine(rows, name, 20, reference=given, **options)
            assert len(set(found.ids)) == 20 and np.isfinite(found.scores).all()
            if name not in ("badge", "typicality"):
                assert found.ids == sorted(pool["id"].to_pylist())[:20]


@pytest.mark.parametrize("name", WITH_FIELDS)
def test_a_field_that_some_records_lack_is_named(name, pool, reference, tmp_path):
    (need, *_) = ALL[name]["fields"]
    column = next(column for column in map(column_of, need) if column in pool.column_names)
    left = pool.drop_columns([other for other in need if other != column and other in pool.column_names])
    rows = left.to_pylist()
    lacking = [
        {k: v for k, v in row.items() if k != column} if n == 17 else row for n, row in enumerate(rows)
    ]
    records.write(tmp_path / "0.parquet", rows[:17])
    records.write(tmp_path / "1.parquet", pa.Table.from_pylist(rows[17:]).drop_columns([column]))
    for given in (lacking, tmp_path / "*.parquet"):
        with pytest.raises(records.RecordError, match=f"'{rows[17]['id']}'.* has no {column}, other"):
            mine(given, name, 3, reference=reference)


def with_number(table, value):
    vectors = records.column(table, "embeddings").copy()
    vectors[17, 2] = value
    rows = zip(table.to_pylist(), vectors, strict=True)
    return [row | {"embeddings": vector} for row, vector in rows]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [(name, value, "holds NaN or infinity") for name in WITH_LAYER for value in (np.nan, -np.inf)]
    + [(name, -3e30, "has values beyond 1e.17") for name in WITH_LAYER if name != "activation"],
)
def test_embeddings_that_cannot_be_used_are_named(name, value, problem, pool, reference):
    broken = with_number(pool, value)
    message = f"'{broken[17]['id']}': embeddings {problem}"
    with pytest.raises(records.RecordError, match=message):
        mine(broken, name, 3, reference=reference)
    if ALL[name]["reference"] != "none":
        with pytest.raises(records.RecordError, match=message):
            mine(reference, name, 3, reference=broken)


@pytest.mark.parametrize("name", [name for name in ALL if "metric" in ALL[name]["options"]])
def test_zero_vectors_have_no_cosine(name, reference):
    vectors = {f"r{k}": {"embeddings": [float(k), 0, 0, 0, 0, 0]} for k in (3, 0, 2)}
    rows = [{"id": id, "detections": [vector], **vector} for id, vector in vectors.items()]
    with pytest.raises(records.RecordError, match="record 'r0': (detections.)?embeddings is a zero vector"):
        mine(rows, name, 2, reference=reference, metric="cosine")


@pytest.mark.parametrize("name", [name for name in ALL if ["confidences", "logits"] in ALL[name]["fields"]])
def test_confidences_that_are_not_valid_are_named(name, pool):
    rows = pool.select(["id", "confidences", "embeddings"]).to_pylist()
    rows[17]["confidences"] = [3.0, 1.0, 0.5, 0.5]
    with pytest.raises(records.RecordError, match=f"record '{rows[17]['id']}' .*sums to 5, not 1") as error:
        mine(rows, name, 3)
    assert error.value.record == rows[17]["id"]


@pytest.mark.parametrize("name", [name for name in ALL if ALL[name]["reference"] == "none"])
def test_an_unused_reference_is_not_read(name, pool, tmp_path):
    same(mine(pool, name, 3), mine(pool, name, 3, reference=tmp_path / "nowhere.parquet"))


@pytest.mark.parametrize("name", ALL)
def test_docstrings_are_complete(name):
    from alhelpers.mining._registry import STRATEGIES

    text = " ".join(STRATEGIES[name].run.__doc__.split())
    assert text.startswith("Select ") and "Use it" in text and "fail" in text and "Needs" in text
    for option in ALL[name]["options"]:
        assert option == "layer" or f"``{option}``" in text


LIGHT = """
import sys

HEAVY = {"torch", "dtlpy", "aiohttp", "pandas", "sklearn", "dask", "PIL", "jsonschema", "IPython"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise ModuleNotFoundError(f"no module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from alhelpers import mining

assert "pyarrow.dataset" not in sys.modules
rows = [{"id": str(n), "confidences": [n / 20, 1 - n / 20], "embeddings": [float(n), 1.0]} for n in range(20)]
for strategy in ("margin", "coreset", "badge", "outlier", "random"):
    assert len(mining.run({"strategy": strategy, "size": 3}, rows).ids) == 3
"""


def test_mining_needs_only_light_packages():
    subprocess.run([sys.executable, "-c", LIGHT], check=True)
