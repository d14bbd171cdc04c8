"""A learner of one's own: a function in the app's codebase that a model's configuration names.

A configuration holds no code. It chooses one of the functions that lie in the folder ``own_code`` of the codebase,
which whoever published the app put there, and passes values to it. A name with a path, a function that the file only
imports, and a file that a link leads out of the folder to are refused.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from alhelpers.configurations import Configuration, Text, described, read
from alhelpers.dataloop.arguments import arguments_of
from alhelpers.dataloop.model_configuration import Flag, Positive
from alhelpers.learners import SklearnLearner, TorchClassifier
from alhelpers.protocols import Learner

#: The folder of a codebase whose files a configuration may name; it lies beside the package.
FOLDER = "own_code"

# What a file may define beside the function, for the learner of the torch module that it returns.
_HOOKS = ("preprocess", "logits")


class OwnLearner(Configuration):
    """A function in the folder ``own_code``, and how the torch module that it returns is trained.

    The rest is :class:`~alhelpers.learners.TorchClassifier`'s, with its defaults; a function that returns a learner
    takes none of it.
    """

    model_config = described("an object with 'module', such as 'my_model.py:build'")
    module: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z_]\w*\.py:[A-Za-z]\w*$",
            description="a file of the folder 'own_code' and a function in it, such as 'my_model.py:build'",
        ),
    ]
    embedding: Annotated[Text, Field(description="the name of the layer that embeds")] | None = None
    steps: Positive | None = None
    batch_size: Positive | None = None
    learning_rate: Annotated[float, Field(gt=0, description="a number above 0")] | None = None
    augmentation: Flag | None = None
    patience: Positive | None = None

    @property
    def recipe(self) -> dict[str, Any]:
        """What is given of the options of the torch module's learner."""
        return self.model_dump(exclude={"module"}, exclude_none=True)


def own_learner(
    given: Mapping[str, Any],
    folder: str | Path,
    parameters: Mapping[str, Any],
    shared: Mapping[str, Any],
    class_names: Sequence[str],
) -> Learner:
    """Make the untrained learner that a configuration names.

    Parameters
    ----------
    given : mapping
        An :class:`OwnLearner`.
    folder : path
        The folder of the files that may be named.
    parameters : mapping
        Arguments of the function; it must know them all.
    shared : mapping
        ``image_size``, ``colour`` and ``seed``; the function gets those that it has parameters for, and
        ``class_names``.
    class_names : sequence of str
        The model's labels.

    Raises
    ------
    ValueError
        If the configuration is not valid, the function is not there or does not take what it is passed, or it returns
        neither a torch module nor a learner.
    """
    options = read(OwnLearner, given, "learner")
    module = _load(options.module, Path(folder))
    build = _function(module, options.module)
    size = shared["image_size"]
    offered = {
        **shared,
        "image_size": (size, size) if isinstance(size, int) else tuple(size),
        "class_names": list(class_names),
    }

    def made(seed: int) -> Any:
        return build(**arguments_of(build, options.module, parameters, offered | {"seed": seed}))

    with torch.random.fork_rng(devices=[]):
        first = made(shared["seed"])
    if isinstance(first, nn.Module):
        hooks = {name: getattr(module, name) for name in _HOOKS if hasattr(module, name)}
        return TorchClassifier(made, seed=shared["seed"], **hooks, **options.recipe)
    if not all(callable(getattr(first, method, None)) for method in ("fit", "predict", "save", "load")):
        raise ValueError(
            f"{options.module} returned {type(first).__name__}: return a torch module, or a learner with fit, predict,"
            " save and load"
        )
    if isinstance(first, SklearnLearner):
        raise ValueError(
            f"{options.module} returns a SklearnLearner, which can't be stored as a model's weights: only a pickle"
            " could do that, and it runs code when it is read; return a torch module, or a learner that saves data"
        )
    if options.recipe:
        raise ValueError(
            f"{options.module} returns a learner, which is trained in its own way: remove"
            f" {', '.join(map(repr, options.recipe))} from 'learner'"
        )
    return first


def _load(named: str, folder: Path) -> ModuleType:
    """Run a file of the folder, anew each time, as a module with a name of its own."""
    file_name = named.partition(":")[0]
    if not folder.is_dir():
        raise ValueError(
            f"the learner {named!r} needs the folder {FOLDER!r} in the app's codebase, which has none: publish the app"
            f" with own_code='{file_name}'"
        )
    folder = folder.resolve()
    path = folder / file_name
    if not path.is_file() or path.resolve().parent != folder:
        there = ", ".join(sorted(each.name for each in folder.glob("*.py"))) or "no Python file"
        raise ValueError(
            f"the learner {named!r} is not in the folder {FOLDER!r} of the codebase: it has {there}"
        )
    if str(folder) not in sys.path:  # its files may import each other; at the end, they hide no other module
        sys.path.append(str(folder))
    name = f"{FOLDER}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{file_name} can't be imported: {type(error).__name__}: {error}") from error
    return module


def _function(module: ModuleType, named: str) -> Callable[..., Any]:
    """Return what a configuration names, which the file itself must define."""
    name = named.partition(":")[2]
    found = getattr(module, name, None)
    kinds = inspect.isfunction(found) or inspect.isclass(found)
    if not kinds or found.__module__ != module.__name__:
        raise ValueError(
            f"the learner {named!r} is not there: {named.partition(':')[0]} must define a function {name!r} itself"
        )
    return found
