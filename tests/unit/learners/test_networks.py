import pytest
import torch

from alhelpers.learners import build_network


@pytest.mark.parametrize("size", [8, 28])
@pytest.mark.parametrize("classes", [2, 10])
def test_logits_of_the_documented_shape(size, classes):
    network = build_network(size, classes)
    logits = network(torch.zeros(3, 1, size, size))
    assert logits.shape == (3, classes)
    assert logits.dtype == torch.float32


def test_all_dropout_comes_after_the_convolutions():
    kinds = [type(layer) for layer in build_network(8)]
    last_convolution = max(place for place, kind in enumerate(kinds) if kind is torch.nn.Conv2d)
    dropouts = [place for place, kind in enumerate(kinds) if kind is torch.nn.Dropout]
    assert len(dropouts) == 2 and min(dropouts) > last_convolution


def test_dropout_is_the_one_asked_for():
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
        ((16,), {}, "image_size is 16.*8x8 or 28x28"),
        ((8, 0), {}, "classes is 0"),
        ((8,), {"dropout": 1.0}, "dropout is 1.0"),
        ((8,), {"dropout": -0.1}, "dropout is -0.1"),
    ],
)
def test_what_is_out_of_range_is_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        build_network(*arguments, **options)
