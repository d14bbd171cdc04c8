"""The dtlpy model adapter over any learner: the same class trains on a laptop and on the hosted platform.

The SDK's base class drives it: ``train_model``, ``predict_items`` and ``evaluate_model`` download, call the
methods below, and upload. Contract: ``dtlpy.BaseModelAdapter``.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import dtlpy as dl
import numpy as np
import torch

from alhelpers.configurations import read
from alhelpers.data import ImageSet
from alhelpers.dataloop.images import Picture, read_picture
from alhelpers.dataloop.model_configuration import (
    AdapterConfiguration,
    DigitParameters,
    detector,
    digits_cnn,
    segmenter,
)
from alhelpers.dataloop.outputs import Output, output_of
from alhelpers.dataloop.own_code import FOLDER, own_learner
from alhelpers.dataloop.predictions import class_fields, to_records
from alhelpers.dataloop.reading import kind_of
from alhelpers.dataloop.subsets import read_subset
from alhelpers.dataloop.truth import BACKGROUND, object_names
from alhelpers.dataloop.whole_images import write_notes
from alhelpers.protocols import History, Learner, LearnerFactory, Predictions

__all__ = ["DigitClassifier", "LearnerAdapter", "to_records"]

logger = logging.getLogger(__name__)

# Options of the adapter that a learner is made with, too: its parameters may hold them.
_SHARED = ("image_size", "colour", "seed")


class LearnerAdapter(dl.BaseModelAdapter):
    """Trains any learner on images of any size, and predicts with it.

    What is read, predicted and measured is what the model's ``output_type`` says: "class", "box" or "binary"
    (:mod:`alhelpers.dataloop.outputs`). A model's configuration is an :class:`AdapterConfiguration`, and contains no
    code: its ``learner`` names a function of a file that was published in the folder ``own_code`` of the codebase.

    >>> configuration = {
    ...     "learner": {"module": "my_model.py:build", "steps": 300},
    ...     "parameters": {"width": 32},
    ...     "image_size": [48, 64],
    ...     "colour": True,
    ... }

    The function returns a torch module, or a learner. Its arguments are ``parameters``, and by their names
    ``class_names`` (the model's labels), ``image_size`` (height, width), ``colour`` and ``seed``, if it has such
    parameters. For a module the file may define ``preprocess`` and ``logits``, as
    :class:`~alhelpers.learners.TorchClassifier` takes them.

    Or ``learner`` is the name of a registered factory: ``detector`` and ``segmenter`` are the kit's, whose parameters
    are those of :class:`alhelpers.learners.Detector` and ``Segmenter``, and a subclass in the codebase may register
    others. A factory gets ``parameters`` together with ``image_size``, ``colour`` and ``seed``, and the model's labels,
    for masks with "background" before them.

    >>> class MyAdapter(LearnerAdapter):
    ...     learners = {"my_network": make_my_network}
    ...     defaults = {"learner": "my_network", "image_size": [48, 64], "colour": True}

    Each prediction is one classification, any number of boxes, or a mask for each class, with the model's name, id and
    confidence. In ``annotation.metadata["user"]["prediction"]`` are the fields of a record, ``class_names``,
    ``confidences``, ``logits`` and, if asked for, ``embeddings`` and ``mc_dropout``; or those of one of its boxes, with
    ``class_certainty``, ``location_certainty`` and ``existence_certainty`` if there are ``mc_dropout_passes``. What is
    predicted of an image as a whole beside boxes or masks is noted on the item
    (:mod:`alhelpers.dataloop.whole_images`).

    Train, validation and evaluation take an image without a box or mask for labelled only where it is said to be empty:
    by :func:`~alhelpers.dataloop.write_labels`, by a status in a task, or, while training, by the configuration's
    ``include_background`` for all items without any annotation.

    Attributes
    ----------
    learners : mapping of str to callable
        Each makes an untrained learner from its parameters and the class names.
    defaults : mapping
        The configuration's values where a model's configuration has none.
    flat_parameters : collection of str
        Parameters of the learner that may also stand in the configuration itself.
    own_code : path
        The folder of the files that a configuration may name.
    learner : Learner
        The model's own, once it is loaded.
    """

    learners: ClassVar[Mapping[str, LearnerFactory]] = {"detector": detector, "segmenter": segmenter}
    defaults: ClassVar[Mapping[str, Any]] = {}
    flat_parameters: ClassVar[Iterable[str]] = ()
    own_code: ClassVar[str | Path] = Path(__file__).resolve().parents[2] / FOLDER

    def load(self, local_path: str, **kwargs: Any) -> None:
        """Make the learner, with the weights in ``local_path`` if there are some.

        Raises
        ------
        ValueError
            If the model has no labels, its configuration is not valid, or the weights are of another learner.
        """
        if not self.model_entity.labels:
            raise ValueError(
                f"model {self.model_entity.name!r} has no labels: set model.labels to the class names"
            )
        options = self._options()
        # The SDK predicts 4 images at a time unless the configuration says otherwise.
        self.configuration.setdefault("batch_size", options.batch_size)
        self.learner, self._is_trained = self._untrained(), False
        self._notes: dict[str, dict[str, Any]] = {}
        # A file may also be left over from another model of this name.
        if not self.model_entity.model_artifacts:
            return
        try:
            with contextlib.suppress(FileNotFoundError):
                self.learner.load(local_path)
                self._is_trained = True
        except ValueError as error:
            raise ValueError(
                f"the weights of model {self.model_entity.name!r} are damaged, or for another network than its"
                f" configuration's (learner {options.learner}, image_size {options.image_size},"
                f" {len(self.model_entity.labels)} labels). Train it again, or set the configuration that it was"
                f" trained with. {error}"
            ) from error

    def save(self, local_path: str, **kwargs: Any) -> None:
        """Write the weights into ``local_path``."""
        self.learner.save(local_path)

    def prepare_data(
        self, dataset: dl.Dataset, root_path: str | None = None, **kwargs: Any
    ) -> tuple[str, ...]:
        """Read the subsets into memory, so that a bad item is found before training starts.

        The SDK's own way downloads them to files. It leaves out images without an annotation, needs OpenCV for masks,
        and mixes up the labels of items whose names differ in their endings alone.

        Raises
        ------
        ValueError
            If there is no train subset, or an item of a subset cannot be trained on; the message names it.
        """
        system = self.model_entity.metadata["system"]
        if "train" not in system["subsets"]:
            raise ValueError(
                f"model {self.model_entity.name!r} has no 'train' subset in metadata.system.subsets: make it with a"
                " train_filter"
            )
        if self.configuration.get("include_model_annotations"):
            raise ValueError(
                f"the configuration of model {self.model_entity.name!r} has 'include_model_annotations', but"
                " predictions are no labels: remove it; Model Data Split makes reviewed ones ground truth"
            )
        options = self._options()
        self._workspace = tempfile.mkdtemp(prefix="alhelpers-train-")
        self._subsets = {
            subset: read_subset(
                dataset,
                system["subsets"][subset],
                subset,
                self._output.task,
                self.model_entity.labels,
                options.image_size,
                colour=options.colour,
                query=(system.get("annotationsSubsets") or {}).get(subset),
                include_background=self.configuration.get("include_background") is True,
            )
            for subset in ("train", "validation")
            if subset in system["subsets"]
        }
        return self._workspace, self._workspace, self._workspace

    def train(self, data_path: str, output_path: str, **kwargs: Any) -> None:
        """Train on the train subset, and publish loss and accuracy as the model's metrics."""
        on_epoch_end: Callable[[int, int], None] | None = kwargs.get("on_epoch_end_callback")
        options = self._options()
        if not options.warm_start:
            self.learner = self._untrained()
        history = self.learner.fit(
            self._subsets["train"],
            validation=self._subsets.get("validation"),
            seed=options.seed,
            # The SDK counts from 0, and makes a percentage of it.
            progress=None if on_epoch_end is None else lambda step, steps: on_epoch_end(step - 1, steps),
        )
        self._is_trained = True
        self._publish(_training_samples(history), self.model_entity.dataset_id)

    def train_model(self, model: dl.Model, *args: Any, **kwargs: Any) -> dl.Model:
        """Train as the SDK does, then remove the downloaded data; a failure sets the status to ``failed``."""
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

    def prepare_item_func(self, item: dl.Item) -> Picture:
        """Download one item as an image of the model's size and colours.

        Raises
        ------
        ValueError
            If the item is not an image.
        """
        options = self._options()
        return read_picture(item, options.image_size, colour=options.colour)

    def predict(self, batch: list[Picture], **kwargs: Any) -> list[dl.AnnotationCollection]:
        """Return the annotations of each image: one class, boxes, or a mask for each class.

        ``predict_items`` passes its further arguments on: ``mc_dropout_passes`` and ``store_embeddings`` replace
        the configuration's for this call.
        """
        options = {name: kwargs.get(name) for name in ("mc_dropout_passes", "store_embeddings")}
        predictions = self._predicted(np.stack([each.pixels for each in batch]), **options)
        collections, notes = self._output.annotations(predictions, batch, self.model_entity)
        self._notes |= {picture.item.id: note for picture, note in zip(batch, notes, strict=False)}
        return collections

    def predict_items(
        self, items: list, *args: Any, **kwargs: Any
    ) -> tuple[list[dl.Item], list[dl.Annotation]]:
        """Predict as the SDK does, and note on each item what is predicted of the image as a whole."""
        found, annotations = super().predict_items(items, *args, **kwargs)
        noted = {item.id: item for item in found if item.id in self._notes}
        write_notes(self.model_entity, noted, {id: self._notes.pop(id) for id in noted})
        return found, annotations

    def predict_fields(
        self,
        images: np.ndarray,
        *,
        mc_dropout_passes: int | None = None,
        store_embeddings: bool | None = None,
    ) -> list[dict[str, list]]:
        """Return each image's predicted class as the fields of a record.

        Parameters
        ----------
        images : numpy.ndarray, shape (N, H, W) or (N, H, W, 3), uint8
        mc_dropout_passes, store_embeddings : int, bool, optional
            The default is the configuration's.

        Returns
        -------
        list of dict
            ``class_names``, ``confidences``, ``logits``, and as configured ``embeddings``, ``mc_dropout``.
        """
        found = self._predicted(
            images, mc_dropout_passes=mc_dropout_passes, store_embeddings=store_embeddings
        )
        return class_fields(found, self.model_entity)

    def _predicted(
        self, images: np.ndarray, *, mc_dropout_passes: int | None, store_embeddings: bool | None
    ) -> Any:
        options = self._options()
        return self._predictions(
            images,
            passes=options.mc_dropout_passes if mc_dropout_passes is None else mc_dropout_passes,
            embeddings=options.store_embeddings if store_embeddings is None else store_embeddings,
        )

    def _predictions(self, images: np.ndarray, *, passes: int = 0, embeddings: bool) -> Predictions:
        if not self._is_trained:
            logger.warning(
                "model %r has no weights: it predicts as it was initialised, train it first",
                self.model_entity.name,
            )
        return self.learner.predict(
            ImageSet("images", images, None, self._class_names(), task=self._output.task),
            passes=passes,
            embeddings=embeddings,
            seed=self._options().seed,
        )

    def embed(self, batch: list[Picture | np.ndarray], **kwargs: Any) -> list[list[float]]:
        """Return one embedding an image.

        Raises
        ------
        ValueError
            If the learner has no embeddings.
        """
        images = np.stack([each.pixels if isinstance(each, Picture) else each for each in batch])
        found = self._predictions(images, embeddings=True).embeddings
        if found is None:
            raise ValueError(
                f"the learner of model {self.model_entity.name!r} has no embeddings: name the layer in its 'embedding'"
            )
        return found.tolist()

    def embed_items(self, items: list, *args: Any, **kwargs: Any) -> tuple[list[dl.Item], list[list[float]]]:
        """Embed as the SDK does, which leaves out what is not of the size that the configuration says."""
        options = self._options()
        size = options.image_size
        shape = [size, size] if isinstance(size, int) else size
        (vector,) = self.embed([np.zeros([*shape, 3] if options.colour else shape, np.uint8)])
        self.configuration["embeddings_size"] = len(vector)
        return super().embed_items(items, *args, **kwargs)

    def evaluate(self, model: dl.Model, dataset: dl.Dataset, filters: dl.Filters | dict | None) -> dl.Model:
        """Publish how right the predictions are that ``evaluate_model`` has just made.

        Of classes accuracy and average precision, of boxes AP50 and mAP, of masks the mean IoU. It replaces the SDK's
        default scorer, which writes beside the working folder, scores left-over files, and counts any prediction of any
        class as a match.

        Raises
        ------
        ValueError
            If no item has both a ground-truth label and a prediction, or one has several classes.
        """
        count, values, warnings = self._output.measure(model, dataset, filters)
        for warning in warnings:
            logger.warning(warning)
        samples = [
            dl.PlotSample(figure="evaluation", legend=legend, x=count, y=value)
            for legend, value in values.items()
        ]
        self._publish(samples, dataset.id)
        return model

    @property
    def _output(self) -> Output:
        return output_of(self.model_entity)

    def _class_names(self) -> list[str]:
        """Return the classes of the learner: the model's labels, and for masks the background before them."""
        names = list(self.model_entity.labels)
        if self._output.task == "segmentation":
            return [BACKGROUND, *object_names(names, "segmentation")]
        return names

    def _options(self) -> AdapterConfiguration:
        """Check the configuration, without the keys that the SDK keeps there."""
        given = self._given()
        parameters = given.get("parameters")
        if isinstance(parameters, Mapping):
            given |= {name: parameters[name] for name in _SHARED if name in parameters}
        own = {name: given[name] for name in AdapterConfiguration.model_fields if name in given}
        return read(AdapterConfiguration, own, f"the configuration of model {self.model_entity.name!r}")

    def _given(self) -> dict[str, Any]:
        """Return the configuration, with the defaults of the registered learners where it has no value."""
        there = {name: value for name, value in self.model_entity.configuration.items() if value is not None}
        return there if isinstance(there.get("learner"), Mapping) else {**self.defaults, **there}

    def _untrained(self) -> Learner:
        """Make the learner that the configuration names."""
        options, given = self._options(), self._given()
        name, labels = options.learner, self._class_names()
        flat = {key: given[key] for key in self.flat_parameters if key in given}
        shared = {key: getattr(options, key) for key in _SHARED}
        if isinstance(name, Mapping):
            if misplaced := [key for key in flat if key not in _SHARED]:
                raise ValueError(
                    f"the configuration of model {self.model_entity.name!r} has {misplaced[0]!r} beside a learner of"
                    " one's own: put it into 'learner' or 'parameters'"
                )
            made = own_learner(name, self.own_code, options.parameters, shared, labels)
        elif name in self.learners:
            made = self.learners[name]({**flat, **options.parameters, **shared}, labels)
        else:
            raise ValueError(
                f"model {self.model_entity.name!r} has the learner {name!r}; registered are"
                f" {', '.join(self.learners)}. Name a function of the app's codebase, such as"
                " {'module': 'my_model.py:build'}"
            )
        task = getattr(made, "task", self._output.task)
        if task != self._output.task:
            raise ValueError(
                f"model {self.model_entity.name!r} has the output_type {kind_of(self.model_entity)!r}, and its"
                f" learner is for {task}: make the model with another output_type, or name a learner for"
                f" {self._output.task}"
            )
        return made

    def _publish(self, samples: list[dl.PlotSample], dataset_id: str) -> None:
        self.model_entity.metrics.create(samples=samples, dataset_id=dataset_id)


class DigitClassifier(LearnerAdapter):
    """Classifies small images, by default grey ones of 8x8; its configuration may hold all :class:`DigitParameters`."""

    learners: ClassVar[Mapping[str, LearnerFactory]] = {"digits_cnn": digits_cnn, **LearnerAdapter.learners}
    defaults: ClassVar[Mapping[str, Any]] = {"learner": "digits_cnn", "image_size": 8}
    flat_parameters: ClassVar[Iterable[str]] = tuple(DigitParameters.model_fields)

    @property
    def network(self) -> torch.nn.Module:
        """The learner's network."""
        return self.learner.network


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
