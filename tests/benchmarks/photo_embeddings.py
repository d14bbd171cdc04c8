"""Write the page ``notebooks/photo-embeddings.md``: the photo network beside principal components.

Run ``python tests/benchmarks/photo_embeddings.py``; about eight minutes.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch

from alhelpers import data
from alhelpers.files import write_text
from alhelpers.learners.photos import PhotoNetwork
from alhelpers.loop.comparison import markdown_table

_PAGE = Path(__file__).parents[2] / "notebooks" / "photo-embeddings.md"
_IMAGES, _SEEDS, _LABELS, _COMPONENTS = 500, 10, (20, 50, 100), 50
_SQUARE = 64


def photograph_squares(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return squares (count, 3, 64, 64) of the two photographs of scikit-learn, and the quarter that each is from."""
    from sklearn.datasets import load_sample_images

    draw, images, labels = np.random.default_rng(seed), [], []
    photographs = load_sample_images().images
    for number in range(count):
        photograph, quarter = photographs[number % 2], number // 2 % 4
        height, width = photograph.shape[0] // 2, photograph.shape[1] // 2
        top = quarter // 2 * height + draw.integers(height - _SQUARE)
        left = quarter % 2 * width + draw.integers(width - _SQUARE)
        images.append(photograph[top : top + _SQUARE, left : left + _SQUARE])
        labels.append(number % 2 * 4 + quarter)
    return np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / 255, np.array(labels)


def embedded(images: np.ndarray) -> np.ndarray:
    """Return the embeddings of the photo network, each of length 1."""
    network = PhotoNetwork()
    with torch.inference_mode():
        parts = [network(part) for part in torch.from_numpy(images).split(32)]
    return torch.nn.functional.normalize(torch.cat(parts), dim=1).numpy()


def components(images: np.ndarray) -> np.ndarray:
    """Return the first principal components of the pixels."""
    from sklearn.decomposition import PCA

    return PCA(_COMPONENTS, random_state=0).fit_transform(images.reshape(len(images), -1))


def accuracies(vectors: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Return the accuracy of a logistic regression on so many random labels, one a seed (S,)."""
    from sklearn.linear_model import LogisticRegressionCV

    found = []
    for seed in range(_SEEDS):
        order = np.random.default_rng(seed).permutation(len(labels))
        learned, rest = order[:count], order[count:]
        several = np.isin(labels[learned], np.flatnonzero(np.bincount(labels[learned]) > 1))
        model = LogisticRegressionCV(
            Cs=(0.1, 10, 1000),
            cv=2,
            scoring="accuracy",
            max_iter=2000,
            l1_ratios=(0,),
            use_legacy_attributes=False,
        )
        model.fit(vectors[learned[several]], labels[learned[several]])
        found.append(model.score(vectors[rest], labels[rest]))
    return np.array(found)


def main() -> None:
    """Measure on every data set, and write the page."""
    sets = {"squares of two photographs": photograph_squares(_IMAGES)}
    for name in ("fashion", "mnist", "digits"):
        images = data.load(name)[0].part(_IMAGES)
        sets[name] = (images.inputs(), images.labels())
    rows, seconds = [], []
    for name, (images, labels) in sets.items():
        started = time.perf_counter()
        vectors = embedded(images)
        seconds.append((time.perf_counter() - started) / len(images))
        for count in _LABELS:
            pair = [accuracies(each, labels, count) for each in (components(images), vectors)]
            difference = pair[1] - pair[0]
            half = 1.96 * difference.std(ddof=1) / np.sqrt(_SEEDS)
            shown = f"{difference.mean():+.3f} ± {half:.3f}"
            rows.append([name, str(count), *(f"{each.mean():.3f}" for each in pair), shown])
            print(*rows[-1], sep="\t", flush=True)
    header = ["images", "labels", "components", "network", "difference"]
    print(f"{1000 * np.mean(seconds):.0f} ms an image")
    write_text(_PAGE, _TEXT.format(table=markdown_table(header, rows)))


_TEXT = """# What the photo network is worth

This page is generated: `python tests/benchmarks/photo_embeddings.py` measures and writes it anew.

`alhelpers.learners.photo_classifier` learns one layer on the embeddings of a small network that was trained on ImageNet
(EfficientNet-Lite0, the extra `photos`). Is that better than principal components of the pixels, which need no network?
A logistic regression learns from random labels, its strength chosen by cross-validation; the rest of 500 images
is the test: the mean accuracy over ten draws, and the difference with its 95 % interval.

{table}
An image takes the network as long whatever its size, as it works on 224 x 224: this program prints how long.

It is made for photographs. Images of another kind, such as tiny grey digits, may gain less or lose: where a
difference is below zero, use components, or train a network of your own.
"""


if __name__ == "__main__":
    main()
