"""Networks by name: their inputs, outputs and errors."""

import numpy as np
import pytest
import torch
from torch import nn

from alhelpers.data import ArrayDataset
from alhelpers.learners import TorchClassifier, build_network
from alhelpers.learners.designs import build_design


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("design", "size"), [("plain", 8), ("plain", 28), ("normed", 28), ("strided", 28)])
def test_a_design_returns_logits_and_embeddings_that_its_seed_decides(design, size, channels):
    images = ArrayDataset(torch.rand(3, channels, size, size).numpy())
    state = torch.get_rng_state()
    networks = [build_design(design, size, 7, channels=channels, seed=seed).eval() for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    first, again, other = (TorchClassifier(network).predict(images, embeddings=True) for network in networks)
    assert first.logits.shape == (3, 7) and first.embeddings.shape[0] == 3
    np.testing.assert_array_equal(first.logits, again.logits)
    assert np.abs(first.logits - other.logits).max() > 1e-3


def test_plain_is_the_kit_s_own():
    ours, kit = build_design("plain", 8, seed=3), build_network(8, 10, seed=3)
    for value, expected in zip(ours.parameters(), kit.parameters(), strict=True):
        assert torch.equal(value, expected)


def test_the_strided_design_has_the_published_layers():
    layers = list(build_design("strided", 28))
    first, second = (layer for layer in layers if isinstance(layer, nn.Conv2d))
    assert [layer.kernel_size for layer in (first, second)] == [(4, 4), (4, 4)]
    assert [layer.out_channels for layer in (first, second)] == [32, 32]
    assert [layer.p for layer in layers if isinstance(layer, nn.Dropout)] == [0.25, 0.5]
    # 28 -> 13 by the stride, -> 10 -> 5 by the pooling
    assert layers[-4].in_features == 5 * 5 * 32
    assert (layers[-1].in_features, layers[-1].out_features) == (128, 10)


def test_an_unknown_design_and_a_size_it_does_not_take_are_refused():
    with pytest.raises(ValueError, match="design is 'deep': it must be plain, normed or strided"):
        build_design("deep", 28)
    with pytest.raises(ValueError, match="'strided' takes images of 28x28, not 8x8: use 'plain'"):
        build_design("strided", 8)
    with pytest.raises(ValueError, match="image_size is 1"):
        build_design("plain", 1)
