"""MC dropout of a convolutional network: the kit against baal and against a plain loop of whole passes.

The network has dropout before its last two layers, as the kit's own. The limits, with one thread and with both
cores: over baal 5 times (T=20) and 8 times (T=50) faster with masks of each record, 12 and 18 times with masks of
a pass; over the plain loop 4 and 10 times. Scoring 1,000,000 records needs the same memory for any number of
passes.

baal works as its documentation says, with ``MCDropoutModule`` and ``ModelWrapper.predict_on_batch``, the batches
of the others, and the faster of its two ways (copies of the batch in memory, or a loop), found before the timing.
Rounds of all variants are interleaved, and medians compared: of processor time with one thread, which other work on
the machine disturbs little, and of the clock with both cores. The kit does all records; the others, whose time is
that of a batch times the batches, do 1,024 of them, and their times are multiplied: ``--peer-records 10000`` has
them do all, which takes a quarter of an hour for one round. ``--records`` makes the benchmark shorter; the limits
are meant for the 10,000 of the default.
"""

import argparse
import copy
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from baal import ModelWrapper
from baal.bayesian.dropout import MCDropoutModule
from baal.modelwrapper import TrainingArgs
from torch import nn

from alhelpers.learners.networks import build_network
from alhelpers.uncertainty import mc_dropout, mc_dropout_scores

BATCH = 256
RECORDS, PEER_RECORDS = 10_000, 4 * BATCH
OVER_BAAL = {"sample": {20: 5, 50: 8}, "pass": {20: 12, 50: 18}}
OVER_PLAIN = {"sample": 4, "pass": 10}
# The peaks of two processes with the same work differ by a little; samples would add 600 MB.
MEMORY_RECORDS, MEMORY_PASSES, MEMORY_GROWTH = 1_000_000, (5, 20), 1.05


def plain_loop(model: nn.Module, inputs: torch.Tensor, passes: int) -> torch.Tensor:
    """Run whole passes, batch by batch: what a straightforward user writes."""
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    with torch.no_grad():
        return torch.cat(
            [
                torch.stack([model(batch).softmax(1) for _ in range(passes)], dim=1)
                for batch in inputs.split(BATCH)
            ]
        )


def baal_wrapper(model: nn.Module, *, replicate: bool) -> ModelWrapper:
    """Wrap a model as baal's documentation does."""
    patched = MCDropoutModule(copy.deepcopy(model)).eval()
    return ModelWrapper(
        patched, TrainingArgs(batch_size=BATCH, use_cuda=False, replicate_in_memory=replicate)
    )


def baal_loop(wrapper: ModelWrapper, inputs: torch.Tensor, passes: int) -> torch.Tensor:
    """Ask baal for the predictions of all batches."""
    return torch.cat([wrapper.predict_on_batch(batch, passes) for batch in inputs.split(BATCH)])


def seconds(run: Callable[[], object]) -> float:
    """Time one run."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    started = clock()
    run()
    return clock() - started


def faster_baal(model: nn.Module, inputs: torch.Tensor) -> ModelWrapper:
    """Return the faster of baal's two ways on two batches."""
    wrappers = [baal_wrapper(model, replicate=replicate) for replicate in (False, True)]
    few = inputs[: 2 * BATCH]
    times = [
        min(seconds(lambda wrapper=wrapper: baal_loop(wrapper, few, 10)) for _ in range(3))
        for wrapper in wrappers
    ]
    return wrappers[times.index(min(times))]


def compare(threads: int, passes: int, records: int, peer_records: int, rounds: int) -> bool:
    """Print the medians and the ratios of one setting; tell whether the limits are held."""
    torch.set_num_threads(threads)
    model = build_network(28)
    inputs = torch.rand(records, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    wrapper, few = faster_baal(model, inputs), inputs[:peer_records]
    runs: dict[str, Callable[[], object]] = {
        "sample": lambda: mc_dropout(model, inputs, passes, batch_size=BATCH, device="cpu"),
        "pass": lambda: mc_dropout(model, inputs, passes, masks="pass", batch_size=BATCH, device="cpu"),
        "plain": lambda: plain_loop(model, few, passes),
        "baal": lambda: baal_loop(wrapper, few, passes),
    }
    share = {"sample": 1.0, "pass": 1.0, "plain": records / len(few), "baal": records / len(few)}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(share[name] * seconds(run))
    middle = {name: median(values) for name, values in times.items()}
    print(
        f"{threads} thread(s), N={records}, T={passes}, the peers N={len(few)} and multiplied: "
        + ", ".join(f"{name} {value:.2f} s" for name, value in middle.items())
    )
    held = True
    for masks in ("sample", "pass"):
        for peer, limit in (("baal", OVER_BAAL[masks][passes]), ("plain", OVER_PLAIN[masks])):
            ratio = middle[peer] / middle[masks]
            good = ratio >= limit
            held &= good
            print(
                f'    masks="{masks}" over {peer}: ratio {ratio:.1f}, limit {limit}: {"held" if good else "BROKEN"}'
            )
    return held


def peak_megabytes(passes: int, records: int) -> float:
    """Return the peak memory of a process of its own that scores records from a model."""
    command = [sys.executable, __file__, "--peak", str(passes), "--records", str(records)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def score_and_print_peak(passes: int, records: int) -> None:
    """Score records of 16 numbers in 10 classes, and print what memory it took."""
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10))
    inputs = torch.rand(records, 16, generator=torch.Generator().manual_seed(0))
    mc_dropout_scores(model, inputs, passes, ("mean_margin", "bald"), batch_size=4096, device="cpu")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def compare_memory(records: int) -> bool:
    """Print the peaks for few and for many passes; tell whether they are the same."""
    peaks = [peak_megabytes(passes, records) for passes in MEMORY_PASSES]
    growth = peaks[1] / peaks[0]
    held = growth <= MEMORY_GROWTH
    print(
        f"scoring {records} x 10: peak {peaks[0]:.0f} MB for T={MEMORY_PASSES[0]}, {peaks[1]:.0f} MB for "
        f"T={MEMORY_PASSES[1]}: ratio {growth:.3f}, limit {MEMORY_GROWTH}: {'held' if held else 'BROKEN'}"
    )
    return held


def main() -> int:
    """Print the times, peaks and ratios; return 1 if a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=int, default=None, help="records of each comparison")
    parser.add_argument("--peer-records", type=int, default=PEER_RECORDS, help="records that the peers do")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that the medians are taken of")
    parser.add_argument("--peak", type=int, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak is not None:
        score_and_print_peak(options.peak, options.records)
        return 0
    held = [compare_memory(options.records or MEMORY_RECORDS)]
    for threads in (1, 2):
        for passes in (20, 50):
            records = options.records or RECORDS
            held.append(compare(threads, passes, records, options.peer_records, options.rounds))
    return 0 if all(held) else 1


if __name__ == "__main__":
    raise SystemExit(main())
