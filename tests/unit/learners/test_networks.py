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


def test_all_dropout_comes_after_the_convolutions_with_the_given_probability():
    layers = [*enumerate(build_network(8, dropout=0.25))]
    last_convolution = max(place for place, layer in layers if isinstance(layer, torch.nn.Conv2d))
    dropouts = [place for place, layer in layers if isinstance(layer, torch.nn.Dropout) and layer.p == 0.25]
    assert len(dropouts) == 2 and min(dropouts) > last_convolution


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
