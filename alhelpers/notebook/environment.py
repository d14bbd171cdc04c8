"""Whether this computer and this kernel have what the notebooks need."""

import importlib.metadata
import os
import platform
import sys

from alhelpers import files

#: What the notebooks import, by the names under which it is installed, and for what.
PACKAGES = {
    "numpy": "arrays",
    "pyarrow": "records",
    "scikit-learn": "small learners, the digits",
    "matplotlib": "figures",
    "ipywidgets": "sliders and buttons",
    "pandas": "tables",
    "torch": "networks, from notebook 2 on",
    "dtlpy": "the SDK, from notebook 1 on",
    "aiohttp": "the offline platform, from notebook 1 on",
    "duckdb": "queries over many records",
    "distributed": "mining on a cluster",
    "papermill": "running notebooks with parameters",
}

#: Oldest Python, and free memory in GB: a kernel with torch, the platform and what it trains.
_PYTHON, _MEMORY = (3, 11), 2


def check_environment() -> list[str]:
    """Print a short table of Python, kernel, memory and packages, and how to install what is missing.

    Returns
    -------
    list of str
        The packages that are missing.
    """
    versions = {name: _version(name) for name in PACKAGES}
    missing = [name for name, version in versions.items() if version is None]
    old = sys.version_info < _PYTHON
    python = f"{platform.python_version()}{' is too old' if old else ''}"
    rows = [("Python", python, "3.11 or newer"), ("kernel", sys.executable, "the Python of this notebook")]
    rows.append(("memory", _memory(), f"{_MEMORY} GB free or more"))
    rows += [(name, versions[name] or "MISSING", purpose) for name, purpose in PACKAGES.items()]
    wide = max(len(found) for name, found, _ in rows if name != "kernel")
    for name, found, purpose in rows:
        print(f"{name:<14}{found:<{wide}}  {purpose}")
    print()
    if missing:
        print(f"Missing: {', '.join(missing)}. To install, in a terminal:\n\n    {_installing()}\n")
        print("Then restart the kernel (menu Kernel) and run this cell again.")
    else:
        print("Every package is here.")
    return missing


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _memory() -> str:
    try:
        import psutil
    except ModuleNotFoundError:  # it comes with the platform
        return "unknown"
    memory = psutil.virtual_memory()
    text = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free"
    return text if memory.available >= _MEMORY * 1e9 else f"{text}: close other programs"


def _installing() -> str:
    """Return the command that installs all into the Python of this kernel."""
    if files.CLONE is None:
        return f'"{sys.executable}" -m pip install "alhelpers[lab]"'
    folder = os.fspath(files.CLONE)
    return f'cd "{folder}" && "{sys.executable}" -m pip install -c constraints.txt -e ".[lab]"'
