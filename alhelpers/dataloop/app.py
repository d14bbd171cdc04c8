"""The kit as an app of the platform: the code and the packages that its services need, and nothing else."""

import shutil
from importlib.metadata import version
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
#: What a service of the app imports; notebooks, the offline platform and the command line stay at home.
ROOMS = (
    "__init__",
    "_moved",
    "configurations",
    "data",
    "dataloop",
    "evaluation",
    "files",
    "learners",
    "mining",
    "parallel",
    "protocols",
    "records",
    "scores",
    "training",
    "uncertainty",
)
#: The packages that these rooms import.
REQUIREMENTS = (
    "cloudpickle",
    "dtlpy",
    "jsonschema",
    "numpy",
    "pillow",
    "pyarrow",
    "pydantic",
    "scikit-learn",
    "torch",
)


def write_codebase(folder: str | Path) -> Path:
    """Write the code of the app, ready for ``project.dpks.publish(manifest_filepath=..., local_path=folder)``.

    Parameters
    ----------
    folder : path
        Where to; it must be empty or missing.

    Returns
    -------
    Path
        The folder: it holds ``alhelpers`` with the rooms that services import, and ``requirements.txt`` with
        the versions that are installed here.

    Raises
    ------
    FileExistsError
        If the folder holds something: what lies there would be published as well.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    if any(target.iterdir()):
        raise FileExistsError(
            f"{target} is not empty: everything in it would be published, choose another folder"
        )
    package = target / PACKAGE.name
    package.mkdir()
    for room in ROOMS:
        if (PACKAGE / room).is_dir():
            shutil.copytree(PACKAGE / room, package / room, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(PACKAGE / f"{room}.py", package)
    lines = [f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS]
    (target / "requirements.txt").write_text("\n".join(lines) + "\n")
    return target
