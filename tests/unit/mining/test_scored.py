"""Strategies that score each record: against the scores, brute force and scikit-learn."""

import warnings
from functools import partial

import numpy as np
import pyarrow as pa
import pytest
from helpers_mining import same
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import LocalOutlierFactor

from alhelpers import records, scores
from alhelpers.mining import MiningError, MissingField, UnknownOption, mine
from alhelpers.records import RecordError, column


def check(table, name, expected, reference=None, size=15, **options):
    """The selection has the highest of the expected scores, in order."""
    found = mine(table, name, size, reference=reference, **options)
    ids = table["id"].to_pylist()
    order = sorted(range(len(ids)), key=lambda place: (-expected[place], ids[place]))[:size]
    np.testing.assert_allclose(found.scores, [expected[place] for place in order], rtol=2e-5, atol=1e-6)
    assert found.ids == [ids[place] for place in order]
    return found


each_uncertainty = pytest.mark.parametrize(
    ("name", "score"),
    [("confidence", scores.least_confidence), ("margin", scores.margin), ("entropy", scores.entropy)],
)


@each_uncertainty
def test_uncertainty(name, score, pool):
    check(pool, name, score(column(pool, "confidences")))
    from_logits = score(scores.confidences_from_logits(column(pool, "logits")))
    check(pool.select(["id", "logits"]), name, from_logits)


def test_confidence_takes_the_confidence_of_the_predicted_class_first():
    rows = [{"id": "a", "confidence": 0.9}, {"id": "b", "confidence": 0.2}]
    assert mine(rows, "confidence", 1).ids == ["b"]
    with pytest.raises(RecordError, match=r"record 'a' cannot be scored .* from 0 to 1, got 1.5"):
        mine([{"id": "a", "confidence": 1.5}], "confidence", 1)


# ------------------------------------------------------------------------------
# detections
# ------------------------------------------------------------------------------


def rows_of(boxes, field="confidences"):
    """Records of boxes that have one field and a place."""
    place = {"class_name": "cat", "left": 1.0, "top": 2.0, "width": 3.0, "height": 4.0}
    return [{"id": id, "detections": [{field: value} | place for value in values]} for id, values in boxes]


def with_boxes(counts, seed=0):
    """Records of boxes: the table, and the (C,) confidences of each record's boxes."""
    rng = np.random.default_rng(seed)
    found = [rng.dirichlet(np.ones(4), size=count).astype(np.float32) for count in counts]
    return records.as_table(rows_of((f"i{k:03d}", boxes) for k, boxes in enumerate(found))), found


OVER = {
    "max": ({}, np.max),
    "mean": ({"over": "mean"}, np.mean),
    "sum": ({"over": "sum"}, np.sum),
    "top_k": ({"over": "top_k", "top_k": 2}, lambda values: np.mean(np.sort(values)[::-1][:2])),
}


@pytest.mark.parametrize("over", OVER)
@each_uncertainty
def test_boxes_become_one_score(name, score, over):
    counts = np.random.default_rng(1).integers(0, 6, size=40)
    counts[[0, 39]] = 0  # without boxes, first and last too
    table, found = with_boxes(counts)
    options, reduce = OVER[over]
    expected = [reduce(score(boxes).astype(float)) if len(boxes) else 0.0 for boxes in found]
    check(table, name, np.array(expected, dtype=np.float32), size=40, **options)


def test_boxes_with_nothing_but_a_confidence_or_logits():
    rows = rows_of((("a", [0.9, 0.4]), ("b", []), ("c", [0.5])), "confidence")
    found = mine(rows, "confidence", 3)
    assert found.ids == ["a", "c", "b"]
    np.testing.assert_allclose(found.scores, [0.6, 0.5, 0], rtol=1e-6)
    message = "'margin' needs confidences or logits or .*which have: id, detections, detections.confid"
    with pytest.raises(MissingField, match=message):
        mine(rows, "margin", 1)
    rows = rows_of((("a", [[3.0, 0]]), ("b", [[1.0, 0]])), "logits")
    assert mine(rows, "margin", 2).ids == ["b", "a"]


def test_no_boxes_at_all():
    rows = [{"id": id, "detections": []} for id in "cab"]
    with pytest.warns(
        UserWarning, match="no record has a box, so that strategy 'confidence' scores all of them 0"
    ):
        assert not mine(rows, "confidence", 2).scores.any()


def test_confidences_of_the_record_come_before_those_of_its_boxes():
    table, _ = with_boxes([2, 3, 1])
    own = records.from_arrays(
        ["i000", "i001", "i002"], confidences=np.array([[1, 0], [0.5, 0.5], [0.7, 0.3]])
    )
    both = own.append_column("detections", table["detections"])
    assert mine(both, "margin", 3).ids == ["i001", "i002", "i000"]


def test_a_box_at_fault_is_named():
    rows = [{"id": id, "detections": [{"confidences": c} for c in boxes]}
            for id, boxes in (("a", [[0.5, 0.5]]), ("b", []), ("c", [[0.5, 0.5], [2.0, 0.5]]))]  # fmt: skip
    with pytest.raises(RecordError, match="record 'c' cannot be scored by 'margin': of box 1 .*sums to 2.5"):
        mine(rows, "margin", 1)


def test_options_of_boxes():
    table, _ = with_boxes([1, 2])
    for options, message in (
        ({"over": "best"}, "option over of strategy 'margin' must be one of 'max', .* got 'best'"),
        ({"over": "top_k"}, "option top_k of strategy 'margin' must be a whole number .* 1, got None"),
        ({"over": "mean", "top_k": 2}, 'must be used with over="top_k", got 2'),
    ):
        with pytest.raises(UnknownOption, match=message):
            mine(table, "margin", 1, **options)


# ------------------------------------------------------------------------------
# weighted entropy
# ------------------------------------------------------------------------------


def test_weighted_entropy_counts_the_ground_truth_of_the_reference(pool, reference):
    labels, names = reference["groundtruth"].to_pylist(), ["cat", "dog", "fox", "owl"]
    counts = [labels.count(name) for name in names]
    expected = scores.weighted_entropy(column(pool, "confidences"), scores.rarity(counts))
    found = check(pool, "weighted_entropy", expected, reference)
    assert found.meta["class_counts"] == counts
    assert found.meta["classes_counted"] == "ground truth of the reference"


def test_weighted_entropy_counts_predictions_where_there_is_no_ground_truth(pool, reference):
    confidences = column(pool, "confidences")
    predicted = np.bincount(column(reference, "confidences").argmax(axis=1), minlength=4)
    expected = scores.weighted_entropy(confidences, scores.rarity(predicted))
    found = check(pool, "weighted_entropy", expected, reference.drop_columns(["groundtruth"]))
    assert found.meta["classes_counted"] == "predictions of the reference"
    own = np.bincount(confidences.argmax(axis=1), minlength=4)
    check(pool, "weighted_entropy", scores.weighted_entropy(confidences, scores.rarity(own)))


@pytest.mark.parametrize("renamed", [["cat"], ["cat", "dog", "fox", "owl"]])
def test_weighted_entropy_counts_no_label_in_other_words_silently(renamed, pool, reference):
    labels = reference["groundtruth"].to_pylist()
    changed = [label.upper() if label in renamed else label for label in labels]
    place = reference.column_names.index("groundtruth")
    other = reference.set_column(place, "groundtruth", pa.array(changed))
    if renamed == ["cat"]:
        with pytest.warns(UserWarning, match=f"{labels.count('cat')} of 25 labels do not count: 'CAT' in"):
            found = mine(pool, "weighted_entropy", 3, reference=other)
        assert found.meta["class_counts"] == [0, *map(labels.count, ("dog", "fox", "owl"))]
    else:
        with pytest.raises(
            MissingField, match="cannot count classes: '.*' in .* none of the class_names: cat, "
        ):
            mine(pool, "weighted_entropy", 3, reference=other)


def test_weighted_entropy_names_missing_fields(pool, reference):
    nameless, truth = pool.drop_columns(["class_names"]), reference.select(["id", "groundtruth"])
    with pytest.raises(MissingField, match="to count classes, groundtruth in the reference and class_names"):
        mine(nameless, "weighted_entropy", 3, reference=truth)
    rows = [
        {"id": id, "confidences": [0.5, 0.5], "class_names": list(names)}
        for id, names in (("a", "xy"), ("b", "yx"))
    ]
    with pytest.raises(MissingField, match="the same class_names in every record"):
        mine(rows, "weighted_entropy", 1, reference=[{"id": "r", "groundtruth": "x"}])


KL = {"score": "consensus_kl"}
DROPOUT = ("bald", "predictive_entropy", "variance", "variation_ratio")


@pytest.mark.parametrize(
    ("name", "options", "score"),
    [
        ("query_by_committee", {}, scores.vote_entropy),
        ("query_by_committee", KL, scores.consensus_kl),
        ("query_by_committee", KL | {"reduction": "max"}, partial(scores.consensus_kl, reduction="max")),
        ("mc_dropout", {}, scores.mean_margin),
        *(("mc_dropout", {"score": score}, getattr(scores, score)) for score in DROPOUT),
    ],
)
def test_disagreement(name, options, score, pool):
    check(pool, name, score(column(pool, name)), **options)


def test_a_single_pass_is_not_enough():
    rows = [{"id": "a", "mc_dropout": [[0.5, 0.5]]}]
    with pytest.raises(ValueError, match="at least 2 passes or members"):
        mine(rows, "mc_dropout", 1)


def test_activation(pool):
    check(pool, "activation", -np.linalg.norm(column(pool, "embeddings"), axis=1))
    energy = -np.log(np.exp(column(pool, "logits").astype(float)).sum(axis=1))
    assert check(pool, "activation", energy, source="logits").meta["source"] == "logits"
    check(pool.select(["id", "logits"]), "activation", energy)
    with pytest.raises(MissingField, match="needs embeddings:late in the records"):
        mine(pool, "activation", 3, layer="late")


def distances(table, reference, metric):
    """All distances of two tables' embeddings, in float64 and by definition."""
    a, b = (column(part, "embeddings").astype(float) for part in (table, reference))
    if metric == "euclidean":
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))
    return 1 - (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_embedding_distance(metric, pool, reference):
    nearest = distances(pool, reference, metric).min(axis=1)
    check(pool, "embedding_distance", nearest, reference, metric=metric)


def test_nearest_neighbors(pool, reference):
    similarity = 1 - distances(pool, reference, "cosine").min(axis=1)
    check(pool, "nearest_neighbors", similarity, reference)
    nearest = -distances(pool, reference, "euclidean").min(axis=1)
    check(pool, "nearest_neighbors", nearest, reference, metric="euclidean")


def test_seeds_of_the_pool_find_themselves_first(pool):
    seeds = pool.take([4, 31])
    found = mine(pool, "nearest_neighbors", 5, reference=seeds, metric="euclidean")
    assert set(found.ids[:2]) == set(seeds["id"].to_pylist())
    np.testing.assert_array_equal(found.scores[:2], 0)


@pytest.mark.parametrize("options", [{}, {"n_neighbors": 5}, {"n_neighbors": 24}, {"metric": "cosine"}])
def test_local_outlier_factors_agree_with_scikit_learn(options, pool, reference):
    given = {"n_neighbors": 20, "metric": "minkowski"} | options
    peer = LocalOutlierFactor(**given, novelty=True).fit(column(reference, "embeddings"))
    check(pool, "novelty", -peer.score_samples(column(pool, "embeddings")), reference, **options)
    peer = LocalOutlierFactor(**given).fit(column(pool, "embeddings"))
    check(pool, "outlier", -peer.negative_outlier_factor_, **options)


def test_the_most_outlying_of_many_are_scikit_learns():
    # with this seed no two neighbours are nearer to each other than float32 tells apart
    rng = np.random.default_rng(4)
    base, vectors = (rng.normal(size=(n, 16)).astype(np.float32) + 20 for n in (2000, 3000))
    base[100:110] = base[100]  # duplicates, fewer than the neighbours
    table = records.from_arrays(list(range(3000)), embeddings=vectors)
    reference = records.from_arrays(list(range(2000)), embeddings=base)
    peer = LocalOutlierFactor(n_neighbors=20, novelty=True).fit(base.astype(np.float64))
    expected = -peer.score_samples(vectors.astype(np.float64))
    found = mine(table, "novelty", 1000, reference=reference)
    assert set(found.ids) == set(np.argsort(-expected)[:1000].tolist())
    np.testing.assert_allclose(found.scores, np.sort(expected)[::-1][:1000], rtol=1e-5)
    peer = LocalOutlierFactor(n_neighbors=20).fit(base.astype(np.float64))
    expected = -peer.negative_outlier_factor_
    found = mine(reference, "outlier", 1000)
    assert set(found.ids) == set(np.argsort(-expected)[:1000].tolist())
    np.testing.assert_allclose(found.scores, np.sort(expected)[::-1][:1000], rtol=1e-5)


def plain_density(base, k):
    """Distances to the last neighbour, and reachability densities, by definition; equal vectors are one if need be."""

    def neighbours(vector, own=-1):
        away = np.linalg.norm(base - vector, axis=1)
        away[own] = np.inf if own >= 0 else away[own]
        places = np.argsort(away, kind="stable")[:k]
        return away[places], places

    reach = []
    for place, vector in enumerate(base):
        last = neighbours(vector, place)[0][-1]
        if last == 0:
            apart = np.linalg.norm(np.unique(base, axis=0) - vector, axis=1)
            last = ([0.0, *np.sort(apart[apart > 0])][: k + 1])[-1]
        reach.append(last)

    def density(vector, own=-1):
        away, places = neighbours(vector, own)
        return 1 / np.maximum(away, np.array(reach)[places]).mean(), places

    return density


@pytest.mark.parametrize("copies", [5, 6, 30])
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1))
def test_copies_of_records_do_not_make_their_neighbours_outliers(copies, seed):
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(60, 3)).astype(np.float32)
    base[: copies + 1] = base[0]
    base[-1] = 30
    density = plain_density(base.astype(float), 5)
    own = [density(vector, place) for place, vector in enumerate(base.astype(float))]
    local = np.array([value for value, _ in own])
    expected = [local[places].mean() / value for value, places in own]
    table = records.from_arrays(list(range(60)), embeddings=base)
    found = mine(table, "outlier", 60, n_neighbors=5)
    np.testing.assert_allclose(found.scores, np.array(expected)[found.ids], rtol=2e-5)
    assert found.ids[0] == 59
    vectors = rng.normal(size=(20, 3)).astype(np.float32)
    vectors[:2] = base[[0, -1]]
    expected = [local[places].mean() / value for value, places in map(density, vectors.astype(float))]
    new = records.from_arrays(list(range(20)), embeddings=vectors)
    found = mine(new, "novelty", 20, reference=table, n_neighbors=5)
    np.testing.assert_allclose(found.scores, np.array(expected)[found.ids], rtol=2e-5)


def test_vectors_of_one_direction_are_copies_for_the_cosine():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(80, 5))
    vectors[:40] = np.outer(rng.uniform(0.1, 90, 40), vectors[0])
    copies = vectors.copy()
    copies[:40] = vectors[0]
    made = [records.from_arrays(list(range(80)), embeddings=each) for each in (vectors, copies)]
    for name in ("outlier", "novelty"):
        found, expected = (
            mine(made[1], name, 80, reference=reference, metric="cosine") for reference in made
        )
        assert found.scores.max() < 10
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-3)


def test_local_outliers_of_any_scale_are_the_same(pool):
    rows = pool.select(["id", "embeddings"]).to_pylist()
    for factor in (2.0**-40, 2.0**40):
        scaled = [row | {"embeddings": np.array(row["embeddings"]) * factor} for row in rows]
        for metric in ("euclidean", "cosine"):
            same(mine(rows, "outlier", 60, metric=metric), mine(scaled, "outlier", 60, metric=metric))


def test_local_outliers_need_neighbours(pool, reference):
    few = reference.slice(0, 6)
    assert mine(pool, "novelty", 3, reference=few).meta["n_neighbors"] == 5
    message = "n_neighbors=6 needs more than 6 records as reference, got 6; take at most 5"
    with pytest.raises(MiningError, match=message):
        mine(pool, "novelty", 3, reference=few, n_neighbors=6)
    with pytest.raises(MiningError, match="needs at least 2 records as reference, got 1"):
        mine(pool, "novelty", 3, reference=few.slice(0, 1))
    with pytest.raises(MiningError, match="needs at least 2 records as records, got 1"):
        mine(pool.slice(0, 1), "outlier", 1)
    with pytest.warns(UserWarning, match="compares each of 21 records with all others"):
        mine(pool.slice(0, 21), "outlier", 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mine(pool.slice(0, 22), "outlier", 1)
        mine(pool.slice(0, 21), "outlier", 1, n_neighbors=20)


# ------------------------------------------------------------------------------
# several labels, numbers
# ------------------------------------------------------------------------------


def sigmoids(count=60, labels=5):
    """Records of several labels: confidences that do not sum to 1, and those of passes."""
    rng = np.random.default_rng(4)
    passes = rng.beta(0.5, 0.5, size=(count, 6, labels)).astype(np.float32)
    ids = [f"r{k:03d}" for k in rng.permutation(count)]
    return records.from_arrays(ids, confidences=passes.mean(axis=1), mc_dropout=passes)


@pytest.mark.parametrize("over", ["mean", "max"])
@pytest.mark.parametrize("score", ["entropy", "margin", "confidence"])
def test_label_uncertainty(score, over):
    table = sigmoids()
    expected = scores.label_uncertainty(column(table, "confidences"), score, over)
    check(table, "label_uncertainty", expected, score=score, over=over)


def test_label_uncertainty_over_passes_or_members():
    table = sigmoids().drop_columns(["confidences"])
    expected = scores.label_bald(column(table, "mc_dropout"), "max")
    check(table, "label_uncertainty", expected, score="bald", over="max")
    members = table.rename_columns({"mc_dropout": "query_by_committee"})
    check(members, "label_uncertainty", expected, score="bald", over="max")
    with pytest.raises(MissingField, match="'label_uncertainty' needs confidences in the records"):
        mine(table, "label_uncertainty", 3)


@pytest.mark.parametrize("name", ["margin", "entropy", "weighted_entropy"])
def test_scores_of_one_class_refuse_several_labels_and_name_the_way_out(name):
    with pytest.raises(RecordError, match="sums to .*, not 1; score labels .* by label_uncertainty"):
        mine(sigmoids(), name, 3)


def test_labels_beyond_0_to_1_are_named():
    rows = sigmoids().to_pylist()
    rows[7]["confidences"][2] = 3.5
    message = f"record '{rows[7]['id']}' cannot be scored by 'label_uncertainty': row 7 .* holds 3.5, which"
    with pytest.raises(RecordError, match=message):
        mine(rows, "label_uncertainty", 3)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("field", ["mc_dropout", "query_by_committee"])
def test_spread(field, reduction):
    numbers = np.random.default_rng(2).normal(100, 20, size=(60, 8, 3)).astype(np.float32)
    table = records.from_arrays([f"r{k:02d}" for k in range(60)], **{field: numbers})
    by_output = numbers.astype(np.float64).var(axis=1)
    check(table, "spread", getattr(by_output, reduction)(axis=1), reduction=reduction)
    if field == "mc_dropout":  # the passes come first where there are members too
        both = records.from_arrays(
            table["id"].to_pylist(), mc_dropout=numbers, query_by_committee=-(numbers**2)
        )
        same(mine(both, "spread", 60), mine(table, "spread", 60))


def test_scores_of_classes_name_the_strategy_for_numbers():
    table = records.from_arrays(["a", "b"], mc_dropout=np.ones((2, 4, 1)))
    with pytest.raises(MiningError, match="'mc_dropout': samples must .* the strategy spread"):
        mine(table, "mc_dropout", 1)
    assert mine(table, "spread", 1).ids == ["a"]
