"""MC dropout: the kit against baal and against a plain loop of whole passes, on two convolutional networks.

The kit's network for grey images of 28 x 28 has dropout before its last two layers; a user's for RGB images of 64 x 64
(``colour_network.py``) has residual blocks with batch norm, and dropout before its head. With dropout inside its
blocks, too, nearly all of a network runs in every pass, and what is gained is the memory layout and the masks: that
row is printed with a limit of being no slower.

baal works as its documentation says, with ``MCDropoutModule`` and ``ModelWrapper.predict_on_batch``, the batches of the
others, and the faster of its two ways (copies of the batch in memory, or a loop), found before the timing. Variants are
interleaved, and medians compared: of processor time with one thread, of the clock with both cores (``--threads 2``) and
on a GPU. The kit does all records; the others, whose time is that of a batch times the batches, do ``--peer-records``,
and their times are multiplied. The floor is what no way through these layers avoids: the layers before the dropout
once, with the channels last, and the products of the head in every pass. On grey images the
first wanted 16 and 40 times were not reached: the products after the dropout take most of the time, and then drawing
masks and the softmax of each pass, which the floor lacks; the limits there are the gains that were reached on the
slower of two processors, divided by 1.1.

Scoring 1,000,000 records needs the same memory for any number of passes.
"""

import argparse
import copy
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from baal import ModelWrapper
from baal.bayesian.dropout import MCDropoutModule
from baal.modelwrapper import TrainingArgs
from colour_network import colour_network
from measuring import Report, interleaved
from torch import nn
from torch.nn import functional

from alhelpers.learners.networks import build_network
from alhelpers.uncertainty import mc_dropout, mc_dropout_scores

# The peaks of two processes with the same work differ by a little; samples would add 600 MB.
MEMORY_RECORDS, MEMORY_PASSES, MEMORY_GROWTH = 1_000_000, (5, 20), 1.05
PASSES = 50


@dataclass
class Work:
    """A model and its inputs, with the least gains over baal: of masks of each record, and of a pass."""

    name: str
    model: nn.Module
    inputs: torch.Tensor
    batch: int
    peer_records: int
    over_baal: tuple[float, float]
    trunk: nn.Module | None = None  # what comes before the dropout
    head: Sequence[nn.Linear] = ()


def plain_loop(model: nn.Module, inputs: torch.Tensor, batch: int) -> torch.Tensor:
    """Run whole passes, batch by batch: what a straightforward user writes."""
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.train()
    with torch.no_grad():
        parts = [
            torch.stack([model(part).softmax(1) for _ in range(PASSES)], dim=1).cpu()
            for part in inputs.split(batch)
        ]
    return torch.cat(parts)


def baal_wrapper(work: Work, *, replicate: bool) -> ModelWrapper:
    """Wrap a model as baal's documentation does."""
    patched = MCDropoutModule(copy.deepcopy(work.model)).eval()
    return ModelWrapper(
        patched, TrainingArgs(batch_size=work.batch, use_cuda=False, replicate_in_memory=replicate)
    )


def baal_loop(wrapper: ModelWrapper, inputs: torch.Tensor, passes: int = PASSES) -> torch.Tensor:
    """Ask baal for the predictions of all batches."""
    size = wrapper.args.batch_size
    return torch.cat([wrapper.predict_on_batch(batch, passes) for batch in inputs.split(size)])


def faster_baal(work: Work) -> ModelWrapper:
    """Return the faster of baal's two ways on one batch."""
    wrappers = {replicate: baal_wrapper(work, replicate=replicate) for replicate in (False, True)}
    few = work.inputs[: work.batch]
    times = interleaved(
        {
            replicate: lambda wrapper=wrapper: baal_loop(wrapper, few, 10)
            for replicate, wrapper in wrappers.items()
        },
        2,
    )
    return wrappers[min(times, key=times.get)]


def floor(work: Work, masks: str) -> None:
    """Run the layers before the dropout once, and the products of those after it in every pass.

    Shared masks leave half of the units out of the products.
    """
    half = 2 if masks == "pass" else 1
    with torch.inference_mode():
        for part in work.inputs.split(work.batch):
            work.trunk(part)
            for layer in work.head:
                values = torch.ones(len(part), layer.in_features // half)
                rows = layer.out_features if layer is work.head[-1] else layer.out_features // half
                weight, bias = layer.weight[:rows, : values.shape[1]].contiguous(), layer.bias[:rows]
                for _ in range(PASSES):
                    functional.linear(values, weight, bias)


def compare(report: Report, work: Work, rounds: int) -> None:
    """Report one network, with each kind of masks."""
    inputs, batch, wrapper = work.inputs, work.batch, faster_baal(work)
    few = inputs[: work.peer_records]
    runs: dict[str, Callable[[], object]] = {
        masks: lambda masks=masks: mc_dropout(
            work.model, inputs, PASSES, masks=masks, batch_size=batch, device="cpu"
        )
        for masks in ("sample", "pass")
    }
    runs |= {"plain": lambda: plain_loop(work.model, few, batch), "baal": lambda: baal_loop(wrapper, few)}
    if work.trunk is not None:
        runs |= {f"floor, {masks}": lambda masks=masks: floor(work, masks) for masks in ("sample", "pass")}
    one = torch.get_num_threads() == 1
    times = interleaved(runs, rounds, time.process_time if one else time.perf_counter)
    share = len(inputs) / len(few)
    print(f"the peers do {len(few)} of {len(inputs)} records, and their times are multiplied by {share:g}")
    threads = "one thread" if one else f"{torch.get_num_threads()} threads"
    for masks, limit in zip(("sample", "pass"), work.over_baal, strict=True):
        what = f'{work.name}, N={len(inputs)}, T={PASSES}, {threads}, masks="{masks}"'
        bound = {}
        if work.trunk is not None:
            bound = {
                "floor": share * times["baal"] / times[f"floor, {masks}"],
                "why": "the layers before the dropout once, the products after it T times",
            }
        report.at_least(f"{what} over baal", share * times["baal"] / times[masks], limit, **bound)
        print(f"    over a plain loop {share * times['plain'] / times[masks]:.1f}x; {times[masks]:.2f} s")


def compare_devices(work: Work, rounds: int) -> None:
    """Print the times on the processor and on the GPU; where torch finds no GPU, say so."""
    if not torch.cuda.is_available():
        print(f"{work.name}: no GPU here: untimed")
        return
    runs = {
        f"{device}, {masks}": lambda device=device, masks=masks: mc_dropout(
            work.model, work.inputs, PASSES, masks=masks, batch_size=work.batch, device=device
        )
        for device in ("cpu", "cuda")
        for masks in ("sample", "pass")
    }
    for name, seconds in interleaved(runs, rounds, time.perf_counter).items():
        print(f"{work.name}, {name}: {seconds:.3f} s")


def peak_megabytes(passes: int, records: int) -> float:
    """Return the peak memory of a process of its own that scores records from a model."""
    command = [sys.executable, __file__, "--peak", str(passes), "--memory-records", str(records)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def score_and_print_peak(passes: int, records: int) -> None:
    """Score records of 16 numbers in 10 classes, and print what memory it took."""
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10))
    inputs = torch.rand(records, 16, generator=torch.Generator().manual_seed(0))
    mc_dropout_scores(model, inputs, passes, ("mean_margin", "bald"), batch_size=4096, device="cpu")
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def compare_memory(report: Report, records: int) -> None:
    """Report the growth of the peak from few to many passes."""
    few, many = (peak_megabytes(passes, records) for passes in MEMORY_PASSES)
    what = f"memory of scoring {records} x 10: T={MEMORY_PASSES[1]} ({many:.0f} MB) over T={MEMORY_PASSES[0]}"
    report.at_most(what, many / few, MEMORY_GROWTH, "x")


def works(records: int) -> list[Work]:
    """Return the networks with their inputs."""
    draw = torch.Generator().manual_seed(0)
    grey = build_network(28)
    colour, inner = colour_network(0).eval(), colour_network(0, inner_dropout=0.1).eval()
    last = copy.deepcopy(colour).to(memory_format=torch.channels_last)
    return [
        Work(
            "CNN 28 x 28",
            grey,
            torch.rand(records, 1, 28, 28, generator=draw),
            256,
            256,
            (10.4, 26.6),
            copy.deepcopy(grey[:6]).to(memory_format=torch.channels_last),
            (grey.hidden, grey.logits),
        ),
        Work(
            "RGB 64 x 64, dropout before the head",
            colour,
            torch.rand(512, 3, 64, 64, generator=draw),
            32,
            32,
            (10, 20),
            nn.Sequential(last.stem, last.blocks, last.pool),
            (colour.head,),
        ),
        Work(
            "RGB 64 x 64, dropout in the blocks",
            inner,
            torch.rand(16, 3, 64, 64, generator=draw),
            16,
            16,
            (1, 1),
        ),
    ]


def main() -> int:
    """Print the times, peaks and ratios; return 1 if a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--records", type=int, default=10_000, help="records of the first network")
    parser.add_argument("--peer-records", type=int, default=None, help="records that the peers do")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that the medians are taken of")
    parser.add_argument("--threads", type=int, default=1, help="threads of all variants")
    parser.add_argument("--memory-records", type=int, default=MEMORY_RECORDS, help=argparse.SUPPRESS)
    parser.add_argument("--peak", type=int, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak is not None:
        score_and_print_peak(options.peak, options.memory_records)
        return 0
    torch.set_num_threads(options.threads)
    report = Report(__file__)
    for work in works(options.records):
        work.peer_records = options.peer_records or work.peer_records
        compare(report, work, options.rounds)
        compare_devices(work, options.rounds)
    compare_memory(report, options.memory_records)
    return report.code()


if __name__ == "__main__":
    raise SystemExit(main())
