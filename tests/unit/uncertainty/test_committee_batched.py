"""A committee trained as one batched network is the committee trained one after another."""

import copy
import re

import numpy as np
import pytest
import torch
from torch import nn

from alhelpers.learners import build_network
from alhelpers.uncertainty import Committee
from alhelpers.uncertainty.batched import BatchedNetwork, NotBatchable

torch.set_num_threads(1)


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Tanh(), nn.Linear(12, 3, bias=False))


def dropout():
    hidden = nn.Sequential(nn.Linear(64, 20), nn.ReLU(inplace=True), nn.Dropout(0.4))
    return nn.Sequential(
        nn.ReLU(inplace=True), nn.Flatten(), hidden, nn.Linear(20, 9), nn.Dropout(0.2), nn.Linear(9, 3)
    )


def convolution():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding="same"),
        nn.GELU(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 6, 2, stride=2, groups=2, bias=False),
        nn.Dropout2d(0.3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )


def batch_norm():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 8, bias=False),
        nn.BatchNorm1d(8, momentum=0.3),
        nn.LeakyReLU(0.1),
        nn.Dropout(0.3),
        nn.Linear(8, 3),
    )


def norm_without_memory():
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 8, bias=False),
        nn.BatchNorm1d(8, affine=False, track_running_stats=False),
        nn.SiLU(),
        nn.Linear(8, 3),
    )


def signals():
    return nn.Sequential(
        nn.Flatten(2),
        nn.Conv1d(1, 4, 5, dilation=2),
        nn.Dropout1d(0.2),
        nn.MaxPool1d(4),
        nn.Linear(14, 6),
        nn.ELU(),
        nn.Flatten(),
        nn.Linear(24, 3),
    )


def frozen():
    model = linear()
    model[1].weight.requires_grad_(False)
    return model


DESIGNS = [linear, dropout, convolution, batch_norm, norm_without_memory, frozen]


def pictures(count=100, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.normal(size=(count, 1, 8, 8))
    images[np.arange(count), 0, labels] += 1
    return torch.from_numpy(images), labels


def both(design, members=3, count=100, folds="leave_one_out", **options):
    """Train the two ways, in float64: there rounding cannot hide a difference."""
    inputs, labels = pictures(count)
    committees = [
        Committee(lambda: design().double(), members=members).fit(
            inputs, labels, folds, seed=5, batched=batched, steps=12, batch_size=16, **options
        )
        for batched in (True, False)
    ]
    assert committees[0].way.batched and not committees[1].way.batched
    return committees


def assert_same(together, alone, tolerance=1e-9):
    for one, other in zip(together.models, alone.models, strict=True):
        assert not any(module.training for module in one.modules())
        for (name, value), expected in zip(
            one.state_dict().items(), other.state_dict().values(), strict=True
        ):
            np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance, err_msg=name)
    for one, other in zip(together.histories, alone.histories, strict=True):
        for column, expected in zip(one, other, strict=True):
            np.testing.assert_allclose(column, expected, rtol=1e-6)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("members", [3, 5])
def test_the_same_members_come_of_both_ways(design, members):
    together, alone = both(design, members)
    assert_same(together, alone)
    first, second = (model.state_dict() for model in together.models[:2])
    assert not any(torch.equal(first[name], second[name]) for name in first if name.endswith("0.weight"))


@pytest.mark.parametrize("folds", ["bootstrap", "disjoint", "all"])
def test_the_same_with_other_folds(folds):
    assert_same(*both(batch_norm, folds=folds))


def test_members_whose_folds_are_smaller_than_a_batch_have_batches_of_their_own():
    together, alone = both(batch_norm, members=3, count=20)
    assert [len(rows) for rows in together.rows] == [13, 13, 14]
    assert together.way.reason == "all layers can be batched, in groups of 2 and 1 with equal batches"
    assert_same(together, alone)


def test_a_layer_without_weights_may_be_used_twice():
    assert_same(*both(shared_activation))


def test_the_same_augmentation():
    assert_same(*both(convolution, augmentation=True))


def test_the_kits_network_in_float32():
    inputs, labels = pictures()
    committees = [
        Committee(lambda seed: build_network(8, 3, seed=seed), members=5).fit(
            inputs.float(), labels, batched=batched, steps=5
        )
        for batched in (True, False)
    ]
    assert committees[0].way.batched
    samples = [committee.predict(inputs) for committee in committees]
    np.testing.assert_allclose(*samples, atol=1e-4)
    assert np.abs(samples[0][:, 0] - samples[0][:, 1]).max() > 1e-2


@pytest.mark.parametrize("folds", ["leave_one_out", "bootstrap"])
def test_a_member_that_stops_early_is_the_same_too(folds):
    options = {"folds": folds, "patience": 1, "looks": 12, "learning_rate": 0.1}
    together, alone = both(batch_norm, members=5, **options)
    assert_same(together, alone)
    lengths = {len(history.steps) for history in together.histories}
    assert min(lengths) < 12 and len(lengths) > 1


def test_looks_are_reported_for_every_member():
    calls = [[], []]
    inputs, labels = pictures()
    for batched in (False, True):
        Committee(linear, members=3).fit(
            inputs.float(),
            labels,
            steps=4,
            looks=2,
            batched=batched,
            on_look=lambda *call, to=calls[batched]: to.append(call),
        )
    assert calls[0] == [(2, 4), (4, 4)] * 3 and sorted(calls[0]) == calls[1]


def test_common_validation_data():
    inputs, labels = pictures(30, seed=1)
    together, alone = both(linear, validation=(inputs, labels), looks=3)
    assert_same(together, alone)
    assert all(len(history.validation_loss) == 3 for history in together.histories)


# ------------------------------------------------------------------------------------------------ what cannot be


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(64, 64)
        self.outer = nn.Linear(64, 3)

    def forward(self, inputs):
        flat = inputs.flatten(1)
        return self.outer(flat + self.inner(flat))


def twice():
    layer = nn.Linear(64, 64)
    return nn.Sequential(nn.Flatten(), layer, layer, nn.Linear(64, 3))


def shared_activation():
    relu = nn.ReLU()
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 7), relu, nn.Linear(7, 7), relu, nn.Linear(7, 3))


def hooked():
    model = linear()
    model[1].register_forward_hook(lambda module, args, output: output * 2)
    return model


class Doubling(nn.Linear):
    def forward(self, inputs):
        return 2 * super().forward(inputs)


@pytest.mark.parametrize(
    "design, reason",
    [
        (Residual, "layer 0, Residual"),
        (twice, "uses the same weights twice"),
        (hooked, "Linear.* has hooks"),
        (lambda: nn.Sequential(nn.Flatten(), Doubling(64, 3)), "layer 1, Doubling"),
        (lambda: nn.Sequential(nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 3)), "layer 1, LayerNorm"),
        (
            lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64, momentum=None), nn.Linear(64, 3)),
            "layer 1, BatchNorm1d",
        ),
        (
            lambda: nn.Sequential(
                nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(128, 3)
            ),
            "layer 0, Conv2d",
        ),
        (signals, "layer 0, Flatten"),
    ],
)
def test_other_models_are_trained_one_after_another(design, reason):
    inputs, labels = pictures()
    committee = Committee(design, members=2).fit(inputs.float(), labels, steps=2)
    assert not committee.way.batched
    assert re.search(reason, committee.way.reason)
    assert committee.predict(inputs).shape == (100, 2, 3)


def test_members_of_different_designs_are_trained_one_after_another():
    widths = iter([4, 5] * 9)

    def design():
        return nn.Sequential(nn.Flatten(), nn.Linear(64, width := next(widths)), nn.Linear(width, 3))

    inputs, labels = pictures()
    committee = Committee(design, members=2).fit(inputs.float(), labels, steps=2)
    assert not committee.way.batched and "the members differ in layer 1" in committee.way.reason


def test_a_function_of_the_callers_trains_one_after_another():
    inputs, labels = pictures()
    committee = Committee(linear, members=2).fit(inputs.float(), labels, train=lambda *data, seed: None)
    assert not committee.way.batched and "caller" in committee.way.reason
    assert committee.histories == []


def test_an_error_of_a_member_is_torchs_own():
    inputs, labels = pictures()
    for batched in (True, False):
        with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
            Committee(linear, members=2).fit(inputs[:, :, 1:].float(), labels, batched=batched)
        with pytest.raises(TypeError, match="unexpected keyword argument 'depth'"):
            Committee(linear, members=2).fit(inputs.float(), labels, batched=batched, depth=3)
        with pytest.raises(ValueError, match="steps is 0"):
            Committee(linear, members=2).fit(inputs.float(), labels, batched=batched, steps=0)


# ------------------------------------------------------------------------------------------- the batched network


@pytest.mark.parametrize("design", [*DESIGNS, lambda: signals()[1:]])
@pytest.mark.parametrize("grouped", [True, False])
def test_a_batched_network_gives_each_members_outputs_and_gradients(design, grouped):
    models = [design().double() for _ in range(4)]
    inputs = torch.randn(7, 4, 1, 8, 8).double()
    if isinstance(models[0][0], nn.Conv1d):
        inputs = inputs.flatten(3)
    stack = BatchedNetwork(models)
    if grouped:  # the way of a GPU: convolutions of all members in one call
        stack.run = nn.ModuleList(stack.layers)
    stack.eval()
    outputs = stack(inputs)
    outputs.square().sum().backward()
    for place, model in enumerate(models):
        expected = model.eval()(inputs[:, place].clone())
        expected.square().sum().backward()
        np.testing.assert_allclose(outputs[:, place].detach(), expected.detach(), atol=1e-12)
    gradients = [
        layer.unstacked(name, value.grad[3])
        for layer in stack.layers
        for name, value in layer.named_parameters(recurse=False)
        if value.requires_grad
    ]
    for gradient, parameter in zip(
        gradients, [p for p in models[3].parameters() if p.requires_grad], strict=True
    ):
        np.testing.assert_allclose(gradient, parameter.grad, atol=1e-10)


def test_nothing_is_shared_with_the_models_until_it_is_written_back():
    models = [batch_norm() for _ in range(2)]
    before = copy.deepcopy([model.state_dict() for model in models])
    stack = BatchedNetwork(models, [torch.Generator() for _ in models]).train()
    stack(torch.randn(4, 2, 1, 8, 8))
    for parameter in stack.parameters():
        parameter.data += 1
    for model, state in zip(models, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    stack.write_back([1])
    assert all(torch.equal(value, before[0][name]) for name, value in models[0].state_dict().items())
    assert not any(torch.equal(value, before[1][name]) for name, value in models[1].state_dict().items())


def test_models_that_share_weights_are_not_batched():
    model = linear()
    with pytest.raises(NotBatchable, match="share the weights of layer 1"):
        BatchedNetwork([model, model])
