"""What the configuration of a model may hold: for any learner, and for the kit's own network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from alhelpers import learners
from alhelpers.configurations import Configuration, Integer, Text, read
from alhelpers.dataloop.arguments import arguments_of
from alhelpers.learners import Detector, TorchClassifier, build_network

ImageSize = Annotated[
    Annotated[Integer, Field(ge=1)]
    | Annotated[list[Annotated[Integer, Field(ge=1)]], Field(min_length=2, max_length=2)],
    Field(description="a number of pixels, or [height, width]"),
]
Seed = Annotated[Integer, Field(ge=0, description="a whole number of at least 0")]
Flag = Annotated[bool, Field(description="true or false")]
Positive = Annotated[Integer, Field(ge=1, description="a whole number of at least 1")]


def _not_one(passes: int) -> int:
    if passes == 1:
        raise ValueError
    return passes


Passes = Annotated[
    Integer, Field(ge=0, description="0, or a whole number of at least 2"), AfterValidator(_not_one)
]


class AdapterConfiguration(Configuration):
    """What every model's configuration may hold, whatever its learner.

    ``learner`` is the name of a registered one, or an :class:`~alhelpers.dataloop.own_code.OwnLearner`.
    Images are read at ``image_size``, in grey or, with ``colour``, in three channels. ``warm_start``: start from the
    cloned weights, not from fresh ones. ``batch_size`` is the SDK's, for prediction.
    """

    learner: Annotated[
        Text | dict[str, Any],
        Field(description="the name of a registered learner, or an object with 'module'"),
    ]
    parameters: Annotated[dict[str, Any], Field(description="an object with the learner's parameters")] = {}
    image_size: ImageSize
    colour: Flag = False
    seed: Seed = 0
    warm_start: Flag = False
    mc_dropout_passes: Passes = 0
    store_embeddings: Flag = False
    batch_size: Positive = 256


class DigitParameters(Configuration):
    """The parameters of ``digits_cnn``: its recipe, ``train`` has their meaning."""

    image_size: ImageSize
    colour: Flag = False
    seed: Seed = 0
    dropout: Annotated[float, Field(ge=0, lt=1, description="a number of at least 0 and below 1")] = 0.5
    steps: Positive = 150
    train_batch_size: Positive = 64
    learning_rate: Annotated[float, Field(gt=0, description="a number above 0")] = 6e-3
    augmentation: Flag = False


def digits_cnn(parameters: Mapping[str, Any], class_names: Sequence[str] | None) -> TorchClassifier:
    """Make the kit's convolutional network for small images (:func:`alhelpers.learners.build_network`)."""
    options = read(DigitParameters, parameters, "parameters")
    size = options.image_size
    return TorchClassifier(
        lambda seed: build_network(
            size if isinstance(size, int) else tuple(size),
            len(class_names or ()),
            channels=3 if options.colour else 1,
            dropout=options.dropout,
            seed=seed,
        ),
        steps=options.steps,
        batch_size=options.train_batch_size,
        learning_rate=options.learning_rate,
        augmentation=options.augmentation,
        seed=options.seed,
    )


def detector(parameters: Mapping[str, Any], class_names: Sequence[str] | None) -> Detector:
    """Make the kit's detector, whose options are the parameters (:class:`alhelpers.learners.Detector`)."""
    return _of_objects(Detector, parameters, class_names)


def segmenter(parameters: Mapping[str, Any], class_names: Sequence[str] | None) -> learners.Segmenter:
    """Make the kit's segmenter, whose options are the parameters (:class:`alhelpers.learners.Segmenter`)."""
    return _of_objects(learners.Segmenter, parameters, class_names)


def _of_objects(kind: type[Any], parameters: Mapping[str, Any], class_names: Sequence[str] | None) -> Any:
    own = {name: value for name, value in parameters.items() if name not in ("image_size", "colour")}
    offered = {
        "class_names": list(class_names or ()),
        "channels": 3 if parameters["colour"] else 1,
        "seed": parameters["seed"],
    }
    return kind(**arguments_of(kind, kind.__name__, own, offered))
