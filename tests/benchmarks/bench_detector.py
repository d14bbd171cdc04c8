"""The detector: what its training at the defaults costs and reaches, and 20 passes against a plain loop of them.

The plain loop calls the whole network with its dropout on, and decodes the boxes, 20 times. CPU time, so that other
work matters little; medians of interleaved rounds. Where there is a GPU, the clock's seconds on it are printed.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from measuring import Report, interleaved

from alhelpers import data
from alhelpers.evaluation import average_precision
from alhelpers.learners import Detector
from alhelpers.learners._box_decoding import activated, peaks

TRAINED, TESTED, PASSED, PASSES, ROUNDS = 2_000, 500, 256, 20, 3
#: The least average precision at an IoU of 0.5, the most CPU seconds of training, and the least gain of the passes.
LEAST_AP, MOST_SECONDS, LEAST_GAIN = 0.85, 90, 5.0
MOST_PARAMETERS = 200_000


def trained(seed: int) -> tuple[Detector, float]:
    """Train a detector at its defaults; return it, and the CPU seconds."""
    scenes = data.scenes(TRAINED, seed=seed)
    detector = Detector(scenes.class_names, device="cpu", seed=seed)
    started = time.process_time()
    detector.fit(scenes, seed=seed)
    return detector, time.process_time() - started


def precision(detector: Detector, seed: int) -> float:
    """Measure the average precision on scenes of other digits."""
    scenes = data.scenes(TESTED, seed=seed, subset="test")
    found = detector.predict(scenes).rows(scenes.ids.tolist())
    return float(average_precision(scenes.labels(), found, items=scenes.ids.tolist()).macro)


def plain_passes(detector: Detector, images: torch.Tensor) -> None:
    """Call the whole network once a pass, and decode its boxes."""
    detector.network.eval()
    for layer in detector.network.modules():
        if isinstance(layer, torch.nn.modules.dropout._DropoutNd):
            layer.train()
    with torch.inference_mode():
        for _ in range(PASSES):
            for batch in images.split(64):
                peaks(activated(detector.network(batch), batch.shape[2:]), 0.05, 0.6)
    detector.network.eval()


def gains(detector: Detector, seed: int) -> dict[str, float]:
    """Return how many times faster the passes are, by how they are merged."""
    scenes = data.scenes(PASSED, seed=seed)
    images = torch.from_numpy(np.asarray(scenes.inputs()))
    merging = {}
    for merge in ("grid", "iou"):
        merging[merge] = Detector(scenes.class_names, merge=merge, device="cpu")
        merging[merge].network.load_state_dict(detector.network.state_dict())
    runs: dict[str, Callable[[], object]] = {"plain": lambda: plain_passes(detector, images)}
    for merge, each in merging.items():
        runs[merge] = lambda each=each: each.predict(scenes, passes=PASSES)
    took = interleaved(runs, ROUNDS)
    return {merge: took["plain"] / took[merge] for merge in merging}


def print_gpu() -> None:
    """Print the seconds of a training and of passes on the GPU, and how far its passes are from the processor's."""
    if not torch.cuda.is_available():
        print("no GPU here: untimed")
        return
    scenes, passed = data.scenes(TRAINED, seed=1), data.scenes(PASSED, seed=9)
    on_gpu = Detector(scenes.class_names, device="cuda")
    on_gpu.predict(passed, passes=2)  # the first call starts CUDA
    runs = {
        f"training on {TRAINED} scenes": lambda: on_gpu.fit(scenes, seed=1),
        f"{PASSES} passes of {PASSED} scenes": lambda: on_gpu.predict(passed, passes=PASSES),
    }
    for name, seconds in interleaved(runs, 1, time.perf_counter).items():
        print(f"{name} on the GPU: {seconds:.3g} s", flush=True)
    with_cpu = Detector(scenes.class_names, device="cpu")
    with_cpu.network.load_state_dict(on_gpu.network.state_dict())
    there, here = (each.predict(passed, passes=PASSES) for each in (on_gpu, with_cpu))
    counts = len(there.confidences), len(here.confidences)
    apart = abs(there.confidences - here.confidences).max() if counts[0] == counts[1] else float("nan")
    print(f"objects on the GPU and the CPU: {counts[0]} and {counts[1]}, confidences differ by {apart:.2g}")


def main() -> int:
    """Print a line for each limit; return 1 if one is missed."""
    torch.set_num_threads(1)
    report, precisions = Report(__file__), []
    for seed in range(1, 4):
        detector, seconds = trained(seed)
        precisions.append(precision(detector, seed))
        report.at_most(f"training on {TRAINED} scenes, seed {seed}, CPU time", seconds, MOST_SECONDS)
        print(f"    AP50 {precisions[-1]:.3f}", flush=True)
    mean = float(np.mean(precisions))
    report.at_least(f"AP50 on {TESTED} test scenes, mean of 3 seeds", mean, LEAST_AP, "")
    count = sum(each.numel() for each in detector.network.parameters())
    report.at_most("parameters", count, MOST_PARAMETERS, "")
    for merge, gain in gains(detector, 9).items():
        report.at_least(f"{PASSES} passes merged by {merge}, over a plain loop", gain, LEAST_GAIN)
    print_gpu()
    return report.code()


if __name__ == "__main__":
    sys.exit(main())
