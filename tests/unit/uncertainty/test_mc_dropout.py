import copy

import numpy as np
import pytest
import torch
from torch import nn

from alhelpers import scores
from alhelpers.uncertainty import DropoutError, mc_dropout

torch.set_num_threads(1)


def seeded_model(*layers, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(*[layer() for layer in layers])


def mlp(dropout=lambda: nn.Dropout(0.5), seed=0):
    return seeded_model(lambda: nn.Linear(6, 32), nn.ReLU, dropout, lambda: nn.Linear(32, 4), seed=seed)


class Functional(nn.Module):
    """Calls functional dropout in its own forward, beside a batch norm."""

    def __init__(self, p=0.5):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 32), nn.BatchNorm1d(32), nn.Linear(32, 4)
        self.p = p

    def forward(self, x):
        hidden = nn.functional.dropout(torch.relu(self.norm(self.first(x))), self.p, self.training)
        return self.last(hidden)


class Attention(nn.Module):
    def __init__(self, dropout=0.5):
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, dropout=dropout, batch_first=True)
        self.last = nn.Linear(6, 4)

    def forward(self, x):
        tokens = x[:, None, :] * torch.linspace(0.5, 2, 5)[None, :, None]
        return self.last(self.attention(tokens, tokens, tokens)[0].mean(dim=1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.last = nn.LSTM(2, 16, num_layers=2, dropout=0.5, batch_first=True), nn.Linear(16, 4)

    def forward(self, x):
        return self.last(self.lstm(x.reshape(len(x), 3, 2))[0][:, -1])


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(6, 2, 16, dropout=0.5, batch_first=True)
        self.encoder, self.last = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Linear(6, 4)

    def forward(self, x):
        return self.last(self.encoder(x[:, None, :].repeat(1, 3, 1)).mean(dim=1))


def images(dropout, convolution=nn.Conv2d, shape=(1, 2, 3)):
    return nn.Sequential(
        nn.Unflatten(1, shape), convolution(1, 8, 1), nn.ReLU(), dropout, nn.Flatten(), nn.Linear(48, 4)
    )


MODULES = {
    "dropout": mlp,
    "dropout_inplace": lambda: mlp(lambda: nn.Dropout(0.5, inplace=True)),
    "dropout1d": lambda: images(nn.Dropout1d(0.5), nn.Conv1d, (1, 6)),
    "dropout2d": lambda: images(nn.Dropout2d(0.5)),
    "dropout3d": lambda: images(nn.Dropout3d(0.5), nn.Conv3d, (1, 1, 2, 3)),
    "alpha_dropout": lambda: mlp(lambda: nn.AlphaDropout(0.5)),
    "feature_alpha_dropout": lambda: images(nn.FeatureAlphaDropout(0.5)),
    "root": lambda: nn.Dropout(0.5),
    "nested": lambda: nn.Sequential(nn.Linear(6, 8), nn.Sequential(nn.ReLU(), mlp_tail())),
}
OTHERS = {
    "functional": Functional,
    "attention": Attention,
    "recurrent": Recurrent,
    "transformer": Transformer,
}


def mlp_tail():
    return nn.Sequential(
        nn.Dropout(0.3), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 4)
    )


def build(name):
    torch.manual_seed(1)
    return {**MODULES, **OTHERS}[name]()


def data(count=7, seed=2):
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", [*MODULES, *OTHERS])
def test_passes_of_every_kind_of_dropout_differ_by_seed_and_leave_the_model_alone(name):
    model, inputs = build(name), data()
    modes = {place: place % 3 == 0 for place, _ in enumerate(model.modules())}
    for place, module in enumerate(model.modules()):
        module.training = modes[place]  # a mixture, that train() and eval() could not restore
    state, before = copy.deepcopy(model.state_dict()), inputs.clone()
    random_state = torch.get_rng_state()
    samples, confidences = mc_dropout(model, inputs, passes=12, seed=3)
    assert samples.shape[:2] == (7, 12) and samples.dtype == confidences.dtype == np.float32
    np.testing.assert_allclose(samples.sum(axis=2), 1, atol=1e-5)
    np.testing.assert_allclose(samples.mean(axis=1), confidences, atol=1e-6)
    assert (scores.variance(samples) > 1e-7).all()
    assert {place: module.training for place, module in enumerate(model.modules())} == modes
    assert torch.equal(torch.get_rng_state(), random_state) and torch.equal(inputs, before)
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())
    np.testing.assert_array_equal(mc_dropout(build(name), inputs, passes=12, seed=3)[0], samples)
    assert not np.array_equal(mc_dropout(build(name), inputs, passes=12, seed=6)[0], samples)


@pytest.mark.parametrize("name", MODULES)
def test_masks_of_a_pass_are_shared_and_do_not_depend_on_the_batches(name):
    if name == "root":
        inputs = torch.ones(5, 6)
    else:
        inputs = data(1).repeat(5, 1)
    samples, _ = mc_dropout(build(name), inputs, passes=6, masks="pass", seed=9)
    np.testing.assert_allclose(samples, np.repeat(samples[:1], 5, axis=0), atol=1e-6)
    assert (scores.variance(samples) > 1e-7).all()
    inputs = data(11)
    whole, _ = mc_dropout(build(name), inputs, passes=4, masks="pass", seed=9)
    parts, _ = mc_dropout(build(name), inputs, passes=4, masks="pass", seed=9, batch_size=3)
    np.testing.assert_allclose(whole, parts, atol=1e-6)


@pytest.mark.parametrize("name", OTHERS)
def test_masks_that_cannot_be_shared_are_an_error(name):
    model = build(name)
    with pytest.raises(DropoutError, match='use masks="sample"'):
        mc_dropout(model, data(), masks="pass")
    assert all(module.training for module in model.modules())


def test_masks_need_the_records_in_the_first_dimension():
    class Patches(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.last = nn.Dropout(0.5), nn.Linear(6, 4)

        def forward(self, x):
            return self.last(self.drop(x.reshape(-1, 3)).reshape(-1, 6))

    with pytest.raises(DropoutError, match="needs the records in the first dimension"):
        mc_dropout(Patches(), data(), masks="pass")
    assert mc_dropout(Patches(), data())[0].shape == (7, 20, 4)


def test_modes_and_random_state_are_restored_after_an_error():
    class Breaks(nn.Module):
        def forward(self, x):
            if self.training is False and len(x) > 2:
                raise RuntimeError("broken on purpose")
            return x

    for masks in ("sample", "pass"):
        model = nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.5), Breaks())
        model[0].eval()
        random_state = torch.get_rng_state()
        with pytest.raises(RuntimeError, match="broken on purpose"):
            mc_dropout(model, data(), masks=masks)
        assert [module.training for module in model.modules()] == [True, False, True, True]
        assert torch.equal(torch.get_rng_state(), random_state)
        assert all(not module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(6, 4),
        nn.Sequential(nn.Linear(6, 4), nn.Dropout(0.0)),
        Functional(p=0.0),
        Attention(dropout=0.0),
        nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)),
    ],
)
def test_no_dropout_is_an_error(model):
    with pytest.raises(DropoutError, match="MC dropout would give identical passes"):
        mc_dropout(model, data())


def test_functional_dropout_and_batch_norm_in_one_module_is_an_error():
    class Both(Functional):
        def forward(self, x):
            hidden = self.first(x)
            hidden = nn.functional.batch_norm(
                hidden, self.norm.running_mean, self.norm.running_var, training=self.training
            )
            return self.last(nn.functional.dropout(hidden, 0.5, self.training))

    with pytest.raises(
        DropoutError, match=r"the model \(Both\) calls functional dropout and functional batch"
    ):
        mc_dropout(Both(), data())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"passes": 1}, "passes must be a whole number of at least 2, got 1"),
        ({"passes": 2.5}, "passes must be"),
        ({"passes": True}, "passes must be"),
        ({"masks": "batch"}, 'masks must be "sample" or "pass"'),
        ({"batch_size": 0}, "batch_size must be"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        mc_dropout(mlp(), data(), **options)


def test_outputs_that_cannot_be_used_are_named():
    inputs = data()
    inputs[5] = torch.nan
    with pytest.raises(DropoutError, match="record 5 in pass 0 are not finite"):
        mc_dropout(mlp(), inputs, batch_size=4)
    with pytest.raises(ValueError, match=r"it returned \(7, 8, 3\)"):
        mc_dropout(images(nn.Dropout(0.5))[:4].append(nn.Flatten(2, 3)).append(nn.Linear(6, 3)), data())
    with pytest.raises(ValueError, match="at least one record"):
        mc_dropout(mlp(), data(0))


def test_numpy_inputs_of_another_float_type():
    inputs = data()
    np.testing.assert_allclose(
        mc_dropout(mlp(), inputs.numpy().astype(np.float64), seed=1)[0],
        mc_dropout(mlp(), inputs, seed=1)[0],
        atol=1e-6,
    )


def test_inputs_survive_a_model_that_works_in_place():
    inputs = data()
    before = inputs.clone()
    mc_dropout(nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(0.5, inplace=True), nn.Linear(6, 3)), inputs)
    assert torch.equal(inputs, before)


def random_state_of(device):
    return torch.cuda.get_rng_state() if device == "cuda" else torch.get_rng_state()


@pytest.mark.parametrize("masks", ["sample", "pass"])
@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def test_a_device_by_name(device, masks):
    model, inputs = mlp(), data(50)
    before = random_state_of(device)
    first, _ = mc_dropout(model, inputs, device=device, seed=4, masks=masks)
    again, _ = mc_dropout(model, inputs, device=device, seed=4, masks=masks)
    np.testing.assert_array_equal(first, again)
    assert (scores.variance(first) > 1e-5).all()
    assert next(model.parameters()).device.type == "cpu"
    assert torch.equal(random_state_of(device), before)


def test_a_trunk_that_returns_a_tuple():
    class Last(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.last = nn.Dropout(0.5), nn.Linear(8, 4)

        def forward(self, output_and_state):
            return self.last(self.drop(output_and_state[0]))

    torch.manual_seed(0)
    samples, _ = mc_dropout(nn.Sequential(nn.LSTM(6, 8), Last()), data(), passes=5)
    assert (scores.variance(samples) > 1e-7).all()
