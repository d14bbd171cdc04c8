"""The weights of a torch module in a folder: state dicts alone, never a pickle that runs code."""

from __future__ import annotations

import copy
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
        """Read the weights that :meth:`save` wrote; no code of the file runs.

        Raises
        ------
        ValueError
            If the file is damaged, or holds the weights of another network or, where it says so, of other classes.
        """
        path = Path(folder) / WEIGHTS
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except OSError:
            raise
        except Exception as error:  # a damaged file raises almost anything
            raise ValueError(f"{path} is damaged, or was not written by save: {error}") from error
        state = self._weights_of(state, path)
        try:
            # By a copy first: layers that fit must not change if others do not.
            copy.deepcopy(self.network).load_state_dict(state)
        except (RuntimeError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} holds the weights of another network: {error}") from error
        self.network.load_state_dict(state)
        self.network.eval()

    def _state(self) -> dict[str, Any]:
        """Return what is saved: the weights, and what else a learner adds."""
        return self.network.state_dict()

    def _weights_of(self, state: Any, path: Path) -> Any:
        """Return the weights of what was saved, or raise a ValueError if the rest does not fit."""
        return state
