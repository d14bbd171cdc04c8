"""A committee of five trained as one batched network, against the same committee trained one after another.

The limits, with one thread and with both cores: perceptrons at least 2.5 times, convolutional networks at least 1.3
times faster. The perceptrons have two hidden layers, for digits of 8 x 8 and of 28 x 28 pixels; the convolutional
networks are the kit's own. Both ways run ``Committee.fit`` with the same seeds, so the members come out alike, which
is checked first. Rounds of both are interleaved, and medians compared.

The batched way has fewer and larger calls, one fused step of AdamW for all members, and on a CPU images in the order
that convolutions are fastest in. What multiplies is the same, so that the ratio falls as the layers grow: most of the
time of 28 x 28 perceptrons, and nearly all of convolutional networks, are products that both ways have to do. The
perceptrons have no dropout: drawing its masks takes the same time in both ways.
"""

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import nn

from alhelpers.models import build_network
from alhelpers.uncertainty import Committee

MEMBERS, RECORDS, BATCH, ROUNDS = 5, 600, 64, 5
PERCEPTRONS, CONVOLUTIONAL = 2.5, 1.3


def perceptron(size: int) -> nn.Module:
    """Make a network of linear layers for images of a size."""
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(size * size, 128), nn.ReLU()),
        *(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 10)),
    )


def convolutional(size: int) -> nn.Module:
    """Make the kit's network; Committee has seeded torch's random numbers, which draw its seed."""
    return build_network(size, seed=int(torch.randint(2**31, ())))


def fitted(design: Callable[[int], nn.Module], size: int, steps: int, *, batched: bool) -> Committee:
    """Train a committee on images with something to learn."""
    labels = np.arange(RECORDS) % 10
    images = np.random.default_rng(0).random((RECORDS, 1, size, size), dtype=np.float32)
    images[np.arange(RECORDS), 0, labels % size] += 1
    committee = Committee(lambda: design(size), members=MEMBERS)
    committee.fit(images, labels, batched=batched, steps=steps, batch_size=BATCH, looks=1)
    assert committee.way is not None and committee.way.batched == batched
    return committee


def check_alike(design: Callable[[int], nn.Module], size: int) -> None:
    """Raise if the two ways do not give the same members, after a few steps: rounding grows with them."""
    ways = [fitted(design, size, 3, batched=batched) for batched in (True, False)]
    for one, other in zip(ways[0].models, ways[1].models, strict=True):
        for value, expected in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-3)


def compare(name: str, design: Callable[[int], nn.Module], size: int, steps: int, limit: float) -> bool:
    """Print the medians and the ratio of one design; tell whether the limit is held."""
    check_alike(design, size)
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(ROUNDS):
        for batched, seconds in times.items():
            started = time.perf_counter()
            fitted(design, size, steps, batched=batched)
            seconds.append(time.perf_counter() - started)
    alone, together = median(times[False]), median(times[True])
    held = alone / together >= limit
    print(
        f"{torch.get_num_threads()} thread(s), {MEMBERS} {name}, {size} x {size}, {steps} steps:"
        f" one after another {alone:.3f} s, as one {together:.3f} s;"
        f" ratio {alone / together:.2f}, limit {limit}: {'held' if held else 'BROKEN'}",
        flush=True,
    )
    return held


def main() -> int:
    """Print the times and ratios; return 1 if a limit is broken."""
    held = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        held += [
            compare("perceptrons", perceptron, 8, 80, PERCEPTRONS),
            compare("perceptrons", perceptron, 28, 40, PERCEPTRONS),
            compare("convolutional networks", convolutional, 8, 12, CONVOLUTIONAL),
            compare("convolutional networks", convolutional, 28, 4, CONVOLUTIONAL),
        ]
    return 0 if all(held) else 1


if __name__ == "__main__":
    raise SystemExit(main())
