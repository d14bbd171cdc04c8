"""The detector: what its training at the defaults costs and reaches, and 20 passes against a plain loop of them.

The plain loop calls the whole network with its dropout on, and decodes the boxes, 20 times. CPU time, so that other
work matters little; the passes are the faster of three rounds each, interleaved.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import torch

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
    detector = Detector(scenes.class_names, seed=seed)
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
        merging[merge] = Detector(scenes.class_names, merge=merge)
        merging[merge].network.load_state_dict(detector.network.state_dict())
    runs: dict[str, Callable[[], object]] = {"plain": lambda: plain_passes(detector, images)}
    for merge, each in merging.items():
        runs[merge] = lambda each=each: each.predict(scenes, passes=PASSES)
    took = {name: min(times) for name, times in _timed(runs).items()}
    return {merge: took["plain"] / took[merge] for merge in merging}


def _timed(runs: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            started = time.process_time()
            run()
            times[name].append(time.process_time() - started)
    return times


def main() -> int:
    """Print a line for each limit; return 1 if one is missed."""
    torch.set_num_threads(1)
    good = True

    def say(what: str, value: float, limit: float, kept: bool) -> None:
        nonlocal good
        good &= kept
        print(f"{what}: {value:.3g}, limit {limit:g}: {'kept' if kept else 'MISSED'}", flush=True)

    precisions = []
    for seed in range(1, 4):
        detector, seconds = trained(seed)
        precisions.append(precision(detector, seed))
        say(
            f"training on {TRAINED} scenes, seed {seed}, CPU s",
            seconds,
            MOST_SECONDS,
            seconds <= MOST_SECONDS,
        )
        print(f"    AP50 {precisions[-1]:.3f}", flush=True)
    mean = float(np.mean(precisions))
    say(f"AP50 on {TESTED} test scenes, mean of 3 seeds", mean, LEAST_AP, mean >= LEAST_AP)
    count = sum(each.numel() for each in detector.network.parameters())
    say("parameters", count, MOST_PARAMETERS, count <= MOST_PARAMETERS)
    for merge, gain in gains(detector, 9).items():
        say(f"{PASSES} passes merged by {merge}, times a plain loop", gain, LEAST_GAIN, gain >= LEAST_GAIN)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
