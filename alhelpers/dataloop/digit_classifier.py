"""The dtlpy model adapter of the digit networks: the same class trains on a laptop and on the hosted platform.

The SDK's base class drives it: ``train_model``, ``predict_items`` and ``evaluate_model`` download, call the
methods below, and upload. Contract: ``dtlpy.BaseModelAdapter``.
"""

import copy
import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import dtlpy as dl
import numpy as np
import torch
from PIL import Image

from alhelpers.dataloop.reading import annotations_of, is_ground_truth, made_by
from alhelpers.evaluation import accuracy, classification_average_precision
from alhelpers.learners.networks import build_network
from alhelpers.learners.prediction import predict, to_inputs
from alhelpers.training import History, train
from alhelpers.uncertainty import mc_dropout

WEIGHTS = "weights.pt"

#: What a model's configuration may hold, with the value that is used where it holds none.
DEFAULTS = {
    "image_size": 8,
    "dropout": 0.5,
    "steps": 150,
    "train_batch_size": 64,
    "learning_rate": 6e-3,
    "augmentation": False,
    "warm_start": False,
    "seed": 0,
    "mc_dropout_passes": 0,
    "store_embeddings": False,
    "batch_size": 256,
}


class DigitClassifier(dl.BaseModelAdapter):
    """Classifies grey images of digits.

    Its configuration is ``DEFAULTS``: ``image_size`` (8 or 28; other images are resized), the recipe (``steps``,
    ``train_batch_size``, ``learning_rate``, ``augmentation``, ``seed``, ``dropout``), ``warm_start`` (start from
    the cloned weights instead of fresh ones), ``mc_dropout_passes`` (0, or at least 2 passes to store with each
    prediction) and ``store_embeddings``. ``batch_size`` is the SDK's, for prediction.

    Each prediction is one classification with the model's name, id and confidence, and in
    ``annotation.metadata["user"]["prediction"]`` the fields of a record: ``class_names``, ``confidences``,
    ``logits`` and, if asked for, ``embeddings`` and ``mc_dropout``.
    """

    def load(self, local_path: str, **kwargs: Any) -> None:
        """Build the network, with the weights in ``local_path`` if there are some.

        Raises
        ------
        ValueError
            If the model has no labels, or the weights are of another network.
        """
        if not self.model_entity.labels:
            raise ValueError(
                f"model {self.model_entity.name!r} has no labels: set model.labels to the class names"
            )
        # The SDK predicts 4 images at a time unless the configuration says otherwise.
        self.configuration.setdefault("batch_size", DEFAULTS["batch_size"])
        self.network = self._fresh_network()
        weights = Path(local_path) / WEIGHTS
        # A file may also be left over from another model of this name.
        if weights.exists() and self.model_entity.model_artifacts:
            try:
                self.network.load_state_dict(torch.load(weights, weights_only=True))
            except (RuntimeError, UnpicklingError, EOFError) as error:
                raise ValueError(
                    f"the weights of model {self.model_entity.name!r} are damaged, or for another network than its"
                    f" configuration's (image_size {self._setting('image_size')},"
                    f" {len(self.model_entity.labels)} labels). Train it again, or set the configuration that it was"
                    f" trained with. {error}"
                ) from error
        self.network.eval()

    def save(self, local_path: str, **kwargs: Any) -> None:
        """Write the weights into ``local_path``."""
        Path(local_path).mkdir(parents=True, exist_ok=True)
        torch.save(self.network.state_dict(), Path(local_path) / WEIGHTS)

    def prepare_data(
        self, dataset: dl.Dataset, root_path: str | None = None, **kwargs: Any
    ) -> tuple[str, str, str]:
        """Download into a fresh folder: the SDK's own choice, ``tmp`` in the working folder, keeps old items."""
        self._workspace = tempfile.mkdtemp(prefix="alhelpers-train-")
        with _temporary_files_in(self._workspace):
            return super().prepare_data(dataset=dataset, root_path=self._workspace, **kwargs)

    def convert_from_dtlpy(self, data_path: str, **kwargs: Any) -> None:
        """Read the downloaded subsets into arrays, so that a bad item is found before training starts.

        Raises
        ------
        ValueError
            If there is no train subset, or an item of a subset can't be learnt from; the message names it.
        """
        filters = self.model_entity.metadata["system"]["subsets"]
        if "train" not in filters:
            raise ValueError(
                f"model {self.model_entity.name!r} has no 'train' subset in metadata.system.subsets: make it with a"
                " train_filter"
            )
        size = self._setting("image_size")
        self._subsets = {}
        for subset in ("train", "validation"):
            if subset not in filters:
                continue
            folder = Path(data_path) / subset
            self._check_complete(subset, filters[subset], folder)
            self._subsets[subset] = read_subset(folder, self.model_entity.labels, size)

    def _check_complete(self, subset: str, custom: dict, folder: Path) -> None:
        """Raise if the SDK left items of a subset out: it does so, and says nothing, where a label is missing."""
        files = list((folder / "json").rglob("*.json"))
        pages = self.model_entity.dataset.items.list(filters=dl.Filters(custom_filter=copy.deepcopy(custom)))
        if pages.items_count == len(files):
            return
        downloaded = {json.loads(path.read_text())["filename"] for path in files}
        missing = sorted(item.filename for item in pages.all() if item.filename not in downloaded)
        names = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise ValueError(
            f"{len(missing)} of the {pages.items_count} items of the {subset} subset have no label: {names}. Label"
            " them, or narrow the subset's filter to labelled items"
        )

    def train(self, data_path: str, output_path: str, **kwargs: Any) -> None:
        """Train on the train subset, and publish loss and accuracy as the model's metrics."""
        on_epoch_end: Callable[[int, int], None] | None = kwargs.get("on_epoch_end_callback")
        if not self._setting("warm_start"):
            self.network = self._fresh_network()
        images, labels = self._subsets["train"]
        validation = self._subsets.get("validation")
        history = train(
            self.network,
            to_inputs(images),
            labels,
            steps=self._setting("steps"),
            batch_size=self._setting("train_batch_size"),
            learning_rate=self._setting("learning_rate"),
            augmentation=self._setting("augmentation"),
            seed=self._setting("seed"),
            validation=None if validation is None else (to_inputs(validation[0]), validation[1]),
            # The SDK counts from 0, and makes a percentage of it.
            on_look=None if on_epoch_end is None else lambda step, steps: on_epoch_end(step - 1, steps),
        )
        self._publish(_training_samples(history), self.model_entity.dataset_id)

    def train_model(self, model: dl.Model, *args: Any, **kwargs: Any) -> dl.Model:
        """Train as the SDK does, then remove the downloaded data; a training that fails leaves that status."""
        self._workspace = None
        try:
            return super().train_model(model, *args, **kwargs)
        except Exception:
            # The SDK says that it does this, but leaves it to the platform's service, which a local run has not.
            if self._model_entity is not None and self._model_entity.status == "training":
                self.model_entity.status = "failed"
                self.model_entity.update(reload_services=False)
            raise
        finally:
            if self._workspace is not None:
                shutil.rmtree(self._workspace, ignore_errors=True)
                # The SDK stores the folder in the model; the next training, on any machine, gets one of its own.
                self.configuration["root_path"] = None

    def prepare_item_func(self, item: dl.Item) -> np.ndarray:
        """Download one item as a grey image of the model's size.

        Raises
        ------
        ValueError
            If the item is no image.
        """
        return read_image(item.download(save_locally=False), item.filename, self._setting("image_size"))

    def predict(self, batch: list[np.ndarray], **kwargs: Any) -> list[dl.AnnotationCollection]:
        """Return one classification an image.

        ``predict_items`` passes its further arguments on: ``mc_dropout_passes`` and ``store_embeddings`` replace
        the configuration's for this call.
        """
        options = {name: kwargs.get(name) for name in ("mc_dropout_passes", "store_embeddings")}
        fields = self.predict_fields(np.stack(batch), **options)
        return [self._annotate(row) for row in fields]

    def predict_fields(
        self,
        images: np.ndarray,
        *,
        mc_dropout_passes: int | None = None,
        store_embeddings: bool | None = None,
    ) -> list[dict[str, list]]:
        """Return each image's prediction as the fields of a record.

        Parameters
        ----------
        images : numpy.ndarray, shape (N, H, W), uint8
        mc_dropout_passes, store_embeddings : int, bool, optional
            The default is the configuration's.

        Returns
        -------
        list of dict
            ``class_names``, ``confidences``, ``logits``, and as configured ``embeddings``, ``mc_dropout``.
        """
        inputs = to_inputs(images)
        prediction = predict(self.network, inputs)
        columns = {"confidences": prediction.confidences, "logits": prediction.logits}
        if self._setting("store_embeddings") if store_embeddings is None else store_embeddings:
            columns["embeddings"] = prediction.embeddings
        if passes := self._setting("mc_dropout_passes") if mc_dropout_passes is None else mc_dropout_passes:
            columns["mc_dropout"], _ = mc_dropout(self.network, inputs, passes, seed=self._setting("seed"))
        names = list(self.model_entity.labels)
        rows = range(len(images))
        return [
            {"class_names": names} | {name: column[row].tolist() for name, column in columns.items()}
            for row in rows
        ]

    def evaluate(self, model: dl.Model, dataset: dl.Dataset, filters: dl.Filters | dict | None) -> dl.Model:
        """Publish accuracy and average precision over the items that ``evaluate_model`` has just predicted.

        It replaces the SDK's default scorer, which writes beside the working folder, scores left-over files, and
        takes any prediction of any class for a match.

        Raises
        ------
        ValueError
            If no item has both a ground-truth label and a prediction, or one has several labels.
        """
        labels, confidences = self._truth_and_predictions(model, dataset, filters)
        names = list(model.labels)
        result = classification_average_precision(labels, confidences, names)
        predicted = [names[row] for row in confidences.argmax(1)]
        samples = [
            dl.PlotSample(
                figure="evaluation", legend="accuracy", x=len(labels), y=accuracy(labels, predicted)
            ),
            dl.PlotSample(figure="evaluation", legend="average precision", x=len(labels), y=result.macro),
        ]
        self._publish(samples, dataset.id)
        return model

    def _truth_and_predictions(
        self, model: dl.Model, dataset: dl.Dataset, filters: dl.Filters | dict | None
    ) -> tuple[list[str], np.ndarray]:
        custom = filters.prepare() if isinstance(filters, dl.Filters) else filters
        items = dataset.items.list(
            filters=dl.Filters(custom_filter=copy.deepcopy(custom)) if custom else None
        )
        names = {item.id: item.filename for item in items.all()}
        truth: dict[str, str] = {}
        found: dict[str, list[float]] = {}
        for annotation in annotations_of(dataset, list(names)):
            if annotation.type != "class":
                continue
            if is_ground_truth(annotation):
                if truth.get(annotation.item_id, annotation.label) != annotation.label:
                    raise ValueError(
                        f"item {names[annotation.item_id]!r} has the labels {truth[annotation.item_id]!r} and"
                        f" {annotation.label!r}: remove one of them to evaluate"
                    )
                truth[annotation.item_id] = annotation.label
            elif made_by(annotation.metadata)[0] == model.id:
                found[annotation.item_id] = annotation.metadata["user"]["prediction"]["confidences"]
        both = sorted(truth.keys() & found.keys())
        if not both:
            raise ValueError(
                f"model {model.name!r} can't be evaluated on dataset {dataset.name!r}: of {len(truth)} items with a"
                f" label and {len(found)} with a prediction none has both. Label the items that the filter selects."
            )
        return [truth[item] for item in both], np.array([found[item] for item in both], dtype=np.float32)

    def _annotate(self, fields: dict[str, list]) -> dl.AnnotationCollection:
        best = int(np.argmax(fields["confidences"]))
        collection = dl.AnnotationCollection()
        collection.add(
            annotation_definition=dl.Classification(label=fields["class_names"][best]),
            model_info={
                "name": self.model_entity.name,
                "model_id": self.model_entity.id,
                "confidence": min(fields["confidences"][best], 1.0),
            },
            metadata={"user": {"prediction": fields}},
        )
        return collection

    def _setting(self, name: str) -> Any:
        value = self.model_entity.configuration.get(name)
        return DEFAULTS[name] if value is None else value

    def _fresh_network(self) -> torch.nn.Sequential:
        return build_network(
            self._setting("image_size"),
            len(self.model_entity.labels),
            dropout=self._setting("dropout"),
            seed=self._setting("seed"),
        )

    def _publish(self, samples: list[dl.PlotSample], dataset_id: str) -> None:
        self.model_entity.metrics.create(samples=samples, dataset_id=dataset_id)


@contextmanager
def _temporary_files_in(folder: str) -> Iterator[None]:
    """Have temporary files made in a folder of ours: the SDK's download leaves some behind."""
    former, tempfile.tempdir = tempfile.tempdir, folder
    try:
        yield
    finally:
        tempfile.tempdir = former


def _training_samples(history: History) -> list[dl.PlotSample]:
    lines = {
        ("loss", "train"): history.loss,
        ("loss", "validation"): history.validation_loss,
        ("accuracy", "validation"): history.validation_accuracy,
    }
    return [
        dl.PlotSample(figure=figure, legend=legend, x=x, y=y)
        for (figure, legend), values in lines.items()
        for x, y in zip(
            history.steps, values, strict=False
        )  # without a validation subset its lists are empty
    ]


def read_image(source: Any, name: str, size: int) -> np.ndarray:
    """Read an image file as grey levels of shape (size, size), uint8.

    Raises
    ------
    ValueError
        If it is no image; the message names the item.
    """
    try:
        with Image.open(source) as image:
            grey = image.convert("L")
    except (
        OSError,
        SyntaxError,
        ValueError,
        Image.DecompressionBombError,
    ) as error:  # all that Pillow raises
        raise ValueError(
            f"item {name!r} is no image that can be read: remove it from the dataset, or from the filter"
        ) from error
    return np.asarray(
        grey if grey.size == (size, size) else grey.resize((size, size), Image.Resampling.BILINEAR)
    )


def read_subset(folder: Path, class_names: list[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Read a subset as the SDK downloads it.

    Parameters
    ----------
    folder : Path
        Holds ``items/`` and ``json/``.
    class_names : list of str
        The model's labels.
    size : int
        Height and width to read the images at.

    Returns
    -------
    images, labels : numpy.ndarray, shapes (N, size, size) uint8 and (N,) int64

    Raises
    ------
    ValueError
        If an item is no image, has no label, several, or one that the model does not know.
    """
    known = {name: row for row, name in enumerate(class_names)}
    images, labels = [], []
    for path in sorted((folder / "json").rglob("*.json")):
        document = json.loads(path.read_text())
        name = document["filename"]
        found = [entry["label"] for entry in document["annotations"] if entry["type"] == "class"]
        if len(found) != 1 or found[0] not in known:
            raise ValueError(
                f"item {name!r} has the labels {found}: exactly one of {', '.join(class_names)} is needed to train"
            )
        images.append(read_image(folder / "items" / name.lstrip("/"), name, size))
        labels.append(known[found[0]])
    if not images:
        raise ValueError(f"subset {folder.name!r} holds no item: choose a filter that selects labelled items")
    return np.stack(images), np.array(labels, dtype=np.int64)


def to_records(annotations: Iterable[dl.Annotation]) -> list[dict[str, Any]]:
    """Turn predictions of this adapter into records, one an item.

    Parameters
    ----------
    annotations : iterable of dl.Annotation
        What ``predict_items`` returns; annotations without a prediction's fields are left out.

    Returns
    -------
    list of dict
        ``id`` (the item's), ``class_name``, ``confidence`` and the stored fields; by id.

    Raises
    ------
    ValueError
        If an item has more than one such prediction: keep one model's.
    """
    by_item: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for annotation in annotations:
        user = annotation.metadata.get("user", {})
        if "prediction" in user:
            head = {
                "id": annotation.item_id,
                "class_name": annotation.label,
                "confidence": user["model"]["confidence"],
            }
            by_item[annotation.item_id].append(head | user["prediction"])
    for item_id, rows in by_item.items():
        if len(rows) > 1:
            raise ValueError(f"item {item_id} has {len(rows)} predictions: pass the annotations of one model")
    return [by_item[item_id][0] for item_id in sorted(by_item)]
