"""Scores from running sums are those of the stored samples, for classes, pixels and both kinds of masks."""

import tracemalloc

import numpy as np
import pytest
import torch
from torch import nn

from alhelpers import scores
from alhelpers.uncertainty import DropoutError, mc_dropout, mc_dropout_scores
from alhelpers.uncertainty._running import RUNNING_SCORES, RunningScores
from alhelpers.uncertainty._torch import first_not_finite, softmax

torch.set_num_threads(1)


def classifier(gain=4.0):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 5))
    with torch.no_grad():
        model[3].weight.mul_(gain)
    return model


def segmenter():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Dropout2d(0.5), nn.Conv2d(8, 3, 1))


def data(count=40):
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("masks", ["sample", "pass"])
@pytest.mark.parametrize("gain", [0.01, 4.0, 1000.0])
@pytest.mark.parametrize("batch_size", [7, 256])
def test_running_scores_are_the_scores_of_the_samples(masks, gain, batch_size):
    options = {"passes": 13, "masks": masks, "batch_size": batch_size, "seed": 3}
    samples, expected = mc_dropout(classifier(gain), data(), **options)
    found, confidences = mc_dropout_scores(classifier(gain), data(), scores=RUNNING_SCORES, **options)
    np.testing.assert_allclose(confidences, expected, atol=1e-6)
    assert list(found) == list(RUNNING_SCORES)
    for name, values in found.items():
        assert values.shape == (40,) and values.dtype == np.float32
        np.testing.assert_allclose(values, getattr(scores, name)(samples), atol=2e-6, err_msg=name)


def test_maps_of_segmentation_are_the_scores_of_each_pixel():
    inputs = torch.randn(5, 1, 4, 6, generator=torch.Generator().manual_seed(2))
    samples, means = mc_dropout(segmenter(), inputs, passes=9, batch_size=2)
    assert samples.shape == (5, 9, 3, 4, 6) and means.shape == (5, 3, 4, 6)
    np.testing.assert_allclose(samples.sum(axis=2), 1, atol=1e-5)
    found, confidences = mc_dropout_scores(segmenter(), inputs, passes=9, scores=RUNNING_SCORES, batch_size=2)
    np.testing.assert_allclose(confidences, means, atol=1e-6)
    pixels = np.moveaxis(samples, 2, -1).transpose(0, 2, 3, 1, 4).reshape(-1, 9, 3)
    for name, values in found.items():
        assert values.shape == (5, 4, 6)
        np.testing.assert_allclose(values.ravel(), getattr(scores, name)(pixels), atol=2e-6, err_msg=name)


def test_samples_of_segmentation_are_distributed_as_whole_passes():
    # One seed; for others each of 144 means is within 6 standard errors with all but 1e-6.
    inputs = torch.randn(2, 1, 4, 6, generator=torch.Generator().manual_seed(2))
    found, _ = mc_dropout(segmenter(), inputs, passes=2000, seed=4)
    model = segmenter().eval()
    model[2].train()
    torch.manual_seed(5)
    with torch.no_grad():
        expected = torch.stack([model(inputs).softmax(1) for _ in range(2000)], 1).numpy()
    error = np.sqrt((found.var(axis=1) + expected.var(axis=1)) / 2000)
    assert (np.abs(found.mean(axis=1) - expected.mean(axis=1)) < 6 * error).all()


@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_values_of_a_regression_are_sampled_as_they_are(shape):
    torch.manual_seed(1)
    size = int(np.prod(shape))
    model = nn.Sequential(
        nn.Linear(6, 32), nn.Dropout(0.5), nn.Linear(32, size), nn.Unflatten(1, shape or (1,))
    )
    model = model if shape else nn.Sequential(*model[:3], nn.Flatten(0))
    samples, means = mc_dropout(model, data(), passes=3000, outputs="values", seed=1)
    assert samples.shape == (40, 3000, *shape) and samples.dtype == means.dtype == np.float32
    with torch.no_grad():
        expected = model.eval()(data()).numpy()  # the mean of a linear head
    error = samples.std(axis=1) / np.sqrt(3000)
    assert (np.abs(means - expected) < 6 * error).all()  # up to 240 numbers: under 1e-6 for other seeds


def ends_in_a_softmax():
    return classifier().append(nn.Softmax(1))


def test_a_softmax_is_not_applied_twice():
    for sample in (mc_dropout, mc_dropout_scores):
        with pytest.raises(ValueError, match="so it seems to end in a softmax"):
            sample(ends_in_a_softmax(), data(), passes=3)
    expected, means = mc_dropout(classifier(), data(), passes=3, seed=1)
    samples, confidences = mc_dropout(ends_in_a_softmax(), data(), passes=3, outputs="confidences", seed=1)
    np.testing.assert_allclose(samples, expected, rtol=1e-6)  # torch's own softmax sums in another order
    np.testing.assert_allclose(confidences, means, rtol=1e-6)
    found, _ = mc_dropout_scores(ends_in_a_softmax(), data(), passes=3, outputs="confidences", seed=1)
    np.testing.assert_allclose(found["mean_margin"], scores.mean_margin(expected), atol=2e-6)
    with pytest.raises(ValueError, match=r'must be confidences.*pass outputs="logits"'):
        mc_dropout(classifier(), data(), passes=3, outputs="confidences")


def test_memory_does_not_grow_with_the_passes():
    def peak(passes):
        tracemalloc.start()
        mc_dropout_scores(classifier(), data(20000), passes=passes, batch_size=500)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(40) < 1.1 * peak(5)


@pytest.mark.parametrize("names", [(), ("entropy",), ("bald", "energy"), "margin"])
def test_scores_by_another_name_are_an_error(names):
    with pytest.raises(ValueError, match="scores must be names out of predictive_entropy, mean_margin, bald"):
        mc_dropout_scores(classifier(), data(), scores=names)


def test_one_name_is_enough():
    found, _ = mc_dropout_scores(classifier(), data(), scores="bald")
    assert list(found) == ["bald"]


def test_outputs_of_another_kind_are_errors():
    with pytest.raises(ValueError, match='outputs must be "logits", "confidences" or "values"'):
        mc_dropout(classifier(), data(), outputs="probabilities")
    with pytest.raises(ValueError, match=r"must return values of shape \(N, ...\), here \(40, ...\)"):
        mc_dropout(nn.Sequential(nn.Dropout(0.5), nn.Flatten(0)), data(), outputs="values")
    with pytest.raises(ValueError, match=r"must return logits of shape \(N, C\)"):
        mc_dropout(nn.Sequential(nn.Dropout(0.5), nn.Unflatten(1, (1, 2, 3))), data())
    bad = data()
    bad[3] = torch.nan
    with pytest.raises(DropoutError, match="the values of record 3 in pass 0 are not finite"):
        mc_dropout(classifier(), bad, outputs="values")
    with pytest.raises(DropoutError, match="the logits of record 3 in pass 0 are not finite"):
        mc_dropout_scores(classifier(), bad)


def test_votes_go_to_the_first_of_the_most_confident_classes():
    sums = RunningScores(("variation_ratio",), (2, 4))
    for _ in range(3):
        sums.add(np.full((2, 4), 0.25, np.float32))
    np.testing.assert_array_equal(sums.score("variation_ratio"), 0)


@pytest.mark.parametrize(
    "shape", [(0, 3), (7, 1), (40, 2), (40, 10), (40, 15), (40, 16), (40, 100), (3, 5, 4, 6)]
)
def test_the_softmax_is_torchs_and_the_same_in_any_batch(shape):
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 20
    found = softmax(logits)
    np.testing.assert_allclose(found, logits.double().softmax(1), rtol=2e-5, atol=1e-30)
    for part, whole in zip(logits.split(3), found.split(3), strict=True):
        assert torch.equal(softmax(part), whole) or logits.ndim == 4
    columns = logits.transpose(0, 1).contiguous().transpose(0, 1)
    assert torch.equal(softmax(columns), found)
    assert found.dtype == softmax(logits.double()).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_the_first_record_that_is_not_finite_is_found(dtype, strange):
    values = torch.full((40, 10), torch.finfo(dtype).max, dtype=dtype)
    values[::2] *= -1
    assert first_not_finite(values) is None
    assert first_not_finite(values[:0]) is None
    values[17, 3] = values[30] = strange
    assert first_not_finite(values) == 17
    assert first_not_finite(values.t().contiguous().t()) == 17
    if dtype in (torch.float32, torch.float64):
        assert first_not_finite(values.numpy()) == 17
