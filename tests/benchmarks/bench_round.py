"""One round of the loop on the digits (train, score, mine, measure): the kit against the same round with baal.

Same network, the same number of steps of the same batch size, T passes with dropout, the margin of their mean, the
same pool and test images, one thread. baal works as its documentation says, with ``ActiveLearningDataset``,
``MCDropoutModule``, ``ModelWrapper`` and ``ActiveLearningLoop``; it loads its batches in its own process, as workers
would have to be started in each round, and takes the faster of its two ways to predict; its AdamW is torch's default,
where the kit's is fused. The kit's rounds are those of ``alhelpers.loop.race``, one entry after another; in processes
a race takes the same work less time, see ``bench_committee.py``. Rounds are interleaved, and medians of processor time
compared. The limit: the kit's round costs at most a third.
"""

import argparse
import time
from collections.abc import Callable
from statistics import mean, median

import structlog
import torch
from baal.active import ActiveLearningDataset, ActiveLearningLoop
from baal.active.heuristics import Margin
from baal.bayesian.dropout import MCDropoutModule
from baal.modelwrapper import ModelWrapper, TrainingArgs
from baal.utils.metrics import Accuracy
from torch import nn
from torch.utils.data import TensorDataset

from alhelpers import data
from alhelpers.learners import build_network
from alhelpers.loop import Entry, race

LIMIT = 1 / 3
# 128 labels are 4 whole batches of 32, so that an epoch of baal is 4 steps.
LABELS, PICKS, BATCH = 128, 10, 32


def kit_rounds(pool: data.ImageSet, test: data.ImageSet, steps: int, passes: int, seeds: int) -> float:
    """Run the first round of a race and return its processor time for each seed, set-up included.

    The race has two numbers of labels, as nothing is mined after the last one.
    """
    started = time.process_time()
    rows = race(
        pool,
        test,
        [Entry("mc_dropout", seed, cold_start="random") for seed in range(seeds)],
        label_counts=(LABELS, LABELS + PICKS),
        augmentation="none",
        steps=steps,
        batch_size=BATCH,
        passes=passes,
        workers=1,
    )
    for _ in range(seeds):
        next(rows)
    return (time.process_time() - started) / seeds


def baal_round(
    pool: data.ImageSet, test: data.ImageSet, steps: int, passes: int, seed: int, *, replicate: bool
) -> float:
    """Run one round with baal and return its processor time, set-up included."""
    started = time.process_time()
    data = TensorDataset(torch.from_numpy(pool.inputs()), torch.from_numpy(pool.labels()))
    measured = TensorDataset(torch.from_numpy(test.inputs()), torch.from_numpy(test.labels()))
    active = ActiveLearningDataset(data)
    active.label(list(range(LABELS)))
    model = MCDropoutModule(build_network(8, len(pool.class_names), seed=100_000 * seed + LABELS))
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, weight_decay=1e-2)
    wrapper = ModelWrapper(
        model,
        TrainingArgs(
            optimizer=optimizer,
            batch_size=BATCH,
            epoch=steps * BATCH // LABELS,
            criterion=nn.CrossEntropyLoss(),
            use_cuda=False,
            workers=0,
            replicate_in_memory=replicate,
        ),
    )
    wrapper.add_metric("accuracy", Accuracy)
    wrapper.train_on_dataset(active)
    wrapper.test_on_dataset(measured)
    wrapper.args.batch_size = 256  # the kit's, for prediction: the larger, the faster
    loop = ActiveLearningLoop(
        active,
        wrapper.predict_on_dataset,
        Margin(),
        query_size=PICKS,
        iterations=passes,
        verbose=False,
    )
    loop.step()
    spent = time.process_time() - started
    assert len(active) == LABELS + PICKS, f"baal labelled {len(active) - LABELS}, not {PICKS}"
    return spent


def main() -> int:
    """Print the times and the ratio; return 1 if the limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=100, help="steps of a training, a multiple of 4")
    parser.add_argument("--passes", type=int, default=20, help="passes with dropout")
    parser.add_argument("--seeds", type=int, default=5, help="seeds that are compared")
    parser.add_argument("--rounds", type=int, default=9, help="rounds that the medians are taken of")
    options = parser.parse_args()
    torch.set_num_threads(1)
    structlog.configure(processors=[lambda *_: ""], logger_factory=structlog.ReturnLoggerFactory())
    pool, test = data.load("digits")
    work = (pool, test, options.steps, options.passes)
    baal = [
        lambda replicate=replicate: mean(
            baal_round(*work, seed, replicate=replicate) for seed in range(options.seeds)
        )
        for replicate in (False, True)
    ]
    runs: dict[str, Callable[[], float]] = {
        "kit": lambda: kit_rounds(*work, options.seeds),
        "baal": baal[0],
        "baal, batches copied in memory": baal[1],
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(options.rounds + 1):
        for name, run in runs.items():
            spent = run()
            if number:  # the first round imports and warms up
                times[name].append(spent)
    middle = {name: median(values) for name, values in times.items()}
    print(
        f"steps {options.steps}, T={options.passes}, {LABELS} labels, pool of {len(pool)}, {options.seeds} seeds:"
    )
    for name, value in middle.items():
        print(f"    {name}: {value:.2f} s a round")
    peer = min(value for name, value in middle.items() if name.startswith("baal"))
    good = middle["kit"] / peer <= LIMIT
    print(
        f"    kit over the faster baal: {middle['kit'] / peer:.2f}, limit {LIMIT:.2f}: {'held' if good else 'BROKEN'}"
    )
    return 0 if good else 1


if __name__ == "__main__":
    raise SystemExit(main())
