import copy
import math

import pytest
import torch

from alhelpers import data, learners
from alhelpers.learners.pretraining import _contrast, pretrain


@pytest.fixture(scope="module")
def inputs():
    return torch.from_numpy(data.load("digits")[0].inputs())


def test_the_layers_up_to_the_embedding_learn_and_the_others_stay(inputs):
    network = learners.build_network(8)
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    losses = pretrain(network, inputs, steps=40, batch_size=64)
    after = network.state_dict()
    changed = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"conv1", "conv2", "hidden"}
    assert len(losses) == 40
    assert sum(losses[-5:]) < sum(losses[:5]) - 1
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module.training for module in network.modules())


def test_same_seed_same_network(inputs):
    one, other = learners.build_network(8), learners.build_network(8)
    assert pretrain(one, inputs, steps=3, seed=1) == pretrain(other, inputs, steps=3, seed=1)
    assert all(torch.equal(one.state_dict()[name], value) for name, value in other.state_dict().items())


def test_the_loss_is_that_of_the_paper():
    views = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    unit = [view / view.norm() for view in views]
    total = 0.0
    for i in range(8):
        others = [math.exp(float(unit[i] @ unit[k]) / 0.5) for k in range(8) if k != i]
        total -= math.log(math.exp(float(unit[i] @ unit[(i + 4) % 8]) / 0.5) / sum(others))
    assert float(_contrast(views, 0.5)) == pytest.approx(total / 8, rel=1e-5)


def test_images_that_are_not_finite_stop_it_before_the_weights_are_not(inputs):
    network, broken = learners.build_network(8), inputs[:9].clone()
    broken[4] = torch.nan
    with pytest.raises(ValueError, match="the loss is nan at step 1: check the images for NaN"):
        pretrain(network, broken, steps=2)
    assert all(torch.isfinite(value).all() for value in network.parameters())


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [(1, {}, "1 images"), (9, {"steps": 0}, "steps is 0"), (9, {"batch_size": 1}, "batch_size 1")],
)
def test_what_is_out_of_range_is_named(inputs, count, options, message):
    with pytest.raises(ValueError, match=message):
        pretrain(learners.build_network(8), inputs[:count], **options)
