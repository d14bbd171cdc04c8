"""The distribution of the samples against whole passes of torch's own dropout, and of the masks against theirs.

Seeds are fixed, so every test here fails never or always. For other seeds each number is compared at 6 standard
errors; the numbers of one test are under 1000 and near normal, so together they fail with a probability of under
1e-5.
"""

import functools
import importlib

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from alhelpers.uncertainty import mc_dropout
from alhelpers.uncertainty._folded import FoldedHead
from alhelpers.uncertainty._masks import _drawn, thinned

torch.set_num_threads(1)
PASSES = 2000


class Net(nn.Module):
    """Convolutions with dropout in several places; the kind names those that drop."""

    def __init__(self, kind):
        super().__init__()
        torch.manual_seed(1)
        self.kind = kind
        self.conv, self.norm, self.second = (
            nn.Conv2d(1, 4, 1),
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 4, 3, padding=1),
        )
        self.early = nn.Dropout2d(0.3) if "trunk" in kind else nn.Identity()
        self.drop = nn.Dropout(0.4, inplace="inplace" in kind)
        self.drop = nn.Dropout2d(0.4) if kind == "dropout2d" else self.drop
        self.relu = nn.ReLU(inplace="inplace" in kind)
        self.last = nn.Linear(24, 4)

    def forward(self, x):
        x = self.relu(self.norm(self.conv(x.reshape(x.shape[0], 1, 2, 3))))
        y = self.relu(self.second(self.early(x)))
        y = F.dropout(y, 0.4, self.training) if self.kind == "functional" else self.drop(y)
        y = y + x if "residual" in self.kind else y
        return self.last(self.relu(y).flatten(1))


KINDS = ["plain", "residual", "trunk", "inplace", "residual_inplace", "functional", "dropout2d"]
SHARED = [*(kind for kind in KINDS if kind != "functional"), "dense"]  # only modules can share their masks


def dense():
    torch.manual_seed(1)
    return nn.Sequential(
        *[nn.Linear(6, 24), nn.ReLU(), nn.Dropout(0.4), nn.Linear(24, 16), nn.Tanh()],
        *[nn.Dropout(0.1), nn.Linear(16, 4)],
    )


def alpha():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.AlphaDropout(0.5), nn.Linear(32, 4))


def nested():
    torch.manual_seed(1)
    tail = nn.Dropout(0.3), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 4)
    return nn.Sequential(nn.Linear(6, 8), nn.Sequential(nn.ReLU(), nn.Sequential(*tail)))


SEQUENCES = {"dense": dense, "alpha": alpha, "nested": nested}


def build(kind):
    return SEQUENCES[kind]() if kind in SEQUENCES else Net(kind)


def data(count, seed=2):
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


def whole_passes(model, inputs, passes, seed):
    """Whole passes with torch's own dropout on and all else in evaluation mode.

    They are made at once, as copies of the records in one batch: torch draws for each record by itself.
    """
    model.eval()
    for module in model.modules():
        if (
            isinstance(module, nn.Dropout | nn.Dropout2d | nn.AlphaDropout)
            or getattr(module, "kind", "") == "functional"
        ):
            module.training = True
    torch.manual_seed(seed)
    with torch.no_grad():
        outputs = torch.softmax(model(inputs.repeat_interleave(passes, 0)), 1)
    return outputs.reshape(len(inputs), passes, -1).numpy()


@functools.cache
def four_copies_and_two(kind, masks):
    """Samples of six records, of which the first four are equal; the tests below ask them different questions."""
    inputs = data(3)[[0, 0, 0, 0, 1, 2]]
    samples, _ = mc_dropout(build(kind), inputs, passes=PASSES, masks=masks, seed=7)
    samples.setflags(write=False)
    return samples


def products(samples):
    """Return the means and all second moments of each pass's 4 confidences, (N, T, 4 + 10)."""
    values = samples.astype(float)
    pairs = [values[..., a] * values[..., b] for a in range(4) for b in range(a, 4)]
    return np.concatenate([values, np.stack(pairs, axis=-1)], axis=-1)


def assert_same_means(found, expected):
    """Compare means over the passes (axis 1) at 6 standard errors."""
    error = np.sqrt(found.var(axis=1) / found.shape[1] + expected.var(axis=1) / expected.shape[1])
    assert (np.abs(found.mean(axis=1) - expected.mean(axis=1)) <= 6 * error + 1e-9).all()


@pytest.mark.parametrize(
    ("kind", "masks"),
    [
        *[(kind, "sample") for kind in [*KINDS, *SEQUENCES]],
        *[(kind, "pass") for kind in [*SHARED, "alpha", "nested"]],
    ],
)
def test_means_and_covariances_are_those_of_whole_passes(kind, masks):
    found = four_copies_and_two(kind, masks)[3:]
    assert_same_means(products(found), products(whole_passes(build(kind), data(3), PASSES, seed=8)))


@pytest.mark.parametrize("kind", [*KINDS, "dense"])
def test_records_and_passes_are_independent(kind):
    samples = four_copies_and_two(kind, "sample")[:4]
    centred = samples.astype(float) - samples.mean(axis=1, keepdims=True)
    units = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True))
    between_records = np.einsum("itc,jtd->ijcd", units, units) / PASSES
    own = np.arange(4)
    between_records[own, own] = 0
    between_passes = np.einsum("itc,itd->icd", units[:, 1:], units[:, :-1]) / (PASSES - 1)
    assert np.abs(between_records).max() < 6 / np.sqrt(PASSES)
    assert np.abs(between_passes).max() < 6 / np.sqrt(PASSES)


@pytest.mark.parametrize("kind", SHARED)
def test_masks_of_a_pass_are_one_for_all_records_and_others_in_every_pass(kind):
    samples = four_copies_and_two(kind, "pass")[:4]
    np.testing.assert_allclose(samples, np.broadcast_to(samples[:1], samples.shape), atol=1e-6)
    centred = samples[0].astype(float) - samples[0].mean(axis=0)
    units = centred / np.sqrt((centred**2).mean(axis=0))
    assert np.abs(units[1:].T @ units[:-1]).max() < 6 * np.sqrt(PASSES)


@pytest.mark.parametrize("p", [0.001, 0.01, 0.1, 0.3, 0.5, 0.75, 0.99, 0.995])
def test_units_are_kept_as_often_as_the_module_says(p):
    model, ones = nn.Sequential(nn.Identity(), nn.Dropout(p)), torch.ones(200, 1000)
    samples, means = mc_dropout(model, ones, passes=10, outputs="values", seed=3)
    kept = samples != 0
    error = np.sqrt(p * (1 - p) / kept.size) + 1 / (1 << 17)
    assert abs(kept.mean() - (1 - p)) < 6 * error
    np.testing.assert_allclose(samples[kept], 1 / (1 - p), rtol=1 / (1 << 17) / (1 - p) + 1e-6)
    np.testing.assert_allclose(means, samples.mean(axis=1), rtol=1e-6)
    # every record, every unit, every pass by itself: the keep rates of 10, 2000 and 200,000 draws
    for axes in ((0, 1), (1, 2), (0, 2)):
        rates = kept.mean(axis=axes)
        draws = kept.size // rates.size
        if draws * min(p, 1 - p) >= 10:  # a normal law
            assert (np.abs(rates - (1 - p)) < 7 * np.sqrt(p * (1 - p) / draws) + 1 / (1 << 17)).all()


def test_neighbouring_units_are_independent():
    # four units share a random word of 64 bits
    kept = np.empty(1 << 20, np.float32)
    thinned(np.ones(1 << 20, np.float32), 0.3, np.random.SFC64(1), kept)
    units = (kept != 0) - (1 - 0.3)
    for lag in range(1, 9):
        assert abs((units[lag:] * units[:-lag]).mean() / (0.3 * 0.7)) < 6 / np.sqrt(1 << 20)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (5, 3), (2, 3, 5, 7), (3, 0, 2)])
def test_thinned_values_are_zero_or_scaled(shape, dtype):
    values = np.random.default_rng(0).normal(size=shape).astype(dtype)
    for given in (values, values.T, values[::-1] if shape else values):
        out = np.full_like(given, np.nan)
        thinned(given, 0.25, np.random.SFC64(2), out)
        np.testing.assert_array_equal(np.where(out == 0, 0, given * dtype(1 / 0.75)), out)
        changed = given.copy(order="K")
        thinned(changed, 0.25, np.random.SFC64(2), changed)
        np.testing.assert_array_equal(changed, out)


def test_blocks_of_thinned_values(monkeypatch):
    masks = importlib.import_module("alhelpers.uncertainty._masks")
    monkeypatch.setattr(masks, "_BLOCK", 64)
    values = np.ones((100, 1001), np.float32)
    out = np.full_like(values, np.nan)
    thinned(values, 0.5, np.random.SFC64(2), out)
    assert set(np.unique(out)) == {0, 2} and abs((out == 0).mean() - 0.5) < 6 * 0.5 / np.sqrt(out.size)
    assert len(np.unique(out, axis=0)) == 100


@pytest.mark.parametrize("layout", ["channels_last", "transposed", "expanded"])
def test_dropout_of_every_memory_layout(layout):
    class Layout(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            x = x.reshape(-1, 2, 5, 10)
            if layout == "channels_last":
                x = x.to(memory_format=torch.channels_last)
            if layout == "transposed":
                x = x.transpose(1, 3)
            if layout == "expanded":
                x = x[:, :1].expand(-1, 2, -1, -1)
            return self.drop(x)

    samples, _ = mc_dropout(Layout(), torch.ones(50, 100), passes=20, outputs="values", seed=3)
    assert set(np.unique(samples)) == {0, 2} and abs(samples.mean() - 1) < 6 / np.sqrt(samples.size)


# ------------------------------------------------------------------------------
# masks of a pass, folded into the weights
# ------------------------------------------------------------------------------


class Negated(nn.Sequential):
    """Returns something else for batches of other sizes than the small one that is tried."""

    def forward(self, x):
        output = super().forward(x)
        return -output if len(x) > 2 else output


def head(*layers):
    return nn.Sequential(nn.Linear(6, 24), nn.ReLU(), *layers)


FOLDED = {
    "dense": dense,
    "low_p": lambda: head(nn.Dropout(0.05), nn.Linear(24, 16), nn.GELU(), nn.Dropout(0.05), nn.Linear(16, 4)),
    "high_p": lambda: head(
        nn.Dropout(0.95), nn.Linear(24, 16), nn.ReLU(), nn.Dropout(0.95), nn.Linear(16, 4)
    ),
    "all": lambda: head(nn.Dropout(1.0), nn.Linear(24, 4)),
    "sigmoid": lambda: head(
        nn.Dropout(0.5), nn.Linear(24, 16), nn.Sigmoid(), nn.Dropout(0.5), nn.Linear(16, 4)
    ),
    "no_bias": lambda: head(
        nn.Dropout(0.5), nn.Linear(24, 16, bias=False), nn.Dropout(0.2), nn.Linear(16, 4)
    ),
    "idle": lambda: head(nn.Dropout(0.5), nn.Linear(24, 16), nn.Dropout(0.0), nn.Linear(16, 4), nn.Tanh()),
    "inplace": lambda: head(
        nn.Dropout(0.5, inplace=True), nn.Linear(24, 16), nn.ReLU(True), nn.Linear(16, 4)
    ),
    "double": lambda: head(nn.Dropout(0.5), nn.Linear(24, 4)).double(),
    "other_for_some_batches": lambda: Negated(nn.Linear(6, 24), nn.Dropout(0.5), nn.Linear(24, 4)),
}
GENERAL = {
    "sigmoid_of_dropped": lambda: head(nn.Dropout(0.5), nn.Sigmoid(), nn.Linear(24, 4)),
    "norm": lambda: head(
        nn.Dropout(0.5), nn.Linear(24, 16), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 4)
    ),
    "softmax": lambda: head(
        nn.Dropout(0.5), nn.Linear(24, 16), nn.Softmax(1), nn.Dropout(0.5), nn.Linear(16, 4)
    ),
    "last_dropout": lambda: head(nn.Dropout(0.5), nn.Linear(24, 4), nn.Dropout(0.5)),
    "twice": lambda: head(nn.Dropout(0.5), nn.Dropout(0.5), nn.Linear(24, 4)),
    "alpha": lambda: head(nn.AlphaDropout(0.5), nn.Linear(24, 4)),
    "tokens": lambda: head(nn.Unflatten(1, (4, 6)), nn.Dropout(0.5), nn.Linear(6, 4), nn.Flatten()),
    "hooked": lambda: hooked_head(),
    "plain": lambda: Net("plain"),
}


def hooked_head():
    model = head(nn.Dropout(0.5), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 4))
    model[3].register_forward_hook(lambda module, args, output: output * 2)
    return model


@pytest.fixture
def plans(monkeypatch):
    """Return the plans that are used, each the folded one or None."""
    module, used = importlib.import_module("alhelpers.uncertainty.mc_dropout"), []
    original = module.folded
    monkeypatch.setattr(module, "folded", lambda *args: used.append(original(*args)) or used[-1])
    return used


@pytest.mark.parametrize("name", [*FOLDED, *GENERAL])
def test_folded_masks_are_the_masks_of_the_general_way(name, plans, monkeypatch):
    inputs = data(9)

    def build_one():
        torch.manual_seed(1)
        return (FOLDED | GENERAL)[name]()

    found, _ = mc_dropout(build_one(), inputs, passes=8, masks="pass", seed=7, batch_size=4)
    assert isinstance(plans[0], FoldedHead) == (name in FOLDED)
    monkeypatch.setattr(
        importlib.import_module("alhelpers.uncertainty.mc_dropout"), "folded", lambda *_: None
    )
    general, _ = mc_dropout(build_one(), inputs, passes=8, masks="pass", seed=7, batch_size=4)
    np.testing.assert_allclose(found, general, atol=2e-6)
    assert name == "all" or (found.std(axis=1).max(axis=1) > 1e-6).all()


@pytest.mark.parametrize("room", [0, 500])
def test_folded_weights_that_find_no_room_are_folded_again(room, plans, monkeypatch):
    expected, _ = mc_dropout(dense(), data(9), passes=8, masks="pass", seed=7, batch_size=2)
    for module in ("_folded", "_masks"):
        part = importlib.import_module(f"alhelpers.uncertainty.{module}")
        owner = part.FoldedHead if module == "_folded" else part.SharedMasks
        monkeypatch.setattr(owner, "__init__", limited(owner.__init__, room))
    found, _ = mc_dropout(dense(), data(9), passes=8, masks="pass", seed=7, batch_size=2)
    np.testing.assert_array_equal(found, expected)
    assert plans[1].room >= 0 and len(plans[1].kept) < 8


def limited(init, room):
    return lambda self, *args: (init(self, *args), setattr(self, "room", room))[0]


def test_a_record_that_is_not_finite_is_named_in_every_way():
    for value in (torch.nan, torch.inf):
        inputs = data(9)
        inputs[5] = value
        for masks in ("sample", "pass"):
            with pytest.raises(ValueError, match="logits of record 5 in pass 0 are not finite"):
                mc_dropout(dense(), inputs, masks=masks, batch_size=4)


def test_weights_that_are_not_finite_are_not_folded_away(plans):
    model = dense()
    with torch.no_grad():
        model[3].weight[:, 3] = torch.inf
    with pytest.raises(ValueError, match="are not finite"):
        mc_dropout(model, data(4), passes=2, masks="pass", seed=1)
    assert plans == [None]


@pytest.mark.parametrize("keep", [1, 128, 3 << 14, 1 << 15, 1 << 14, 5 << 13, 255 << 8, 32769, 45875, 65535])
def test_truth_values_have_their_share_and_no_order(keep):
    count = 1 << 20
    share = keep / 65536
    drawn = _drawn(keep, count, np.random.SFC64(5))
    assert drawn.dtype == bool and drawn.shape == (count,)
    spread = np.sqrt(share * (1 - share))
    assert abs(drawn.mean() - share) < 6 * spread / np.sqrt(count)
    if 0.05 < share < 0.95:  # those in one word and one byte, and those of neighbouring words
        units = (drawn - share) / spread
        for lag in (1, 2, 3, 7, 8, 9, 63, 64, 65):
            assert abs((units[lag:] * units[:-lag]).mean()) < 6 / np.sqrt(count)


@pytest.mark.parametrize("count", [0, 1, 7, 63, 64, 65, 1000])
@pytest.mark.parametrize("keep", [1 << 15, 3 << 14, 45875])
def test_counts_of_truth_values(count, keep):
    assert len(_drawn(keep, count, np.random.SFC64(5))) == count
