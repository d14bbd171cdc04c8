"""Scores of a large pool: the kit against baal, modAL and scikit-activeml, on the same float32 numbers.

The floor is what reading the numbers once, or taking as many logarithms with numpy, costs alone on one core.
Validation is part of the kit's time; of the peers only scikit-activeml validates. All in turn on one core, in medians
of processor time. Scores use no threads: on two cores they were as often slower with them as faster.

Wanted were 7 times for a million records of 10 classes, 4 times for 1000 classes, and 6 times for BALD; the limits are
what was reached on the slower of two processors, divided by 1.1. Of 16 ms for the entropy of a million, the copy in
which a class lies in one piece takes 5, the checks 2, the logarithms 4, and their products and sums 2; the best form
found in numpy takes 14.3. Tried, and slower or within 15 %: sums by pairs, by matrix products (which make the result
of a record depend on its neighbours), without the copy, and torch on one thread. The largest of 1000 numbers is found
as fast as the memory gives them, so that checking them first costs what it costs: there the peers, which check
nothing, are faster.
"""

import os
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from measuring import Report, Variants, interleaved

from alhelpers import scores

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the peers import what is deprecated
    from baal.active.heuristics import BALD, Certainty, Entropy, Margin
    from modAL import disagreement, uncertainty
    from skactiveml.pool import average_kl_divergence, uncertainty_scores
    from skactiveml.pool import vote_entropy as skactiveml_vote_entropy

#: How many times as fast as the fastest peer, by the number of classes.
SMALL_C = {"entropy": 3.7, "margin": 2.9, "least confidence": 4.0}
LARGE_C = {"entropy": 2.9, "margin": 3.3, "least confidence": 0.44}
BALD_LIMIT, VOTE_LIMIT, KL_LIMIT = 3.5, 136.0, 5.0
#: Bytes that a score may take beside its result: a few blocks, however large the pool is.
MEMORY = 4 << 20

REPORT = Report(__file__)


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


def compare(what: str, ours: Callable[[], Any], peers: Variants, limit: float, floors: Variants) -> None:
    """Report the ratio to the fastest peer on one core."""
    with one_core():
        alone = interleaved({"alhelpers": ours} | peers | floors)
    best, highest = min(peers, key=alone.__getitem__), max(floors, key=alone.__getitem__)
    print(f"{what}: " + ", ".join(f"{name} {1000 * value:.1f} ms" for name, value in alone.items()))
    REPORT.at_least(
        f"{what}, one core, over {best}",
        alone[best] / alone["alhelpers"],
        limit,
        floor=alone[best] / alone[highest],
        why=highest,
    )


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


def one_prediction(shape: tuple[int, int], limits: dict[str, float]) -> None:
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
    for name, (ours, baal, modal, method) in peers.items():
        variants = {
            "baal": lambda baal=baal: baal().get_uncertainties(given),
            "modAL": lambda modal=modal: modal(given),
            "scikit-activeml": lambda method=method: uncertainty_scores(given, method=method),
        }
        what = f"{name}, {shape[0]:,} x {shape[1]}"
        floors = floors_of(given, name == "entropy")
        compare(what, lambda ours=ours: ours(given), variants, limits[name], floors)
        keeps_memory(what, lambda ours=ours: ours(given), 4 * len(given))


def keeps_memory(what: str, run: Callable[[], Any], result: int) -> None:
    """Report the peak of the memory that a score takes beside its result."""
    tracemalloc.start()
    try:
        run()
        peak = tracemalloc.get_traced_memory()[1] - result
    finally:
        tracemalloc.stop()
    REPORT.at_most(f"{what}, memory beside the result", peak / 2**20, MEMORY / 2**20, " MiB")


def several_predictions() -> None:
    """Compare the scores of samples."""
    passes = confidences_of((100_000, 20, 10))
    classes_first = np.ascontiguousarray(passes.transpose(0, 2, 1))  # as baal wants them
    compare(
        "BALD, 100,000 x 10 x 20",
        lambda: scores.bald(passes),
        {"baal": lambda: BALD().get_uncertainties(classes_first)},
        BALD_LIMIT,
        floors_of(passes, True),
    )
    keeps_memory("BALD", lambda: scores.bald(passes), 4 * len(passes))
    members = confidences_of((200_000, 5, 10))
    committee, members_first = Committee(members), np.ascontiguousarray(members.transpose(1, 0, 2))
    # modAL is given the votes here, and adds them up
    compare(
        "vote entropy, 200,000 x 5 x 10",
        lambda: scores.vote_entropy_from_votes(committee.votes, members.shape[2]),
        {"modAL": lambda: disagreement.vote_entropy(committee, members)},
        VOTE_LIMIT,
        floors_of(committee.votes, False),
    )
    compare(
        "consensus KL (max), 200,000 x 5 x 10",
        lambda: scores.consensus_kl(members, "max"),
        {"modAL": lambda: disagreement.KL_max_disagreement(committee, members)},
        KL_LIMIT,
        floors_of(members, True),
    )
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
        times = interleaved(others)
    for name, value in times.items():
        print(f"{name}: {1000 * value:.1f} ms on one core")


def main() -> int:
    """Print the times and ratios; return 1 if a limit is missed."""
    one_prediction((1_000_000, 10), SMALL_C)
    one_prediction((50_000, 1000), LARGE_C)
    several_predictions()
    return REPORT.code()


if __name__ == "__main__":
    raise SystemExit(main())
