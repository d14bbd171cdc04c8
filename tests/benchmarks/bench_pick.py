"""Picking from a folder of images: ``loop.pick`` against a plain loop of Pillow and the model's forward passes.

The folder holds 64 x 64 photographs made of noise and shapes, as JPEG files, in folders of a thousand below
``unlabelled``. The plain loop opens each file with Pillow, converts it to RGB, then to a tensor as ``ToTensor`` of
torchvision does (contiguous planes, from 0 to 1), and passes batches of 256 through the network, on as many threads of
torch; it lists no broken file, finds no duplicate and mines nothing. Rounds are interleaved, the files are in the
system's cache, and medians of the time compared; on a busy machine, look at the time of the processors instead. The
limits: ``pick`` takes at most 15 % more time, and its process at most 1 GB of memory, which is measured in a process of
its own.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measuring import Report, interleaved
from PIL import Image, ImageDraw
from torch import nn

from alhelpers import data, loop
from alhelpers.learners import TorchClassifier

LIMIT, MEMORY = 1.15, 10**9
PLAIN = "decoding and the passes of the plain loop"
SIDE, CLASSES, BATCH = 64, 10, 256


def build() -> nn.Module:
    """Build a small convolutional network, as one writes for images of this size."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(4)),
        *(nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, CLASSES)),
    ).eval()


def write_images(folder: Path, count: int) -> None:
    """Write images that all differ."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60, (64, SIDE, SIDE, 3), dtype=np.uint8)
    for number in range(count):
        image = Image.fromarray(noise[number % 64])
        draw = ImageDraw.Draw(image)
        left, top, width, height = rng.integers(2, 40, 4).tolist()
        draw.ellipse((left, top, left + width, top + height), fill=tuple(rng.integers(0, 256, 3).tolist()))
        draw.point((number % SIDE, number // SIDE % SIDE), fill=(255, number % 256, 0))
        path = folder / "unlabelled" / f"{number // 1000:04d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=90)


def pick(folder: Path) -> list[str]:
    """Pick by entropy with the kit."""
    return loop.pick(TorchClassifier(build()), data.folder(folder, size=SIDE), 50).ids


def plain(folder: Path) -> list[str]:
    """Predict with a plain loop, and return the same picks."""
    network, found = build(), []
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.jpg"))
    with torch.inference_mode():
        for start in range(0, len(names), BATCH):
            images = []
            for name in names[start : start + BATCH]:
                with Image.open(folder / name) as file:
                    image = torch.from_numpy(np.array(file.convert("RGB")))
                images.append(image.permute(2, 0, 1).contiguous().float().div(255))
            found.append(network(torch.stack(images)).softmax(1))
    confidences = torch.cat(found)
    entropy = -(confidences * confidences.log()).sum(1).numpy()
    return [names[row] for row in np.argsort(-entropy, kind="stable")[:50]]


def measured_memory(folder: Path) -> int:
    """Return the most memory of a process that picks, in bytes."""
    command = [sys.executable, __file__, "--folder", str(folder), "--only-pick"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


def main() -> int:
    """Print times, their ratio and the memory; return 1 if a limit is broken."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=4_000, help="images")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that the medians are taken of")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="threads of torch, for both")
    parser.add_argument(
        "--folder", type=Path, help="where the images are, or are written; default: a temporary one"
    )
    parser.add_argument(
        "--only-pick", action="store_true", help="pick once, and print the most bytes in memory"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.only_pick:
        pick(options.folder)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if not any(folder.glob("unlabelled")):
            write_images(folder, options.count)
        picks = {"plain loop": plain(folder), "pick": pick(folder)}  # and the files are read from the disk
        runs = {"plain loop": partial(plain, folder), "pick": partial(pick, folder)}
        clock = time.perf_counter if options.threads > 1 else time.process_time
        times = interleaved(runs, options.rounds, clock)
        memory = measured_memory(folder)
    for name, value in times.items():
        print(f"    {name}: {value:.2f} s for {options.count:,} images")
    shared = len(set(picks["pick"]) & set(picks["plain loop"]))
    report = Report(__file__)
    report.at_most(
        "pick, over a plain loop", times["pick"] / times["plain loop"], LIMIT, "x", floor=1.0, why=PLAIN
    )
    report.at_most("pick, the most memory", memory / 1e6, MEMORY / 1e6, " MB")
    report.at_least("pick, the same of 50 picks", shared, 50, "")
    return report.code()


if __name__ == "__main__":
    raise SystemExit(main())
