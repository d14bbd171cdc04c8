"""Convolutions run with the channels last: results but for rounding, and the model is left as it was."""

import contextlib

import numpy as np
import pytest
import torch
from torch import nn

from alhelpers import data
from alhelpers.learners import TorchClassifier
from alhelpers.training import _layout, train
from alhelpers.uncertainty import mc_dropout

torch.set_num_threads(1)
IMAGES = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(1))
LABELS = np.arange(40) % 3


class Network(nn.Module):
    """Convolutions with batch norm, and dropout in one or both of two places."""

    def __init__(self, *, viewed=False, inner=None, tied=False):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.second, self.third = nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        if tied:
            self.third.weight = self.second.weight
        self.inner = inner or nn.Identity()
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(6 * 64, 3)
        self.viewed = viewed
        self.seen = []

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        x = self.third(self.inner(torch.relu(self.second(x))))
        self.seen.append(x.is_contiguous(memory_format=torch.channels_last))
        x = x.view(len(x), -1) if self.viewed else x.flatten(1)
        return self.head(self.dropout(x))


def network(**options):
    torch.manual_seed(0)
    return Network(**options).eval()


@contextlib.contextmanager
def as_it_is(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(_layout, "_weights", lambda model: [])
        yield


def state(model):
    return [(id(value), value.data_ptr(), value.stride(), value.clone()) for value in model.parameters()]


def assert_left_as_it_was(model, before):
    for (one, place, strides, values), after in zip(before, model.parameters(), strict=True):
        assert (one, place, strides) == (id(after), after.data_ptr(), after.stride())
        assert torch.equal(values, after)


@pytest.mark.parametrize("options", [{}, {"tied": True}, {"inner": nn.Dropout2d(0.25)}])
@pytest.mark.parametrize("masks", ["sample", "pass"])
def test_samples_differ_by_rounding(masks, options, monkeypatch):
    model = network(**options)
    before = state(model)
    found, means = mc_dropout(model, IMAGES, 6, masks=masks, seed=3, device="cpu")
    assert model.seen[-1]
    assert_left_as_it_was(model, before)
    with as_it_is(monkeypatch):
        expected, _ = mc_dropout(model, IMAGES, 6, masks=masks, seed=3, device="cpu")
    assert not model.seen[-1]
    if options or masks == "pass":  # else a record's masks are drawn in the order of memory
        np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(means, found.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("masks", ["sample", "pass"])
def test_code_that_needs_the_other_layout(masks, monkeypatch):
    model = network(viewed=True)
    before = state(model)
    found, _ = mc_dropout(model, IMAGES, 4, masks=masks, device="cpu")
    assert_left_as_it_was(model, before)
    with as_it_is(monkeypatch):
        expected, _ = mc_dropout(model, IMAGES, 4, masks=masks, device="cpu")
    np.testing.assert_array_equal(found, expected)


def test_a_learner_predicts_the_same_but_for_rounding(monkeypatch):
    model, dataset = network(), data.arrays(IMAGES.numpy(), LABELS)
    before, random_state = state(model), torch.get_rng_state()
    found = TorchClassifier(model).predict(dataset, embeddings=True)
    assert model.seen[-1] and torch.equal(torch.get_rng_state(), random_state)
    assert_left_as_it_was(model, before)
    with as_it_is(monkeypatch):
        expected = TorchClassifier(model).predict(dataset, embeddings=True)
    np.testing.assert_allclose(found.logits, expected.logits, atol=1e-5)
    np.testing.assert_allclose(found.embeddings, expected.embeddings, atol=1e-5)


def trained(model, **options):
    history = train(model, IMAGES, LABELS, steps=3, batch_size=16, **options)
    return history, torch.cat([value.flatten() for value in model.state_dict().values()])


@pytest.mark.parametrize("options", [{}, {"tied": True}])
def test_training_differs_by_rounding(options, monkeypatch):
    model = network(**options)
    before = [(id(value), value.data_ptr(), value.stride()) for value in model.parameters()]
    random_state = torch.get_rng_state()
    history, found = trained(model)
    assert model.seen[-1] and torch.equal(torch.get_rng_state(), random_state)
    assert before == [(id(value), value.data_ptr(), value.stride()) for value in model.parameters()]
    with as_it_is(monkeypatch):
        plain, expected = trained(network(**options))
    np.testing.assert_allclose(
        found, expected, atol=2e-3
    )  # AdamW makes a step of the sign of a tiny gradient
    np.testing.assert_allclose(history.loss, plain.loss, rtol=1e-4)


@pytest.mark.parametrize("options", [{"viewed": True}, {"inner": nn.Dropout(0.5)}])
def test_training_is_the_same_where_the_layout_would_change_more(options, monkeypatch):
    _, found = trained(network(**options))
    with as_it_is(monkeypatch):
        _, expected = trained(network(**options))
    assert torch.equal(found, expected)


def test_an_error_while_training_restores_the_layout():
    model = network()
    strides = [value.stride() for value in model.parameters()]

    def stop(step, steps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(model, progress=stop)
    assert strides == [value.stride() for value in model.parameters()]


@pytest.mark.parametrize("masks", ["sample", "pass"])
def test_weights_that_may_not_move_stay(masks):
    model = network().share_memory()
    pointers = [value.data_ptr() for value in model.parameters()]
    mc_dropout(model, IMAGES, 2, masks=masks, device="cpu")
    assert not any(model.seen) and pointers == [value.data_ptr() for value in model.parameters()]
