"""Inputs and outputs of any form: several, by name, from loaders, of any layout."""

from collections import namedtuple

import numpy as np
import pytest
import torch
from helpers_dropout import Net, build, data
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SubsetRandomSampler, TensorDataset

from alhelpers.uncertainty import mc_dropout, mc_dropout_scores

torch.set_num_threads(1)
Output = namedtuple("Output", ["scores", "hidden"])


class TwoInputs(Net):
    def forward(self, x, y):
        return super().forward(x + y)


class ByName(Net):
    """Takes what a tokenizer returns, and returns a dict."""

    def forward(self, values, mask=None):
        return {"scores": super().forward(values * mask), "hidden": values}


class Named(Net):
    def forward(self, x):
        return Output(super().forward(x), x)


def the_samples(model, inputs, **options):
    return mc_dropout(model, inputs, passes=4, seed=3, batch_size=2, **options)[0]


def test_several_inputs_and_outputs_of_any_form():
    x, y = data(), data(seed=4)
    expected = the_samples(build(Net), x + y)
    np.testing.assert_array_equal(the_samples(build(TwoInputs), (x, y)), expected)
    np.testing.assert_array_equal(the_samples(build(TwoInputs), [x.numpy(), y.numpy()]), expected)
    masked = {"values": x, "mask": x > 0}
    expected = the_samples(build(Net), x * (x > 0))
    found = the_samples(build(ByName), masked, logits=lambda output: output["scores"])
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(
        the_samples(build(Named), x * (x > 0), logits=lambda output: output.scores), expected
    )
    values, _ = mc_dropout_scores(
        build(Named), x, 4, ("bald",), logits=lambda output: output.scores, batch_size=2, seed=3
    )
    plain, _ = mc_dropout_scores(build(Net), x, 4, ("bald",), batch_size=2, seed=3)
    np.testing.assert_array_equal(values["bald"], plain["bald"])
    with pytest.raises(ValueError, match="it returned a dict: take them out of it with logits="):
        the_samples(build(ByName), masked)
    with pytest.raises(ValueError, match=r"the same number of records, got \[3, 5\]"):
        the_samples(build(TwoInputs), (x, y[:3]))


def test_loaders_in_the_order_of_their_records():
    x, labels = data(), torch.arange(5)
    expected = the_samples(build(Net), x)
    for parts in ((x,), (x, labels)):  # what a batch holds after the model's inputs is left out
        loader = DataLoader(TensorDataset(*parts), batch_size=2)
        np.testing.assert_array_equal(the_samples(build(Net), loader), expected)
    dicts = DataLoader([{"values": row, "mask": torch.ones(6)} for row in x], batch_size=2)
    found = the_samples(build(ByName), dicts, logits=lambda output: output["scores"])
    np.testing.assert_array_equal(found, expected)
    own = BatchSampler(RandomSampler(x), 2, drop_last=False)
    for options in ({"shuffle": True}, {"sampler": SubsetRandomSampler(range(5))}, {"batch_sampler": own}):
        with pytest.raises(ValueError, match="shuffles its records"):
            the_samples(build(Net), DataLoader(TensorDataset(x), **options))
    with pytest.raises(ValueError, match="drops its last records"):
        the_samples(build(Net), DataLoader(TensorDataset(x), batch_size=2, drop_last=True))
    with pytest.raises(ValueError, match="at least one record"):
        the_samples(build(Net), DataLoader(TensorDataset(x[:0])))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("layout", ["read_only", "reversed", "transposed", "big_endian", "float16", "list"])
def test_arrays_of_any_layout(layout):
    x = data().numpy()
    arrays = {
        "read_only": x.copy(),
        "reversed": x[::-1].copy()[::-1],
        "transposed": x.T.copy().T,
        "big_endian": x.astype(">f4"),
        "float16": x.astype(np.float16),
        "list": x.tolist(),
    }
    given = arrays[layout]
    if layout == "read_only":
        given.flags.writeable = False
    np.testing.assert_allclose(
        the_samples(build(Net), given), the_samples(build(Net), x), atol=1e-2 if layout == "float16" else 1e-7
    )
