"""Models whose code reads their inputs' numbers: dropout in branches that the first records do not take.

The independent reference is a plain loop over the model in training mode, batch by batch.
"""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from alhelpers.uncertainty import DropoutError, mc_dropout

torch.set_num_threads(1)
PASSES, BATCH = 200, 8


class Branch(nn.Module):
    """Drops units only where a large number comes in."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return self.thinned(x) if x.max() > 50 else x

    def thinned(self, x):
        return F.dropout(x, 0.5, self.training)


class OfAnItem(Branch):
    def forward(self, x):
        return self.thinned(x) if max(x.flatten().tolist()) > 50 else x


class OfALength(Branch):
    def forward(self, x):
        return self.thinned(x) if len(x[x > 50]) else x


class OfAnArray(Branch):
    def forward(self, x):
        return self.thinned(x) if x.detach().numpy().max() > 50 else x


class Guarded(Branch):
    def thinned(self, x):
        return self.drop(x) if self.training else x


class OwnNumbers(Branch):
    def __init__(self):
        super().__init__()
        self.generator = torch.Generator()

    def thinned(self, x):
        return x * (torch.rand(x.shape, generator=self.generator) > 0.5) * 2 if self.training else x


class BesideFunctionalNorm(Branch):
    def thinned(self, x):
        x = F.batch_norm(x, torch.zeros(8), torch.ones(8), training=self.training)
        return F.dropout(x, 0.5, self.training)


class Net(nn.Module):
    """A network with dropout of its own beside the branch."""

    def __init__(self, branch):
        super().__init__()
        self.first, self.branch, self.last = nn.Linear(4, 8), branch, nn.Linear(8, 3)
        self.drop, self.norm = nn.Dropout(0.2), nn.BatchNorm1d(8)

    def forward(self, x):
        return self.last(self.norm(self.branch(self.drop(self.first(x)))))


def built(kind):
    torch.manual_seed(0)
    return Net(kind())


def inputs(large):
    """Three batches, of which only some records are large."""
    x = np.random.default_rng(0).normal(size=(3 * BATCH, 4)).astype(np.float32)
    x[large] *= 200
    return x


def plain_spread(model, x):
    """Return the spread of each record's outputs over plain passes in training mode, batch norm excepted."""
    torch.manual_seed(1)
    model.train()
    model.norm.eval()
    with torch.no_grad():
        batches = torch.from_numpy(x).split(BATCH)
        passes = [torch.cat([model(batch) for batch in batches]) for _ in range(PASSES)]
    return torch.stack(passes).std(dim=0).mean(dim=1).numpy()


@pytest.mark.parametrize("kind", [Branch, OfAnItem, OfALength, OfAnArray, Guarded, OwnNumbers])
@pytest.mark.parametrize("large", [[BATCH - 1], [BATCH + 2], [3 * BATCH - 1]])
def test_dropout_that_only_later_records_reach_is_on_for_them(kind, large):
    model, x = built(kind), inputs(large)
    expected = plain_spread(model, x)
    found = mc_dropout(model, x, PASSES, outputs="values", batch_size=BATCH)[0].std(axis=1).mean(axis=1)
    np.testing.assert_allclose(found, expected, rtol=0.35)
    assert found[large[0]] > 20 * found.min()
    assert model.training and not model.norm.training


@pytest.mark.parametrize("large", [[BATCH - 1], [BATCH + 2]])
def test_shared_masks_reach_a_module_in_a_branch_and_refuse_a_function(large):
    x, options = inputs(large), {"masks": "pass", "outputs": "values", "batch_size": BATCH}
    expected = plain_spread(built(Guarded), x)
    found = mc_dropout(built(Guarded), x, PASSES, **options)[0].std(axis=1).mean(axis=1)
    np.testing.assert_allclose(found, expected, rtol=0.35)
    with pytest.raises(
        DropoutError, match='masks="pass" can share .* and Branch draws random numbers inside'
    ):
        mc_dropout(built(Branch), x, 4, **options)


@pytest.mark.parametrize("large", [[BATCH - 1], [BATCH + 2]])
def test_a_later_branch_that_also_normalises_by_the_batch_is_an_error(large):
    with pytest.raises(DropoutError, match=r"branch \(BesideFunctionalNorm\) calls functional dropout and"):
        mc_dropout(built(BesideFunctionalNorm), inputs(large), 4, outputs="values", batch_size=BATCH)


def test_looking_at_later_batches_changes_no_random_number():
    """A branch that no record takes: the samples are those of the same network without it."""
    x = inputs([])
    plain = built(lambda: Branch())
    plain.branch = nn.Identity()
    for masks in ("sample", "pass"):
        options = {"outputs": "values", "batch_size": BATCH, "masks": masks, "seed": 3}
        samples = [mc_dropout(model, x, 4, **options)[0] for model in (built(OfAnArray), plain)]
        np.testing.assert_array_equal(*samples)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("dynamic", [True, False])
def test_an_exported_module_is_refused_by_name(train, dynamic):
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(), nn.Linear(8, 3)).train(train)
    shapes = ({0: torch.export.Dim("rows")},) if dynamic else None
    exported = torch.export.export(model, (torch.randn(8, 4),), dynamic_shapes=shapes).module()
    for given, name in ((exported, "the model"), (nn.Sequential(exported, nn.Dropout()), "0")):
        message = rf"{name} \(GraphModule\) is exported, so .* pass the module that it was made from"
        with pytest.raises(DropoutError, match=message):
            mc_dropout(given, inputs([]), 4)
