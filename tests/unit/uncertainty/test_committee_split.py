"""Predictions of a committee with its dropout on, and the disagreement of its members and passes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from alhelpers import scores
from alhelpers.uncertainty import Committee, DropoutError, mc_dropout, split_uncertainty
from alhelpers.uncertainty._torch import derived_seed

torch.set_num_threads(1)


def build():
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))


def trained(design=build):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 3
    inputs = (rng.normal(size=(40, 4)) + 2 * np.eye(4)[labels]).astype(np.float32)
    return inputs, Committee(design, members=3).fit(inputs, labels, steps=5)


@pytest.mark.parametrize("masks", ["sample", "pass"])
def test_samples_of_every_member_are_those_of_mc_dropout(masks):
    inputs, committee = trained()
    samples = committee.predict(inputs, passes=4, masks=masks, seed=7)
    assert samples.shape == (40, 3, 4, 3) and samples.dtype == np.float32
    for member, model in enumerate(committee.models):
        expected, _ = mc_dropout(model, inputs, 4, masks=masks, seed=derived_seed(7, member))
        np.testing.assert_allclose(samples[:, member], expected, atol=1e-6)
    np.testing.assert_array_equal(samples, committee.predict(inputs, passes=4, masks=masks, seed=7))
    assert not np.array_equal(samples, committee.predict(inputs, passes=4, masks=masks, seed=8))


def test_passes_need_dropout():
    inputs, committee = trained(lambda: nn.Linear(4, 3))
    with pytest.raises(DropoutError):
        committee.predict(inputs, passes=4)
    with pytest.raises(ValueError, match="passes"):
        trained()[1].predict(inputs, passes=1)


def drawn(shape, seed, sharpness=1.0):
    logits = np.random.default_rng(seed).normal(size=shape) * sharpness
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (exponents / exponents.sum(axis=-1, keepdims=True)).astype(np.float32)


def entropy(confidences):
    return sum(-p * np.log(p) for p in map(float, confidences) if p > 0) / np.log(len(confidences))


def by_definition(samples):
    """The parts of one record, (K, T, C), each in its own words: entropies, and Kullback-Leibler divergences."""
    exact = samples.astype(np.float64)
    of_member, of_all = exact.mean(axis=1), exact.mean(axis=(0, 1))

    def divergence(one, other):
        return sum(p * np.log(p / q) for p, q in zip(one, other, strict=True) if p > 0) / np.log(len(one))

    total = entropy(of_all)
    aleatoric = np.mean([entropy(p) for member in exact for p in member])
    passes = np.mean([divergence(p, of_member[k]) for k, member in enumerate(exact) for p in member])
    members = np.mean([divergence(p, of_all) for p in of_member])
    return total, aleatoric, passes, members


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(2, 5), st.integers(2, 5), st.integers(2, 6)),
    seed=st.integers(0, 2**32 - 1),
    sharpness=st.sampled_from([0.0, 0.1, 1.0, 5.0, 60.0]),
)
def test_the_parts_are_their_definitions_and_sum_to_the_total(shape, seed, sharpness):
    samples = drawn(shape, seed, sharpness)
    before = samples.copy()
    parts = split_uncertainty(samples)
    np.testing.assert_array_equal(samples, before)
    for part in parts:
        assert part.shape == (shape[0],) and part.dtype == np.float32 and (part >= 0).all()
    np.testing.assert_allclose(np.transpose(parts), [by_definition(record) for record in samples], atol=1e-6)
    np.testing.assert_allclose(parts.total, parts.aleatoric + parts.passes + parts.members, atol=3e-7)


def test_the_total_and_the_disagreement_are_those_of_the_scores():
    samples = drawn((50, 5, 7, 10), 1, 2.0)
    parts, flat = split_uncertainty(samples), samples.reshape(50, 35, 10)
    np.testing.assert_allclose(parts.total, scores.predictive_entropy(flat), atol=1e-5)
    np.testing.assert_allclose(parts.passes + parts.members, scores.bald(flat), atol=1e-5)


def test_each_part_is_alone_where_only_it_can_be():
    one_hot = np.eye(3, dtype=np.float32)
    passes_disagree = np.broadcast_to(one_hot, (2, 3, 3, 3))  # every member: one pass a class
    members_disagree = np.broadcast_to(one_hot[:, None], (2, 3, 4, 3))
    all_unsure = np.full((2, 3, 4, 3), 1 / 3, dtype=np.float32)
    for samples, part in (
        (passes_disagree, "passes"),
        (members_disagree, "members"),
        (all_unsure, "aleatoric"),
    ):
        found = split_uncertainty(samples)._asdict()
        for name, value in found.items():
            np.testing.assert_allclose(value, 1 if name in ("total", part) else 0, atol=1e-6, err_msg=name)


def test_the_order_of_members_and_passes_and_the_chunks_do_not_matter(monkeypatch):
    samples = drawn((9, 4, 3, 5), 2)
    whole = split_uncertainty(samples)
    for other in (samples[:, ::-1], samples[:, :, ::-1]):
        np.testing.assert_allclose(split_uncertainty(other), whole, atol=1e-7)
    monkeypatch.setattr("alhelpers.uncertainty.decomposition._NUMBERS", 150)
    np.testing.assert_array_equal(split_uncertainty(samples), whole)


@pytest.mark.parametrize("shape", [(4, 3, 5), (4, 1, 3, 5), (4, 3, 1, 5), (4, 3, 3, 1), (4,)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(scores.ScoreError, match=r"of shape \(N, K, T, C\) with K, T and C at least 2, got"):
        split_uncertainty(np.full(shape, 0.5))


def test_confidences_at_fault_are_refused():
    samples = drawn((4, 2, 2, 3), 0)
    samples[2, 1, 0] = np.nan
    with pytest.raises(scores.ScoreError):
        split_uncertainty(samples)
    with pytest.raises(scores.ScoreError):
        split_uncertainty(drawn((4, 2, 2, 3), 0) * 2)
