"""The kit's small real images: as arrays, and as folders that the SDK uploads.

Nothing is downloaded: the digits and two photographs come with scikit-learn, subsets of MNIST and Fashion-MNIST with
the kit (see ``data/README.md``). The whole of both is read if their files are in the cache.
"""

import gzip
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

from alhelpers import files
from alhelpers.data.arrays import ImageSet
from alhelpers.data.object_annotations import NO_OBJECTS, object_annotations
from alhelpers.data.object_set import ObjectSet

NAMES = ("digits", "mnist", "fashion", "mnist-whole", "fashion-mnist")
DIGIT_TEST_IMAGES = 500

#: Files of a data set in the format of MNIST, in a folder of the cache that has its name.
IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_DIGITS = tuple(str(digit) for digit in range(10))
_CLOTHES = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
# The file and the classes of the sets that ship with the kit.
_SHIPPED = {"mnist": ("mnist_5k_2k.npz", _DIGITS), "fashion": ("fashion_5k_2k.npz", _CLOTHES)}
_IDX_CLASSES = {"mnist-whole": _DIGITS, "fashion-mnist": _CLOTHES}

# Height and width of the squares that are cut out of photographs, before they are shrunk.
_PATCH = 64


def load(name: str, *, seed: int = 0) -> tuple[ImageSet, ImageSet]:
    """Return a pool of images and a test set that shares no image with it.

    Parameters
    ----------
    name : {"digits", "mnist", "fashion", "mnist-whole", "fashion-mnist"}
        ``digits``: 1297 + 500 images of 8x8, drawn by class. ``mnist`` and ``fashion`` (ten kinds of clothing):
        5000 + 2000 of 28x28, as they ship. The last two: 60000 + 10000 of 28x28, if their files are in the cache
        folder.
    seed : int
        Order of the images, and for the digits which of them are the test set.

    Returns
    -------
    pool, test : ImageSet
        Both are shuffled, so that their first rows are a fair sample.

    Raises
    ------
    ValueError
        If the name is unknown.
    FileNotFoundError
        If the kit's data folder lacks the files; the message says where they belong.
    """
    if name == "digits":
        return _digits(seed)
    if name in _SHIPPED:
        return _shipped(name, seed)
    if name in _IDX_CLASSES:
        return _from_idx(name, seed)
    raise ValueError(f"unknown data set {name!r}: choose one of {', '.join(NAMES)}")


def _digits(seed: int) -> tuple[ImageSet, ImageSet]:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    source = load_digits()
    images = np.round(source.images * (255 / 16)).astype(np.uint8)
    labels = source.target
    pool, test = train_test_split(
        np.arange(len(labels)), test_size=DIGIT_TEST_IMAGES, stratify=labels, random_state=seed
    )
    whole = ImageSet("digits", images, labels, _DIGITS)
    return whole.take(pool), whole.take(test)


def _shipped(name: str, seed: int) -> tuple[ImageSet, ImageSet]:
    file, class_names = _SHIPPED[name]
    path = files.SHIPPED_DATA / file
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: install the kit again, or restore it in the clone")
    with np.load(path) as arrays:
        pool = ImageSet(name, arrays["xtr"], arrays["ytr"], class_names)
        test = _test_set(name, arrays["xte"], arrays["yte"], class_names)
    return _shuffled(pool, test, seed)


def _test_set(name: str, images: np.ndarray, labels: np.ndarray, class_names: tuple[str, ...]) -> ImageSet:
    """Return a test set whose ids differ from those of the pool of the same name."""
    return ImageSet(
        name, images, labels, class_names, ids=[f"{name}-test-{row:05d}" for row in range(len(images))]
    )


def _shuffled(pool: ImageSet, test: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    draw = np.random.default_rng(seed)
    return pool.take(draw.permutation(len(pool))), test.take(draw.permutation(len(test)))


def _from_idx(name: str, seed: int) -> tuple[ImageSet, ImageSet]:
    """Read the four files of a data set in the form of MNIST, packed by gzip or not."""
    folder = files.cache_folder() / name
    arrays = [_read_idx(folder / file, name) for file in IDX_FILES]
    sets = []
    for images, labels in (arrays[:2], arrays[2:]):
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise ValueError(
                f"{folder}: images of shape {images.shape} with labels of shape {labels.shape} do not match"
            )
        make = _test_set if sets else ImageSet
        sets.append(make(name, images, labels, _IDX_CLASSES[name]))
    return _shuffled(*sets, seed)


def _read_idx(path: Path, name: str) -> np.ndarray:
    """Read bytes in the idx format: two zeros, the type (8 for bytes), the dimensions, their sizes, the values."""
    packed = path.with_name(f"{path.name}.gz")
    if path.exists():
        content = path.read_bytes()
    elif packed.exists():
        content = gzip.decompress(packed.read_bytes())
    else:
        raise FileNotFoundError(
            f"{path} is missing, packed (.gz) or not: put the four files of {name!r} there ({', '.join(IDX_FILES)}); "
            "data/README.md names their sources"
        )
    dimensions = content[3] if content[:3] == b"\0\0\x08" else 0
    shape = tuple(np.frombuffer(content, ">u4", dimensions, 4).tolist()) if dimensions else ()
    if not dimensions or len(content) != 4 + 4 * dimensions + math.prod(shape):
        raise ValueError(f"{path} is not a complete idx file of bytes: download it again")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def photo_patches(count: int, size: int, *, seed: int = 0) -> np.ndarray:
    """Cut squares out of two photographs: images that do not resemble digits.

    Parameters
    ----------
    count : int
        How many; the photographs, which come with scikit-learn, take turns.
    size : int
        Height and width of the result; 64 pixels of a photograph are shrunk to them.
    seed : int
        Where the squares are.

    Returns
    -------
    numpy.ndarray, shape (count, size, size), uint8
        Grey levels, 0 to 255.

    Raises
    ------
    ValueError
        If the count or the size is not positive.
    """
    if count < 1 or size < 1:
        raise ValueError(f"count is {count} and size {size}: both must be at least 1")
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(photo).convert("L") for photo in load_sample_images().images]
    draw = np.random.default_rng(seed)
    patches = []
    for number in range(count):
        photo = photos[number % len(photos)]
        left, top = draw.integers(0, [photo.width - _PATCH + 1, photo.height - _PATCH + 1]).tolist()
        patch = photo.crop((left, top, left + _PATCH, top + _PATCH))
        patches.append(np.asarray(patch.resize((size, size), Image.Resampling.BOX)))
    return np.stack(patches)


def write_folder(
    images: ImageSet, folder: str | Path, *, prefix: str = "", labelled: bool = True
) -> list[dict]:
    """Write images as PNG files, and their labels as annotation files, ready for ``dataset.items.upload``.

    Parameters
    ----------
    images : ImageSet
        What to write.
    folder : path
        Gets ``items/NAME.png`` and, if labelled, ``json/NAME.json``. Files of the same names are replaced.
    prefix : str
        Start of each file's name; the default is the data set's name.
    labelled : bool
        Whether to write annotation files: of a class, or of boxes or masks, as the data set's task says.

    Returns
    -------
    list of dict
        One row an image: ``local_path``, ``local_annotations_path`` (None when unlabelled), and ``label``
        (its class name; None if the images have no class). With objects also ``item_metadata``, which marks labelled
        images without one: the platform has no other sign of it.
    """
    folder = Path(folder)
    (folder / "items").mkdir(parents=True, exist_ok=True)
    (folder / "json").mkdir(exist_ok=True)
    with_objects = isinstance(images, ObjectSet)
    unlabelled = with_objects or (images._labels is None and not labelled)
    labels = [None] * len(images) if unlabelled else images.labels()
    objects = object_annotations(images) if with_objects and labelled else []
    rows = []
    for number, (image, label) in enumerate(zip(images.images, labels, strict=True)):
        name = f"{prefix or images.name}-{number:05d}"
        path = folder / "items" / f"{name}.png"
        Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image).save(path)
        annotations = folder / "json" / f"{name}.json"
        class_name = None if label is None else images.class_names[label]
        if labelled:
            found = objects[number] if with_objects else [_classification(class_name)]
            annotations.write_text(json.dumps({"annotations": found}))
        rows.append(
            {
                "local_path": str(path),
                "local_annotations_path": str(annotations) if labelled else None,
                "label": class_name,
            }
        )
        if with_objects:
            rows[-1]["item_metadata"] = {
                "user": {NO_OBJECTS: True} if labelled and not objects[number] else {}
            }
    return rows


def _classification(label: str) -> dict:
    """Return a whole-image label in the platform's annotation format."""
    return {
        "type": "class",
        "label": label,
        "attributes": [],
        "coordinates": [],
        "metadata": {"system": {}, "user": {}},
    }
