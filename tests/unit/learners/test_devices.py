import pickle
import re
from functools import partial

import numpy as np
import pytest
import torch
from helpers_pretend_device import DEVICE, pretended_device
from torch import nn

from alhelpers import data, parallel
from alhelpers.learners import Detector, Segmenter, TorchClassifier, TorchRegressor, build_network
from alhelpers.training import devices, train
from alhelpers.uncertainty import Committee, mc_dropout
from alhelpers.uncertainty._committee_members import workers_for
from alhelpers.uncertainty.errors import CommitteeError

SCENES = data.scenes(8, seed=0)
MAPS = SCENES.segmentation()
DIGITS = data.load("digits")[0].take(np.arange(60))
NUMBERS = data.ArrayDataset(
    np.random.default_rng(0).random((20, 3), dtype=np.float32), np.arange(20.0), task="regression"
)


def small():
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))


CASES = {
    "classifier": (
        lambda **where: TorchClassifier(
            lambda seed: build_network(8, seed=seed), steps=3, augmentation=True, **where
        ),
        DIGITS,
    ),
    "regressor": (lambda **where: TorchRegressor(small, steps=3, loss=nn.HuberLoss(), **where), NUMBERS),
    "detector": (
        lambda **where: Detector(SCENES.class_names, steps=3, score_threshold=1e-3, **where),
        SCENES,
    ),
    "detector, iou": (
        lambda **where: Detector(SCENES.class_names, steps=3, score_threshold=1e-3, merge="iou", **where),
        SCENES,
    ),
    "segmenter": (lambda **where: Segmenter(MAPS.class_names, steps=3, **where), MAPS),
}


def results(case, passes, **where):
    """Train and predict; return all numbers."""
    make, dataset = CASES[case]
    learner = make(**where)
    history = learner.fit(dataset, validation=dataset)
    found = [learner.predict(dataset, embeddings=True)]
    if passes:
        found.append(learner.predict(dataset, passes=3))
    values = [each.values if case == "regressor" else each.confidences for each in found]
    return learner, [np.array(history.loss), np.array(history.validation_loss), *values]


@pytest.fixture
def gpu(monkeypatch):
    """Let torch find a device that refuses to work with tensors of the CPU."""
    monkeypatch.setattr(devices, "best_device", lambda: DEVICE)


@pytest.mark.parametrize("case", CASES)
def test_learners_work_on_the_best_device_and_return_to_the_cpu(case, gpu):
    passes = case not in ("classifier", "regressor")
    _, expected = results(case, passes, device="cpu")
    with pretended_device() as there:
        learner, found = results(case, passes)
    assert there.calls > 100
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)
    assert {each.device.type for each in learner.network.state_dict().values()} == {"cpu"}
    assert {type(each.data) for each in learner.network.parameters()} == {torch.Tensor}
    pickle.dumps(learner.network.state_dict())


def test_a_committee_works_on_the_best_device_one_member_after_another(gpu):
    inputs, labels = DIGITS.inputs(np.arange(60)), DIGITS.labels(np.arange(60))

    def confidences(**where):
        committee = Committee(lambda seed: build_network(8, seed=seed), 2, **where)
        return committee.fit(inputs, labels, steps=3).predict(inputs)

    expected = confidences(device="cpu")
    with pretended_device() as there:
        found = confidences()
    assert there.calls > 100
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("device", "workers", "expected"), [(None, None, 1), (None, 4, 1), ("cpu", None, 2), ("cpu", 4, 4)]
)
def test_members_share_no_gpu(gpu, monkeypatch, device, workers, expected):
    monkeypatch.setattr(parallel, "cores", lambda: 2)
    assert workers_for([nn.Linear(2, 2)], device, workers) == expected
    assert workers_for([TorchRegressor(small, device=device)], None, workers) == expected
    assert workers_for([object()], None, workers) == workers  # it is not known
    assert workers_for([nn.Linear(2, 2)], None, executor := object()) is executor  # whose device is its own


def test_what_stays_behind_is_explained(gpu):
    class Shifted(nn.Linear):
        def forward(self, inputs):
            return super().forward(inputs) + torch.ones(2)

    network = Shifted(3, 2)
    with pytest.raises(RuntimeError) as caught, pretended_device():
        train(network, torch.rand(4, 3), [0, 1, 0, 1], steps=2)
    assert "pass device='cpu'" in caught.value.__notes__[0]
    assert devices.device_of(network) == devices.CPU
    train(network, torch.rand(4, 3), [0, 1, 0, 1], steps=2, device="cpu")


def test_a_module_that_was_put_elsewhere_stays_there(gpu):
    with pretended_device():
        assert devices.device_for(nn.Linear(2, 2).to(DEVICE)) == DEVICE
    assert devices.device_for(nn.Linear(2, 2)) == devices.device_for(nn.Linear(2, 2), "auto") == DEVICE
    assert devices.device_for(nn.Linear(2, 2), "cpu") == devices.CPU


def test_the_device_of_learners_is_their_own():
    with pytest.raises(CommitteeError, match="learners have their own"):
        Committee(TorchClassifier(small), 2, device="cpu")


NONSENSE = [
    "gpu",
    "CPU",
    "",
    0,
    True,
    1.5,
    [],
    "meta",
    *([] if torch.cuda.is_available() else ["cuda", "cuda:1"]),
]


@pytest.mark.parametrize("device", NONSENSE, ids=str)
def test_a_device_that_is_none_is_refused_before_anything_moves(device):
    network = small()
    makes = [
        lambda: train(
            network, NUMBERS.inputs(np.arange(20)), np.arange(20.0), task="regression", device=device
        ),
        lambda: mc_dropout(network, torch.rand(4, 3), outputs="values", device=device),
        lambda: Committee(small, 2, device=device),
        *(partial(make, device=device) for make, _ in CASES.values()),
    ]
    for make in makes:
        with pytest.raises(ValueError, match=f"^device is {re.escape(repr(device))}(, where|: it must be)"):
            make()
    assert devices.device_of(network) == devices.CPU


def test_a_model_without_weights_is_refused():
    with pytest.raises(ValueError, match="so it has no weights: load them first"):
        train(small().to("meta"), torch.rand(4, 3), [0.0, 1, 2, 3], task="regression")
