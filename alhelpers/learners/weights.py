"""The weights of a torch module in a folder: state dicts alone, never a pickle that runs code."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn

from alhelpers.files import replacing

#: The file that holds the weights.
WEIGHTS = "weights.pt"


class WithWeights:
    """What learners of one network share: its weights are saved and loaded."""

    network: nn.Module

    def save(self, folder: str | PathLike[str]) -> None:
        """Write the weights into a folder, as ``weights.pt``: complete or not at all."""
        with replacing(Path(folder) / WEIGHTS) as part:
            torch.save(self._state(), part)

    def load(self, folder: str | PathLike[str]) -> None:
        """Read the weights that :meth:`save` wrote, from the folder or its ``weights.pt``; no code of the file runs.

        Raises
        ------
        FileNotFoundError
            If there is no such folder or file.
        ValueError
            If the file is damaged, or holds the weights of another network or, where it says so, of other classes.
        """
        path = weights_file(folder)
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:  # a damaged file raises almost anything
            raise ValueError(f"{path} is damaged, or was not written by save: {error}") from error
        put_weights(self.network, self._weights_of(state, path), path)
        self.network.eval()

    def _state(self) -> dict[str, Any]:
        """Return what is saved: the weights, and what else a learner adds."""
        return self.network.state_dict()

    def _weights_of(self, state: Any, path: Path) -> Any:
        """Return the weights of what was saved, or raise a ValueError if the rest does not fit."""
        return state


def weights_file(place: str | PathLike[str]) -> Path:
    """Return the file of weights that a path names: itself, or the one in the folder."""
    path = Path(place)
    found = path / WEIGHTS if path.is_dir() else path
    if not found.is_file():
        raise FileNotFoundError(f"{found} is not there: name the folder that save wrote, or {WEIGHTS} in it")
    return found


def put_weights(network: nn.Module, state: Any, path: Path) -> None:
    """Put a state dict into a network; raise a ValueError, with nothing changed, if it is of another one."""
    try:
        # By a copy first: layers that fit must not change if others do not.
        copy.deepcopy(network).load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        what = _difference(network.state_dict(), state) or error
        raise ValueError(f"{path} holds the weights of another network: {what}") from error
    network.load_state_dict(state)


def _difference(own: Mapping[str, Any], state: Any) -> str:
    """Say the first difference between the weights that a network has and those it is given."""
    if not isinstance(state, Mapping):
        return f"it is a {type(state).__name__}, not a state dict"
    for name, value in own.items():
        if name not in state:
            return f"it has no {name!r}, which the model needs"
        shapes = [tuple(getattr(each, "shape", ())) for each in (state[name], value)]
        if shapes[0] != shapes[1]:
            return f"{name!r} has the shape {shapes[0]} there and {shapes[1]} in the model"
    return next((f"it has {name!r}, which the model lacks" for name in state if name not in own), "")
