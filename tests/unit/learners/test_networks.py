import pytest
import torch

from alhelpers.learners import build_network


@pytest.mark.parametrize("size", [2, 8, 15, 16, 28, 31, 64, (9, 40), (50, 17)])
@pytest.mark.parametrize(("classes", "channels"), [(2, 3), (10, 1)])
def test_logits_of_the_documented_shape(size, classes, channels):
    network = build_network(size, classes, channels=channels)
    height, width = size if isinstance(size, tuple) else (size, size)
    logits = network(torch.zeros(3, channels, height, width))
    assert logits.shape == (3, classes)
    assert logits.dtype == torch.float32
    assert network.hidden.in_features <= 64 * 7 * 7


@pytest.mark.parametrize(("size", "weights"), [(8, 38282), (28, 422154)])
def test_the_networks_for_digits_are_the_first_release_s(size, weights):
    network = build_network(size)
    assert sum(value.numel() for value in network.parameters()) == weights
    assert [type(layer).__name__ for layer in network][4:6] == ["MaxPool2d", "Flatten"]


def test_all_dropout_comes_after_the_convolutions():
    kinds = [type(layer) for layer in build_network(8)]
    last_convolution = max(place for place, kind in enumerate(kinds) if kind is torch.nn.Conv2d)
    dropouts = [place for place, kind in enumerate(kinds) if kind is torch.nn.Dropout]
    assert len(dropouts) == 2 and min(dropouts) > last_convolution


def test_dropout_has_the_given_probability():
    rates = {layer.p for layer in build_network(8, dropout=0.25) if isinstance(layer, torch.nn.Dropout)}
    assert rates == {0.25}


def test_same_seed_same_weights_and_another_seed_others():
    def weights(seed):
        return torch.cat([value.flatten() for value in build_network(8, seed=seed).parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_torch_random_state_is_left_alone():
    before = torch.random.get_rng_state()
    build_network(8, seed=5)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        ((1,), {}, "image_size is 1: height and width"),
        (((8, 1),), {}, r"image_size is \(8, 1\)"),
        ((8, 2), {"channels": 0}, "channels 0"),
        ((8, 0), {}, "classes is 0"),
        ((8,), {"dropout": 1.0}, "dropout is 1.0"),
        ((8,), {"dropout": -0.1}, "dropout is -0.1"),
    ],
)
def test_what_is_out_of_range_is_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        build_network(*arguments, **options)
