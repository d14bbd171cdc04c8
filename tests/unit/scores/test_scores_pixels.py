"""Semantic segmentation: every pixel is scored as a record is, and maps are reduced as their definitions say."""

import tracemalloc

import numpy as np
import pytest
from helpers_scores import CONFIDENCE_SCORES, SAMPLE_SCORES, confidences_of
from hypothesis import given, settings
from hypothesis import strategies as st

from alhelpers import scores

SHAPES = {
    **dict.fromkeys(CONFIDENCE_SCORES, [(2, 2, 1, 1), (3, 5, 4, 7), (1, 80, 6, 5), (2, 300, 3, 3)]),
    **dict.fromkeys(SAMPLE_SCORES, [(2, 2, 2, 1, 3), (2, 4, 5, 3, 4), (1, 3, 70, 2, 5), (1, 3, 300, 2, 2)]),
}


@pytest.mark.parametrize(("name", "shape"), [(name, shape) for name in SHAPES for shape in SHAPES[name]])
def test_pixels_are_scored_as_records(name, shape):
    predictions = confidences_of(1, shape, axis=-3)
    found = scores.pixel_map(predictions, score=name)
    assert found.dtype == np.float32 and found.shape == (shape[0], *shape[-2:])
    for image, line, column in np.ndindex(*found.shape):
        expected = (CONFIDENCE_SCORES | SAMPLE_SCORES)[name](predictions[None, image, ..., line, column])
        np.testing.assert_allclose(found[image, line, column], expected[0], atol=3e-6)


def test_blocks_change_no_score():
    samples = confidences_of(3, (2, 4, 6, 90, 120), axis=-3)  # several blocks an image
    found = scores.pixel_map(samples, score="bald")
    records = np.moveaxis(samples, (3, 4), (1, 2)).reshape(-1, 4, 6)
    np.testing.assert_allclose(found.ravel(), scores.bald(records), atol=1e-6)
    np.testing.assert_array_equal(found[:, 40:50], scores.pixel_map(samples[:, :, :, 40:50], score="bald"))


def test_inputs_are_read_whatever_their_type_and_not_changed():
    samples = confidences_of(4, (2, 3, 4, 5, 6), axis=-3)
    expected = scores.pixel_map(samples, score="bald")
    samples.flags.writeable = False
    np.testing.assert_array_equal(scores.pixel_map(np.asfortranarray(samples), "bald"), expected)
    np.testing.assert_array_equal(scores.pixel_map(samples.astype(np.float64), "bald"), expected)
    assert np.isfinite(scores.pixel_map(samples.astype(np.float16), "bald")).all()


def test_memory_is_the_maps_and_a_few_blocks():
    samples = confidences_of(5, (4, 8, 8, 128, 128), axis=-3)  # 16 MiB
    tracemalloc.start()
    try:
        scores.pixel_map(samples, score="bald")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


@pytest.mark.parametrize(
    ("values", "problem"),
    [([np.nan, 0.5, 0.5], "NaN"), ([0.2, 0.2, 0.2], "sums to 0.6"), ([2.0, -1.0, 0.0], "negative number -1")],
)
def test_a_bad_pixel_is_named(values, problem):
    confidences = confidences_of(6, (3, 3, 300, 200), axis=-3)
    confidences[1, :, 277, 13] = values
    message = rf"row 1 of predictions, pixel \(277, 13\), .*{problem}"
    with pytest.raises(scores.ScoreError, match=message) as error:
        scores.pixel_map(confidences, score="entropy")
    assert error.value.row == 1
    samples = confidences_of(7, (3, 4, 3, 5, 6), axis=-3)
    samples[2, 3, :, 4, 1] = values
    message = rf"row 2 of predictions, sample 3, pixel \(4, 1\), .*{problem}"
    with pytest.raises(scores.ScoreError, match=message):
        scores.pixel_map(samples, score="bald")


@pytest.mark.parametrize(
    ("shape", "score", "message"),
    [
        *(
            (shape, "entropy", "predictions must be confidences")
            for shape in [(2, 3), (2, 3, 4), (2, 1, 4, 4), (2, 1, 3, 4, 4), (2, 3, 1, 4, 4)]
        ),
        ((1, 2, 3, 3), "bald", "must be one of least_confidence, margin, entropy, got 'bald'"),
        ((1, 2, 2, 3, 3), "entropy", "must be one of predictive_entropy, .*, got 'entropy'"),
    ],
)
def test_shapes_and_scores_that_do_not_fit_are_named(shape, score, message):
    with pytest.raises(scores.ScoreError, match=message):
        scores.pixel_map(np.full(shape, 0.5), score=score)


def test_no_image_gives_no_map():
    assert scores.pixel_map(np.empty((0, 3, 4, 5)), score="margin").shape == (0, 4, 5)
    maps = np.empty((0, 4, 5))
    assert scores.over_pixels(maps).shape == (0,)
    assert [len(column) for column in scores.over_regions(maps, maps.astype(int))] == [0] * 4


# ------------------------------------------------------------------------------
# reductions
# ------------------------------------------------------------------------------


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), tied=st.booleans())
def test_reductions_equal_their_definitions(seed, tied):
    rng = np.random.default_rng(seed)
    maps = rng.uniform(size=rng.integers(1, 7, size=3)).astype(np.float32)
    maps = np.round(maps, 1) if tied else maps
    regions = rng.integers(-2, 4, size=maps.shape)
    size = maps[0].size
    np.testing.assert_allclose(
        scores.over_pixels(maps), [sum(m.ravel().tolist()) / size for m in maps], rtol=1e-6
    )
    k, share = int(rng.integers(1, size + 1)), float(rng.uniform(0.01, 0.99))
    for given_k, count in ((k, k), (share, int(np.ceil(share * size)))):
        expected = [sum(sorted(m.ravel().tolist())[-count:]) / count for m in maps]
        np.testing.assert_allclose(scores.over_pixels(maps, "top_k", k=given_k), expected, rtol=1e-6)
    for ignored in (None, 1):
        rows = [
            (image, label, maps[image][regions[image] == label].tolist())
            for image in range(len(maps))
            for label in sorted(set(regions[image].ravel().tolist()) - {ignored})
        ]
        for reduction in ("sum", "mean"):
            found = scores.over_regions(maps, regions, reduction, ignore_label=ignored)
            assert found.image.tolist() == [row[0] for row in rows]
            assert found.region.tolist() == [row[1] for row in rows]
            assert found.pixels.tolist() == [len(row[2]) for row in rows]
            by = [len(row[2]) if reduction == "mean" else 1 for row in rows]
            expected = [sum(row[2]) / divisor for row, divisor in zip(rows, by, strict=True)]
            np.testing.assert_allclose(found.score, expected, rtol=1e-6)


def test_sums_over_regions_are_sums_over_pixels():
    maps = np.random.default_rng(8).uniform(size=(3, 20, 30)).astype(np.float32)
    regions = np.random.default_rng(9).integers(5, size=maps.shape)
    found = scores.over_regions(maps, regions)
    totals = np.bincount(found.image, weights=found.score)
    np.testing.assert_allclose(totals / 600, scores.over_pixels(maps), rtol=1e-6)
    np.testing.assert_allclose(scores.over_pixels(maps, "top_k", k=600), scores.over_pixels(maps), rtol=1e-6)
    np.testing.assert_array_equal(scores.over_pixels(maps, "top_k", k=1), maps.max(axis=(1, 2)))


@pytest.mark.parametrize("k", [None, 0, 13, -1, True, 0.0, 1.0, 1.5, float("nan"), "3"])
def test_a_k_out_of_range_is_refused(k):
    with pytest.raises(scores.ScoreError, match="k must be a whole number of pixels from 1 to 12, or a"):
        scores.over_pixels(np.zeros((2, 3, 4)), "top_k", k=k)


MAPS = np.zeros((2, 3, 4))


@pytest.mark.parametrize(
    ("reduce", "given", "message"),
    [
        (scores.over_pixels, (MAPS, "max"), 'how must be "mean" or "top_k", got \'max\''),
        (lambda maps: scores.over_pixels(maps, k=3), (MAPS,), 'k is allowed only with how="top_k", got 3'),
        (scores.over_pixels, (MAPS[0],), r"maps must have shape \(N, H, W\), got \(3, 4\)"),
        (scores.over_pixels, (MAPS * [[[1]], [[np.nan]]],), "row 1 of maps holds NaN or infinity"),
        (scores.over_regions, (MAPS, MAPS), r"regions must be integers .* \(2, 3, 4\), got float"),
        (scores.over_regions, (MAPS, MAPS.astype(int), "max"), 'reduction must be "sum" or .* got .max'),
    ],
)
def test_other_mistakes_are_named(reduce, given, message):
    with pytest.raises(scores.ScoreError, match=message):
        reduce(*given)
