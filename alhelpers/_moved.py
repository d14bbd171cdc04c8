"""Import paths of earlier releases: importing one raises an ImportError that names the new path."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

#: Remove after one release.
MOVED = {
    "alhelpers.datasets": "alhelpers.data",
    "alhelpers.experiments": "alhelpers.runs (run, sweep, tutorial), alhelpers.loop (race, curves) "
    "or alhelpers.learners (pretrain, designs)",
    "alhelpers.models": "alhelpers.learners (TorchClassifier trains and predicts), alhelpers.training (train), "
    "or the dtlpy adapter alhelpers.dataloop.adapter",
    "alhelpers.nodes": "alhelpers.dataloop",
    "alhelpers.notebook.steps": "alhelpers.dataloop.steps",
    "alhelpers.reading": "alhelpers.dataloop.reading",
    "alhelpers.splitting": "alhelpers.data.splitting",
}


class MovedFinder(MetaPathFinder):
    """Raises for the old paths."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Raise for an old path; leave every other name to the next finder."""
        if name in MOVED:
            raise ImportError(f"{name} has moved: import {MOVED[name]}", name=name)


def install() -> None:
    """Register the finder."""
    sys.meta_path.insert(0, MovedFinder())
