"""The modules that are imported before kernels are forked."""

import re

from alhelpers.forking import NUMERICAL, SDK_DEPENDENCIES

#: What a run and its kernel import themselves.
_ALWAYS = (
    "ipykernel.kernelapp",
    "ipykernel.ipkernel",
    "ipykernel.debugger",
    "ipykernel.kernelspec",
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.extensions.storemagic",
    "tornado.platform.asyncio",
    "nbclient",
    "papermill",
    "alhelpers.runs.engine",
    "alhelpers.runs.runner",
)

#: Imported once, in this order. A module that reads its environment when it is imported must not be listed:
#: ipywidgets and tqdm.auto check whether there is a kernel.
PRELOADED = (
    *NUMERICAL,
    "matplotlib.pyplot",
    "matplotlib.backends.backend_agg",
    *_ALWAYS,
    "alhelpers.mining",
    "alhelpers.learners",
    "alhelpers.notebook",
    "alhelpers.training",
    "alhelpers.uncertainty",
    *SDK_DEPENDENCIES,
)


def preloads(code: str) -> list[str]:
    """Return the modules to import for a notebook's code: those it names, and all if it uses this package."""
    if re.search(r"\balhelpers\b(?!\.notebook)", code):
        return list(PRELOADED)
    return [name for name in PRELOADED if name in _ALWAYS or _is_named(name, code)]


def _is_named(name: str, code: str) -> bool:
    top = name if name.startswith("alhelpers") else name.split(".")[0]
    return re.search(rf"\b{re.escape(top)}\b", code) is not None
