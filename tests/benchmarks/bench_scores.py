"""Scores of a large pool: the kit against baal, modAL and scikit-activeml, on the same float32 numbers.

The limits are those of the kit's plan. Each is printed with what was measured, and beside it the floor: what reading
the numbers once, or taking as many logarithms with numpy, costs alone on one core. Where the floor is above what a
limit leaves, no code in numpy can hold it on this machine. Validation is part of the kit's time; of the peers only
scikit-activeml validates. All in turn, once on one core, in medians of processor time, and once on all, in medians
of the clock: the peers use one core then too.
"""

import os
import statistics
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from alhelpers import scores

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the peers import what is deprecated
    from baal.active.heuristics import BALD, Certainty, Entropy, Margin
    from modAL import disagreement, uncertainty
    from skactiveml.pool import average_kl_divergence, uncertainty_scores
    from skactiveml.pool import vote_entropy as skactiveml_vote_entropy

ROUNDS = 5
SMALL_C, LARGE_C = 7.0, 4.0
BALD_LIMIT, VOTE_LIMIT, KL_LIMIT = 4.0, 150.0, 5.0
#: Bytes that a score may take beside its result: a few blocks, however large the pool is.
MEMORY = 4 << 20

Variants = dict[str, Callable[[], Any]]


class Committee:
    """Stands for modAL's committee: its members have predicted already."""

    def __init__(self, samples: np.ndarray) -> None:
        self.samples, self.classes_ = samples, np.arange(samples.shape[2])
        self.votes = samples.argmax(axis=2)

    def __len__(self) -> int:
        return self.samples.shape[1]

    def __iter__(self) -> Any:
        return iter(range(len(self)))

    def vote(self, _: np.ndarray) -> np.ndarray:
        """Return the votes, as modAL's own committee: floats."""
        return self.votes.astype(np.float64)

    def vote_proba(self, _: np.ndarray) -> np.ndarray:
        """Return the members' confidences."""
        return self.samples


def confidences_of(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Make confidences as a classifier's softmax gives them."""
    logits = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) * 2
    return scores.confidences_from_logits(logits)


@contextmanager
def one_core() -> Iterator[None]:
    """Keep this thread, and those that it starts, on one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def interleaved(variants: Variants, clock: Callable[[], float]) -> dict[str, float]:
    """Return the median milliseconds of each variant, run in turn."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(ROUNDS):
        for name, run in variants.items():
            started = clock()
            run()
            times[name].append(1000 * (clock() - started))
    return {name: statistics.median(values) for name, values in times.items()}


def compare(what: str, ours: Callable[[], Any], peers: Variants, limit: float, floors: Variants) -> bool:
    """Print the times, and the ratio to the fastest peer beside its limit and what the floors allow."""
    print(what)
    with one_core():
        alone = interleaved({"alhelpers": ours} | peers | floors, time.process_time)
    best = min(peers, key=alone.__getitem__)
    allowed = "; ".join(
        f"{name} {alone[name]:.1f} ms allows {alone[best] / alone[name]:.1f}x" for name in floors
    )
    held = [judged("one core", alone, peers, limit, allowed)]
    both = interleaved({"alhelpers": ours} | peers, time.perf_counter)
    held.append(judged(f"{len(os.sched_getaffinity(0))} cores", both, peers, limit))
    return all(held)


def judged(cores: str, times: dict[str, float], peers: Variants, limit: float, floors: str = "") -> bool:
    """Print one line of times and what they say of the limit."""
    ratio = min(times[name] for name in peers) / times["alhelpers"]
    held = ratio >= limit
    each = ", ".join(f"{name} {times[name]:.1f}" for name in ("alhelpers", *peers))
    verdict = f"{ratio:.1f}x, the limit of {limit:g}x is {'held' if held else 'BROKEN'}"
    print(f"    {cores}: {verdict} ({each} ms{'; ' + floors if floors else ''})")
    return held


def floors_of(values: np.ndarray, logarithms: bool) -> Variants:
    """Return what no score can do without: reading everything once and, for entropies, the logarithms."""
    room = np.empty(1 << 17, dtype=np.float32)
    flat = values.ravel()

    def read() -> None:
        flat.min()

    def log() -> None:
        for start in range(0, flat.size, room.size):
            part = flat[start : start + room.size]
            np.log(part, out=room[: part.size])

    return {"reading once": read} | ({"np.log alone": log} if logarithms else {})


def one_prediction(shape: tuple[int, int], limit: float) -> list[bool]:
    """Compare the scores of (N, C) confidences."""
    given = confidences_of(shape)
    peers = {
        "entropy": (scores.entropy, Entropy, uncertainty._proba_entropy, "entropy"),
        "margin": (scores.margin, Margin, uncertainty._proba_margin, "margin_sampling"),
        "least confidence": (
            scores.least_confidence,
            Certainty,
            uncertainty._proba_uncertainty,
            "least_confident",
        ),
    }
    held = []
    for name, (ours, baal, modal, method) in peers.items():
        variants = {
            "baal": lambda baal=baal: baal().get_uncertainties(given),
            "modAL": lambda modal=modal: modal(given),
            "scikit-activeml": lambda method=method: uncertainty_scores(given, method=method),
        }
        what = f"{name}, {shape[0]:,} x {shape[1]}"
        floors = floors_of(given, name == "entropy")
        held.append(compare(what, lambda ours=ours: ours(given), variants, limit, floors))
        held.append(keeps_memory(lambda ours=ours: ours(given), 4 * len(given)))
    return held


def keeps_memory(run: Callable[[], Any], result: int) -> bool:
    """Print the peak of the memory that a score takes beside its result."""
    tracemalloc.start()
    try:
        run()
        peak = tracemalloc.get_traced_memory()[1] - result
    finally:
        tracemalloc.stop()
    held = peak <= MEMORY
    verdict = "held" if held else "BROKEN"
    print(f"    {peak / 2**20:.1f} MiB beside the result; the limit of {MEMORY >> 20} MiB is {verdict}")
    return held


def several_predictions() -> list[bool]:
    """Compare the scores of samples."""
    passes = confidences_of((100_000, 20, 10))
    classes_first = np.ascontiguousarray(passes.transpose(0, 2, 1))  # as baal wants them
    held = [
        compare(
            "BALD, 100,000 x 10 x 20",
            lambda: scores.bald(passes),
            {"baal": lambda: BALD().get_uncertainties(classes_first)},
            BALD_LIMIT,
            floors_of(passes, True),
        ),
        keeps_memory(lambda: scores.bald(passes), 4 * len(passes)),
    ]
    members = confidences_of((200_000, 5, 10))
    committee, members_first = Committee(members), np.ascontiguousarray(members.transpose(1, 0, 2))
    held += [
        # modAL is given the votes here, and adds them up
        compare(
            "vote entropy, 200,000 x 5 x 10",
            lambda: scores.vote_entropy_from_votes(committee.votes, members.shape[2]),
            {"modAL": lambda: disagreement.vote_entropy(committee, members)},
            VOTE_LIMIT,
            floors_of(committee.votes, False),
        ),
        compare(
            "consensus KL (max), 200,000 x 5 x 10",
            lambda: scores.consensus_kl(members, "max"),
            {"modAL": lambda: disagreement.KL_max_disagreement(committee, members)},
            KL_LIMIT,
            floors_of(members, True),
        ),
    ]
    # No limits are set over scikit-activeml here; its mean KL clips the confidences that it is given, in place.
    others = {
        "vote entropy of votes, alhelpers": lambda: scores.vote_entropy_from_votes(
            committee.votes, members.shape[2]
        ),
        "vote entropy of votes, scikit-activeml": lambda: skactiveml_vote_entropy(
            committee.votes, committee.classes_
        ),
        "vote entropy of confidences, alhelpers": lambda: scores.vote_entropy(members),
        "consensus KL (mean), alhelpers": lambda: scores.consensus_kl(members),
        "consensus KL (mean), scikit-activeml": lambda: average_kl_divergence(members_first),
    }
    with one_core():
        times = interleaved(others, time.process_time)
    for name, value in times.items():
        print(f"{name}: {value:.1f} ms on one core")
    return held


def main() -> int:
    """Print the times and ratios; return 1 if a limit is broken."""
    held = [*one_prediction((1_000_000, 10), SMALL_C), *one_prediction((50_000, 1000), LARGE_C)]
    held += several_predictions()
    return 0 if all(held) else 1


if __name__ == "__main__":
    raise SystemExit(main())
