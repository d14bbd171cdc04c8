"""A committee of five trained as one batched network, against the same committee trained one after another.

The limits, with one thread and with both cores: perceptrons at least 2.5 times, convolutional networks at least 1.3
times faster than a loop in plain torch, which is what one writes without the kit. Beside it stands the kit's own
training, one after another (``Committee.fit`` with ``batched=False``), faster than that loop for small networks: its
AdamW is fused. The perceptrons have two hidden layers, for digits of 8 x 8 and of 28 x 28 pixels; the convolutional
networks are the kit's own. With the same seeds both ways of the kit give members that are alike, which is checked
first. Rounds are interleaved, and medians compared.

The batched way has fewer and larger calls, one step of AdamW for all members, and on a CPU images in the order that
convolutions are fastest in. What multiplies is the same, so that the ratio falls as the layers grow: most of the
time of 28 x 28 perceptrons, and nearly all of convolutional networks, are products that both ways have to do. The
perceptrons have no dropout: drawing its masks takes the same time in both ways.
"""

import itertools
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import nn

from alhelpers.learners import build_network
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


def data(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Make images with something to learn, and their labels."""
    labels = np.arange(RECORDS) % 10
    images = np.random.default_rng(0).random((RECORDS, 1, size, size), dtype=np.float32)
    images[np.arange(RECORDS), 0, labels % size] += 1
    return images, labels


def plain_loop(design: Callable[[int], nn.Module], size: int, steps: int) -> None:
    """Train five networks, each without a fifth of the records, as torch's own tutorials do."""
    images, labels = map(torch.from_numpy, data(size))
    folds = torch.randperm(RECORDS).chunk(MEMBERS)
    for member in range(MEMBERS):
        rows = torch.cat([fold for number, fold in enumerate(folds) if number != member])
        network = design(size)
        optimizer = torch.optim.AdamW(network.parameters(), lr=6e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
        batches = (part for _ in range(steps) for part in rows[torch.randperm(len(rows))].split(BATCH))
        for batch in itertools.islice(batches, steps):
            loss = nn.functional.cross_entropy(network(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def fitted(design: Callable[[int], nn.Module], size: int, steps: int, *, batched: bool) -> Committee:
    """Train a committee with the kit."""
    images, labels = data(size)
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
    ways = {
        "plain loop": lambda: plain_loop(design, size, steps),
        "the kit one after another": lambda: fitted(design, size, steps, batched=False),
        "as one": lambda: fitted(design, size, steps, batched=True),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, train in ways.items():
            started = time.perf_counter()
            train()
            times[way].append(time.perf_counter() - started)
    plain, alone, together = (median(seconds) for seconds in times.values())
    held = plain / together >= limit
    print(
        f"{torch.get_num_threads()} thread(s), {MEMBERS} {name}, {size} x {size}, {steps} steps:"
        f" plain loop {plain:.3f} s, the kit one after another {alone:.3f} s, as one {together:.3f} s;"
        f" ratio {plain / together:.2f}, limit {limit}: {'held' if held else 'BROKEN'}"
        f" (over the kit one after another {alone / together:.2f})",
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
