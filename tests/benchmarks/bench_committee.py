"""Committees of six and a race of ten entries, side by side in processes, against one after another.

The limits, on two idle cores, where this process and another one compute: a committee of convolutional networks
(28 x 28) or of detectors at least 1.7 times as fast as one after another with one thread, of small networks (8 x 8)
1.4 times, and none slower than one after another with torch's own threads; a race of two strategies and five seeds 1.5
times. The floor is half the time of one after another. The other process has been started before; the first committee
of a session starts it while it computes, and should not be slower than one after another, however small it is: of two
steps, which take a third of a second, it is, by 7 to 10 %, as starting a process takes a core for as long. That all
ways give the same weights, or rows, is checked first. Rounds are interleaved, and medians of the clock compared.

Where there is a GPU, the committees are also trained on it, one member after another.
"""

import argparse
import os
import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from joblib.externals.loky import get_reusable_executor
from measuring import Report, interleaved
from torch import nn

from alhelpers import data
from alhelpers.learners import Detector, build_network
from alhelpers.loop import Entry, race
from alhelpers.parallel import cores
from alhelpers.uncertainty import Committee

MEMBERS, RECORDS, SCENES = 6, 600, 120
#: The least gain over one after another with one thread, by the side of the images, and with torch's own threads.
NETWORKS, DETECTORS, RACE, OWN_THREADS = {8: 1.4, 28: 1.7}, 1.7, 1.5, 1.0
#: The most time of a session's first committee, as a share of that of one after another; with the clock's noise.
FIRST = 1.18
#: Steps of a detector for one of a network, which costs as much.
DETECTOR_STEPS = 0.5

#: Trains a committee, with options of where.
Fitted = Callable[..., Committee]


def convolutional(size: int) -> Callable[[int], nn.Module]:
    """Return a builder of the kit's network."""
    return lambda seed: build_network(size, seed=seed)


def images(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Make images with something to learn, and their labels."""
    labels = np.arange(RECORDS) % 10
    made = np.random.default_rng(0).random((RECORDS, 1, size, size), dtype=np.float32)
    made[np.arange(RECORDS), 0, labels % size] += 1
    return made, labels


def networks(size: int, device: str = "cpu") -> Fitted:
    """Return what trains a committee of networks."""
    made = images(size)
    return lambda steps, **where: Committee(convolutional(size), MEMBERS, device=device).fit(
        *made, steps=steps, **where
    )


def detectors(device: str = "cpu") -> Fitted:
    """Return what trains a committee of detectors."""
    scenes = data.scenes(SCENES, seed=0)

    def fitted(steps: int, **where: int) -> Committee:
        steps = max(round(steps * DETECTOR_STEPS), 1)
        committee = Committee(Detector(scenes.class_names, steps=steps, device=device), MEMBERS)
        committee.fit(scenes, **where)
        return committee

    return fitted


def rows(steps: int, **where: int) -> list[dict]:
    """Run a race; return its rows but for the seconds."""
    entries = [Entry(strategy, seed) for strategy in ("random", "mc_dropout") for seed in range(5)]
    found = race(*data.load("digits"), entries, label_counts=(20, 40, 60), steps=steps, **where)
    return [{name: value for name, value in row.items() if name != "seconds"} for row in found]


def weights(committee: Committee) -> list[torch.Tensor]:
    """Return the weights of all members."""
    modules = (getattr(model, "network", model) for model in committee.models)
    return [each for module in modules for each in module.parameters()]


def compare_committees(
    report: Report, name: str, fitted: Fitted, limit: float, steps: int, rounds: int
) -> None:
    """Compare the ways to train a committee."""
    for one, other in zip(weights(fitted(4, workers=1)), weights(fitted(4, workers=2)), strict=True):
        assert torch.equal(one, other), "the weights differ"
    ways: dict[str, Callable[[], object]] = {
        "one after another": lambda: fitted(steps, workers=1),
        "with torch's own threads": lambda: fitted(steps, workers=1, threads=cores()),
        "side by side": lambda: fitted(steps),
    }
    times = interleaved(ways, rounds, time.perf_counter)
    print(f"{name}: " + ", ".join(f"{way} {seconds:.2f} s" for way, seconds in times.items()), flush=True)
    ours = times.pop("side by side")
    floor = {"floor": float(cores()), "why": "all cores in use all the time"}
    report.at_least(f"{name}, over one after another", times["one after another"] / ours, limit, **floor)
    report.at_least(
        f"{name}, over torch's own threads", times["with torch's own threads"] / ours, OWN_THREADS
    )


def compare_first(report: Report, name: str, fitted: Fitted, steps: int, rounds: int) -> None:
    """Compare the first committee of a session, before other processes run, with one after another."""

    times: dict[str, list[float]] = {"one": [], "first": []}
    for _ in range(rounds):
        for way, where in (("one", {"workers": 1}), ("first", {})):
            get_reusable_executor(1).shutdown(wait=True, kill_workers=True)
            started = time.perf_counter()
            fitted(steps, **where)
            times[way].append(time.perf_counter() - started)
    one, first = (median(values) for values in times.values())
    report.at_most(
        f"{name}, the first committee ({first:.2f} s), of one after another",
        first / one,
        FIRST,
        "x",
    )


def compare_races(report: Report, steps: int, rounds: int) -> None:
    """Compare a race with the same race one after another."""
    assert rows(2, workers=1) == rows(2), "the rows differ"
    ways = {"one": lambda: rows(steps, workers=1), "side by side": lambda: rows(steps)}
    times = interleaved(ways, rounds, time.perf_counter)
    report.at_least("race of 10 entries, over one after another", times["one"] / times["side by side"], RACE)


def print_gpu(steps: int) -> None:
    """Print the times of the same committees on the GPU."""
    if not torch.cuda.is_available():
        print("no GPU here: untimed")
        return
    for name, fitted in (("networks, 28 x 28", networks(28, "cuda")), ("detectors", detectors("cuda"))):
        fitted(4)  # the first starts CUDA
        seconds = interleaved({name: lambda fitted=fitted: fitted(steps)}, 1, time.perf_counter)[name]
        print(f"{MEMBERS} {name}, {steps} steps, on the GPU: {seconds:.2f} s", flush=True)


def main() -> int:
    """Print the times and ratios; return 1 if a limit is broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds that the medians are taken of")
    parser.add_argument("--steps", type=int, default=40, help="steps of a training")
    options = parser.parse_args()
    print(f"{cores()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    report = Report(__file__)
    for steps in (2, options.steps):
        compare_first(
            report, f"{MEMBERS} networks, 28 x 28, {steps} steps", networks(28), steps, options.rounds
        )
    for size, limit in NETWORKS.items():
        name = f"{MEMBERS} networks, {size} x {size}, {options.steps} steps"
        compare_committees(report, name, networks(size), limit, options.steps, options.rounds)
    compare_committees(report, f"{MEMBERS} detectors", detectors(), DETECTORS, options.steps, options.rounds)
    compare_races(report, options.steps, options.rounds)
    print_gpu(options.steps)
    return report.code()


if __name__ == "__main__":
    raise SystemExit(main())
