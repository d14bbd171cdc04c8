"""A committee of six and a race of ten entries, trained side by side in processes, against one after another.

The limits, on two idle cores: a committee of convolutional networks at least 1.6 times (28 x 28) and 1.4 times
(8 x 8) as fast as one after another with one thread, and not slower than one after another with torch's own threads;
a race of two strategies and five seeds at least 1.5 times as fast as one after another. The other processes have been
started before; the first committee of a session also waits for these, and its time is printed beside. That all ways
give the same weights, or rows, is checked first. Rounds are interleaved, and medians of the clock compared.
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping
from statistics import median

import numpy as np
import torch
from torch import nn

from alhelpers import data
from alhelpers.learners import build_network
from alhelpers.loop import Entry, race
from alhelpers.parallel import cores
from alhelpers.uncertainty import Committee

MEMBERS, RECORDS = 6, 600
LIMITS = {8: 1.4, 28: 1.6}
RACE = 1.5


def convolutional(size: int) -> Callable[[int], nn.Module]:
    """Return a builder of the kit's network."""
    return lambda seed: build_network(size, seed=seed)


def images(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Make images with something to learn, and their labels."""
    labels = np.arange(RECORDS) % 10
    made = np.random.default_rng(0).random((RECORDS, 1, size, size), dtype=np.float32)
    made[np.arange(RECORDS), 0, labels % size] += 1
    return made, labels


def fitted(size: int, steps: int, **where: int) -> Committee:
    """Train a committee."""
    return Committee(convolutional(size), members=MEMBERS).fit(*images(size), steps=steps, **where)


def rows(steps: int, **where: int) -> list[dict]:
    """Run a race; return its rows but for the seconds."""
    entries = [Entry(strategy, seed) for strategy in ("random", "mc_dropout") for seed in range(5)]
    found = race(*data.load("digits"), entries, label_counts=(20, 40, 60), steps=steps, **where)
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found]


def seconds_of(run: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def compare(
    name: str, runs: Mapping[str, Callable[[], object]], limits: Mapping[str, float], rounds: int
) -> bool:
    """Print the medians and the ratios to the last way; return whether the limits hold."""
    times: dict[str, list[float]] = {way: [] for way in runs}
    for _ in range(rounds):
        for way, run in runs.items():
            times[way].append(seconds_of(run))
    middle = {way: median(values) for way, values in times.items()}
    *others, ours = middle
    held = True
    for other in others:
        ratio, limit = middle[other] / middle[ours], limits[other]
        held &= ratio >= limit
        print(
            f"{name}: {other} {middle[other]:.2f} s, {ours} {middle[ours]:.2f} s, ratio {ratio:.2f}, limit {limit}:"
            f" {'held' if ratio >= limit else 'BROKEN'}",
            flush=True,
        )
    return held


def compare_committees(size: int, steps: int, rounds: int) -> bool:
    """Compare the ways to train a committee of images of a size."""
    first = seconds_of(lambda: fitted(size, steps))
    print(
        f"{MEMBERS} networks, {size} x {size}, {steps} steps: the first committee {first:.2f} s", flush=True
    )
    for one, other in zip(fitted(size, 9, workers=1).models, fitted(size, 9).models, strict=True):
        assert all(map(torch.equal, one.parameters(), other.parameters())), "the weights differ"
    runs = {
        "one after another": lambda: fitted(size, steps, workers=1),
        "with torch's own threads": lambda: fitted(size, steps, workers=1, threads=cores()),
        "side by side": lambda: fitted(size, steps),
    }
    limits = {"one after another": LIMITS[size], "with torch's own threads": 1.0}
    return compare(f"{MEMBERS} networks, {size} x {size}, {steps} steps", runs, limits, rounds)


def compare_races(steps: int, rounds: int) -> bool:
    """Compare a race with the same race one after another."""
    assert rows(2, workers=1) == rows(2), "the rows differ"
    runs = {"one after another": lambda: rows(steps, workers=1), "side by side": lambda: rows(steps)}
    return compare(f"race of 10 entries, {steps} steps", runs, {"one after another": RACE}, rounds)


def main() -> int:
    """Print the times and ratios; return 1 if a limit is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="rounds that the medians are taken of")
    parser.add_argument("--steps", type=int, default=150, help="steps of a training")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{cores()} cores, load {load:.1f}", flush=True)
    held = [compare_committees(size, options.steps, options.rounds) for size in LIMITS]
    held.append(compare_races(options.steps, options.rounds))
    return 0 if all(held) else 1


if __name__ == "__main__":
    raise SystemExit(main())
