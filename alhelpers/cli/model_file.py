"""A model in a Python file that the command line names: its network, preprocessing, weights and class names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from alhelpers.cli.functions import check_python, described, in_line, names_in, run_file

#: What is called where the command line names a file alone.
_BUILD = "build"

#: The file of weights in a folder that a learner has written.
_WEIGHTS = "weights.pt"


class ModelFile(NamedTuple):
    """A learner, the class names in the order of its outputs if they are known, and whether it has a preprocess."""

    learner: Any
    class_names: Sequence[str] | None
    preprocesses: bool


def load_model(place: str, weights: Path | None, seed: int) -> ModelFile:
    """Run the file of FILE.py:NAME and build what it names; a ValueError says what is wrong with either.

    The file may define ``preprocess`` and ``logits``, as :class:`alhelpers.learners.TorchClassifier` takes them, and
    ``class_names``.
    """
    from torch import nn

    from alhelpers.learners import TorchClassifier
    from alhelpers.protocols import Learner
    from alhelpers.uncertainty._torch import called_with_seed

    file, name = parse_place(place, _BUILD)
    module = run_file(file)
    if not hasattr(module, name):
        there = ", ".join(names_in(module)) or "nothing"
        raise ValueError(
            f"{file} does not define {name!r}, but {there}: define {name}(), or name another as {file}:NAME"
        )
    build = getattr(module, name)
    made = build
    if not isinstance(build, nn.Module | Learner) or isinstance(build, type):
        if not callable(build):
            raise ValueError(
                f"{name} of {file} is {build!r:.60}: it must be a function that returns a torch.nn.Module"
            )
        try:
            made = called_with_seed(build, seed)
        except Exception as error:
            raise ValueError(f"{name} of {file} failed: {described(error)}{in_line(error)}") from error
    class_names = getattr(module, "class_names", None)
    if isinstance(made, nn.Module):
        if weights is not None:
            load_weights(made, weights)
        hooks = {
            hook: _checked(function, hook, file)
            for hook in ("preprocess", "logits")
            if (function := getattr(module, hook, None)) is not None
        }
        return ModelFile(TorchClassifier(made.eval(), **hooks), class_names, "preprocess" in hooks)
    if not isinstance(made, Learner):
        raise ValueError(
            f"{name} of {file} returned a {type(made).__name__}: it must return a torch.nn.Module, or a Learner"
        )
    if weights is not None:
        made.load(weights)
    return ModelFile(made, class_names, False)


def parse_place(place: str, default: str) -> tuple[Path, str]:
    """Split FILE.py:NAME into the file and the name, or the default."""
    file, colon, name = place.rpartition(":")
    return (Path(file), name) if colon and file.endswith(".py") else (Path(place), default)


def check_place(place: str, weights: Path | None) -> None:
    """Raise a ValueError if the file of FILE.py:NAME, or that of the weights, is not there."""
    check_python(parse_place(place, _BUILD)[0])
    if weights is not None and not any(path.is_file() for path in (weights, weights / _WEIGHTS)):
        wrong = f"has no {_WEIGHTS}" if weights.is_dir() else "is not there"
        raise ValueError(
            f"{weights} {wrong}: name the file that torch.save(model.state_dict(), FILE) wrote, or the folder that"
            " learner.save(FOLDER) wrote"
        )


def load_weights(network: Any, path: Path) -> None:
    """Load a state dict, and no code; a ValueError names what does not fit, and then nothing is loaded."""
    import torch

    from alhelpers.learners.weights import put_weights, weights_file

    path = weights_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged file, or one with objects, raises almost anything
        raise ValueError(
            f"{path} does not hold weights alone, or is damaged: write it with torch.save(model.state_dict(), FILE)"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        kind = (
            f"a dict of {', '.join(map(str, state))}" if isinstance(state, Mapping) else type(state).__name__
        )
        raise ValueError(
            f"{path} holds {kind}, not a state dict: write it with torch.save(model.state_dict(), FILE)"
        )
    put_weights(network, state, path)


def _checked(function: Any, name: str, file: Path) -> Any:
    if not callable(function):
        raise ValueError(f"{name} of {file} is {function!r:.60}: it must be a function of a batch")
    return function
