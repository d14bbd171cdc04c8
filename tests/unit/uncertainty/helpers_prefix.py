"""Models whose passes are replayed from their first random number, or run whole."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """A convolutional block, whose calls are counted by hooks."""

    def __init__(self, channels=4, inplace=False):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=inplace)

    def forward(self, x):
        return self.relu(self.norm(self.conv(x)))


class Images(nn.Module):
    """The frame of the models below: 6 numbers become a 2x3 image of 4 channels, and 96 numbers logits."""

    def __init__(self, p=0.4):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 1)
        self.drop, self.last = nn.Dropout(p), nn.Linear(24, 4)

    def image(self, x):
        return self.first(x.reshape(x.shape[0], 1, 2, 3))


class Residual(Images):
    """A residual connection that crosses the cut."""

    def __init__(self, inplace=False):
        super().__init__()
        self.block, self.after = Block(inplace=inplace), Block(inplace=inplace)

    def forward(self, x):
        x = self.block(self.image(x))
        x = x + self.drop(self.after(x))
        return self.last(F.relu(x).flatten(1))


class ResidualInPlace(Residual):
    def __init__(self):
        super().__init__(inplace=True)
        self.drop = nn.Dropout(0.4, inplace=True)

    def forward(self, x):
        x = self.block(self.image(x))
        y = self.drop(self.after(x.clone()))
        y += x
        return self.last(F.relu_(y).flatten(1))


class AddedInPlace(Images):
    """Changes what crosses the cut in every pass, so that each needs a copy."""

    def forward(self, x):
        x = self.image(x)
        return self.last(F.relu_(x.add_(self.drop(x))).flatten(1))


class InPlaceAfterTheCut(Images):
    """Changes what the passes share, after one of their nodes has read it."""

    def forward(self, x):
        x = self.image(x)
        noise = self.drop(x)
        return self.last(F.relu_(x).add_(noise).flatten(1))


class SharedMemory(Images):
    """Two views of one memory cross the cut, and one of them is changed."""

    def forward(self, x):
        x = self.image(x)
        flat = x.view(x.shape[0], 24)
        masked = self.drop(torch.ones_like(flat))
        flat.mul_(masked)
        return self.last(x.flatten(1))


class DroppedInPlace(Images):
    """Relies on what an in-place dropout does to its input."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.4, inplace=True)

    def forward(self, x):
        x = self.image(x)
        self.drop(x)
        return self.last(x.flatten(1))


class Late(Images):
    """Does not depend on dropout, but changes in place what a node of a pass has read before."""

    def forward(self, x):
        x = self.image(x)
        mask = self.drop(torch.ones_like(x))
        thinned = mask * x
        x.mul_(3)
        return self.last((thinned + x).flatten(1))


class InTheTrunk(Images):
    def __init__(self):
        super().__init__()
        self.early = nn.Dropout2d(0.3)
        self.a, self.b = Block(), Block()

    def forward(self, x):
        x = self.image(x)
        return self.last(self.drop(self.b(x) + self.a(self.early(x))).flatten(1))


class Twice(Images):
    """Calls one dropout and one block twice, with and without dropout before it."""

    def __init__(self):
        super().__init__()
        self.block = Block()

    def forward(self, x):
        x = self.block(self.image(x))
        return self.last(self.drop(self.block(self.drop(x))).flatten(1))


class SharedWeights(Images):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(24, 24), nn.Linear(24, 24)
        self.b.weight = self.a.weight

    def forward(self, x):
        x = self.a(self.image(x).flatten(1))
        return self.last(self.b(self.drop(x))) + F.linear(x, self.last.weight)


class Functional(Images):
    def forward(self, x):
        batch, channels, height, width = self.image(x).shape
        x = self.image(x).reshape(batch, channels * height * width)
        return self.last(F.dropout(x, 0.4, training=self.training))


class Guarded(Images):
    """Calls functional dropout in training mode only."""

    def __init__(self, p=0.4):
        super().__init__()
        self.p = p

    def forward(self, x):
        return self.last(self.thinned(self.image(x)).flatten(1))

    def thinned(self, x):
        return F.dropout(x, self.p) if self.training else x


class NoDefault(Images):
    """Has further arguments."""

    def forward(self, x, mask=None, scale=2.0):
        x = self.image(x) * scale
        if mask is not None:
            x = x * mask
        return self.last(self.drop(x).flatten(1))


class Attended(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.attention = nn.Linear(2, 8), nn.MultiheadAttention(8, 2, 0.3, batch_first=True)
        self.norm, self.last = nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, x):
        tokens = self.embed(x.reshape(x.shape[0], 3, 2))
        return self.last(self.norm(tokens + self.attention(tokens, tokens, tokens)[0]).mean(1))


class OwnAttention(nn.Module):
    """Calls torch's attention by itself, with dropout in training mode only."""

    def __init__(self, p=0.3):
        super().__init__()
        self.embed, self.last, self.p = nn.Linear(2, 8), nn.Linear(8, 4), p

    def forward(self, x):
        tokens = self.embed(x.reshape(x.shape[0], 3, 2))
        p = self.p if self.training else 0.0
        return self.last(F.scaled_dot_product_attention(tokens, tokens, tokens, dropout_p=p).mean(1))


class Encoded(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.3, batch_first=True)
        self.embed, self.encoder = (
            nn.Linear(2, 8),
            nn.TransformerEncoder(layer, 2, enable_nested_tensor=False),
        )
        self.last = nn.Linear(8, 4)

    def forward(self, x):
        return self.last(self.encoder(self.embed(x.reshape(x.shape[0], 3, 2))).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(2, 8)
        self.lstm, self.last = nn.LSTM(8, 8, 2, dropout=0.3, batch_first=True), nn.Linear(8, 4)

    def forward(self, x):
        return self.last(self.lstm(self.embed(x.reshape(x.shape[0], 3, 2)))[0][:, -1])


class Chosen(Images):
    """The path depends on the data."""

    def forward(self, x):
        x = self.image(x)
        if x.mean() > 0:
            x = x * 2
        return self.last(self.drop(x).flatten(1))


class ChecksTheType(Images):
    """Takes another path for what is not a tensor."""

    def forward(self, x):
        x = self.image(x)
        x = x * 3 if isinstance(x, torch.Tensor) else x
        return self.last(self.drop(x).flatten(1))


class Stores(Images):
    """Keeps its last features."""

    def forward(self, x):
        self.features = self.image(x)
        return self.last(self.drop(self.features).flatten(1))


class Appends(Images):
    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(1)
        return self.last(self.drop(self.image(x)).flatten(1))


class Counts(Images):
    """Counts its calls in a buffer and uses the number."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.last(self.drop(self.image(x)).flatten(1)) + self.calls


class Noisy(Images):
    """Draws noise in evaluation mode, too."""

    def forward(self, x):
        x = self.image(x)
        return self.last(self.drop(x + torch.rand_like(x)).flatten(1))


class NoisyConstant(Images):
    """Draws numbers that do not depend on the input."""

    def forward(self, x):
        return self.last(self.drop(self.image(x) * torch.rand(4, 1, 1)).flatten(1))


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


class NumpyNoise(Images):
    """Draws from a generator that is not torch's."""

    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(0)

    def forward(self, x):
        return self.last(self.drop(self.image(x) * float(self.rng.random())).flatten(1))


class ReadsNumbers(Images):
    """Reads numbers past torch's operators."""

    def forward(self, x):
        x = self.image(x)
        return self.last(self.drop(x.relu() * float(x.detach().numpy().mean())).flatten(1))


class ReadsBeforeItChanges(Images):
    """Reads numbers past torch's operators that are changed in place afterwards."""

    def forward(self, x):
        x = self.image(x)
        mean = float(x.detach().numpy().mean())
        return self.last(self.drop(x.relu_() * mean).flatten(1))


class Alternates(Images):
    """Takes another path in every other pass."""

    calls = 0

    def forward(self, x):
        self.calls += 1
        x = self.image(x)
        return self.last(self.drop(x.tanh() if self.calls % 2 else x.sigmoid()).flatten(1))


class ChoosesAResult(Images):
    """Reads another result of the same operators for batches of other sizes."""

    def forward(self, x):
        x = self.image(x)
        masks = x > 0, x > 0.5
        x = self.drop(x)
        return self.last((x * masks[len(x) > 2]).flatten(1))


class ChangesSomeBatches(Images):
    """Changes what the passes share in place, for batches of other sizes only, and not in every pass."""

    def forward(self, x):
        x = self.image(x).view(len(x), 24)
        dropped = self.drop(x)
        if len(x) > 2 and (dropped == 0).float().mean() > 0.4:
            x.add_(1)
        return self.last(dropped + x)


class DependsOnTheRows(Images):
    """Takes another path for batches of other sizes than the small one that is tried."""

    def forward(self, x):
        x = self.image(x)
        x = x.relu_().mul_(2) if len(x) > 2 else x
        return self.last(self.drop(x).flatten(1))


class HalfPrecision(Images):
    """Works in another precision."""

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.last(self.drop(self.image(x)).flatten(1)).float()


def hooked():
    """A container with dropout inside and a hook that changes its output."""
    model = nn.Sequential(nn.Linear(6, 8), nn.Sequential(nn.Dropout(0.4), nn.Linear(8, 8)), nn.Linear(8, 4))
    model[1].register_forward_hook(lambda module, args, output: output * 2)
    return model


def hooked_root():
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.4), nn.Linear(8, 4))
    model.register_forward_pre_hook(lambda module, args: (args[0] * 3,))
    return model


def hooked_leaves():
    """Hooks on what stays whole: they run with it."""
    model = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.4), nn.Linear(8, 4))
    model[0].register_forward_hook(lambda module, args, output: output * 2)
    model[1].register_forward_hook(lambda module, args, output: output + 1)
    model[2].register_forward_pre_hook(lambda module, args: (args[0] * 3,))
    return model


REPLAYED = {
    "residual": Residual,
    "residual_inplace": ResidualInPlace,
    "added_in_place": AddedInPlace,
    "inplace_after_the_cut": InPlaceAfterTheCut,
    "shared_memory": SharedMemory,
    "dropped_in_place": DroppedInPlace,
    "late": Late,
    "in_the_trunk": InTheTrunk,
    "twice": Twice,
    "shared_weights": SharedWeights,
    "functional": Functional,
    "guarded": Guarded,
    "no_default": NoDefault,
    "attended": Attended,
    "own_attention": OwnAttention,
    "encoded": Encoded,
    "recurrent": Recurrent,
    "chosen": Chosen,
    "stores": Stores,
    "appends": Appends,
    "noisy": Noisy,
    "noisy_constant": NoisyConstant,
    "half_precision": HalfPrecision,
    "reads_numbers": ReadsNumbers,
    "depends_on_the_rows": DependsOnTheRows,
    "chooses_a_result": ChoosesAResult,
    "changes_some_batches": ChangesSomeBatches,
    "sequential": lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 4)),
    "reused": lambda: (lambda linear: nn.Sequential(linear, nn.Dropout(0.4), linear))(nn.Linear(6, 6)),
    "hooked": hooked,
    "hooked_root": hooked_root,
    "hooked_leaves": hooked_leaves,
}
WHOLE = {
    "root": lambda: nn.Dropout(0.4),
    "counts": Counts,
    "numpy_noise": NumpyNoise,
    "reads_before_it_changes": ReadsBeforeItChanges,
    "alternates": Alternates,
    "noise_first": lambda: nn.Sequential(Noise(), nn.Dropout(0.4), nn.Linear(6, 4)),
}


def build(name):
    torch.manual_seed(1)
    return (REPLAYED | WHOLE)[name]()
