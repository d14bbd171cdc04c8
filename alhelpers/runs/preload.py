"""What is imported before kernels are forked."""

import re

from alhelpers.forking import NUMERICAL, OF_THE_SDK

#: Imported once, in this order. What looks at its surroundings when it is imported must stay out: ipywidgets and
#: tqdm.auto ask whether there is a kernel.
PRELOADED = (
    *NUMERICAL,
    "matplotlib.pyplot",
    "matplotlib.backends.backend_agg",
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "nbclient",
    "papermill",
    "alhelpers.runs.runner",
    "alhelpers.mining",
    "alhelpers.learners",
    "alhelpers.notebook",
    "alhelpers.training",
    "alhelpers.uncertainty",
    *OF_THE_SDK,
)

#: What the run itself needs, whatever the notebook imports.
_ALWAYS = (
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "nbclient",
    "papermill",
    "alhelpers.runs.runner",
)


def preloads(code: str) -> list[str]:
    """Return what to import for a notebook: what it names, and everything if it uses rooms of this package.

    Parameters
    ----------
    code : str
        The notebook's cells.
    """
    if re.search(r"\balhelpers\b(?!\.notebook)", code):
        return list(PRELOADED)
    return [name for name in PRELOADED if name in _ALWAYS or _named(name, code)]


def _named(name: str, code: str) -> bool:
    top = name if name.startswith("alhelpers") else name.split(".")[0]
    return re.search(rf"\b{re.escape(top)}\b", code) is not None
