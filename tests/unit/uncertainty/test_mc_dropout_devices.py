"""Where MC dropout works. Without a GPU the choice of the device is tested, and what a GPU shares with it."""

import numpy as np
import pytest
import torch
from torch import nn

from alhelpers.training._layout import _weights
from alhelpers.uncertainty import mc_dropout
from alhelpers.uncertainty._masks import SharedMasks, record_masks, shared_masks
from alhelpers.uncertainty._torch import working_device

torch.set_num_threads(1)
CPU, META = torch.device("cpu"), torch.device("meta")
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 4))


def test_auto_takes_the_gpu_if_there_is_one(monkeypatch):
    assert working_device(mlp(), torch.zeros(1), "cpu") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert working_device(mlp(), np.zeros(1), "auto") == CPU
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert working_device(mlp(), np.zeros(1), "auto") == torch.device("cuda", 2)
    assert working_device(mlp(), torch.zeros(1), "cuda") == torch.device("cuda", 2)
    assert working_device(mlp(), torch.zeros(1), "cuda:1") == torch.device("cuda", 1)
    assert working_device(mlp(), torch.zeros(1), "cpu") == CPU


def test_inputs_on_another_device_are_an_error_with_the_way_out():
    inputs = torch.zeros(3, 6, device=META)
    with pytest.raises(
        ValueError, match=r"inputs are on the device meta and the model works on cpu: pass inputs\.cpu"
    ):
        mc_dropout(mlp(), inputs, device="cpu")
    with pytest.raises(ValueError, match='or device="meta"'):
        mc_dropout(mlp(), inputs, device="cpu")


def test_a_model_without_weights_is_an_error():
    with pytest.raises(ValueError, match="the model is on the device meta, so it has no weights"):
        mc_dropout(mlp().to(META), torch.zeros(3, 6))


def test_shared_masks_are_drawn_on_the_processor_for_every_device():
    # so that a GPU drops the same units; on "meta" there are no numbers to compare, but the place shows
    module, here, there = nn.AlphaDropout(0.5).train(), SharedMasks(3), SharedMasks(3)
    state = torch.get_rng_state()
    for part, other in zip(
        here.mask(module, 0, 0, torch.zeros(1, 8)),
        there.mask(module, 0, 0, torch.zeros(1, 8, device=META)),
        strict=True,
    ):
        assert part.device == CPU and other.device == META and part.shape == other.shape
    torch.set_rng_state(state)


@pytest.mark.parametrize("device", DEVICES)
def test_samples_of_a_device_are_those_of_the_processor(device):
    inputs = torch.randn(50, 6, generator=torch.Generator().manual_seed(2))
    expected, _ = mc_dropout(mlp(), inputs, device="cpu", masks="pass", seed=4)
    found, _ = mc_dropout(mlp(), inputs, device=device, masks="pass", seed=4)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    expected, _ = mc_dropout(mlp(), inputs, passes=2000, device="cpu", seed=4)
    found, _ = mc_dropout(mlp(), inputs, passes=2000, device=device, seed=5)
    error = np.sqrt((found.var(axis=1) + expected.var(axis=1)) / 2000)
    assert (np.abs(found.mean(axis=1) - expected.mean(axis=1)) < 6 * error).all()


@pytest.mark.parametrize("masked", [record_masks, shared_masks])
def test_masks_stay_on_the_device_of_what_they_are_put_on(masked):
    # tensors without numbers, which torch refuses to mix with those of the processor
    layers = [nn.Conv2d(3, 4, 3), nn.Dropout2d(0.5), nn.Flatten(), nn.Linear(144, 5)]
    model = nn.Sequential(*layers, nn.AlphaDropout(0.5), nn.Dropout(0.3), nn.Linear(5, 3)).to(META)
    with pytest.raises(RuntimeError, match="device"):
        model[-1](torch.zeros(7, 5))
    assert not _weights(model)  # the layout of another device is its own
    with masked({model[1], model[4], model[5]}, 1) as masks:
        for number in range(2):
            masks.begin(number, 7)
            assert model(torch.empty(7, 3, 8, 8, device=META)).device == META
