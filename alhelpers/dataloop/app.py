"""The code of the app: the modules that its services import, and their requirements, and nothing else."""

import shutil
from importlib.metadata import version
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
#: The modules that the app's services import; notebooks, the offline platform and the command line are left out.
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
#: The packages that these modules import.
REQUIREMENTS = ("cloudpickle", "dtlpy", "numpy", "pillow", "pyarrow", "pydantic", "scikit-learn", "torch")


def write_codebase(folder: str | Path) -> Path:
    """Write the code of the app, ready for ``project.dpks.publish(manifest_filepath=..., local_path=folder)``.

    The folder must be empty or missing; it gets ``alhelpers``, the modules that services import, and
    ``requirements.txt``, the versions that are installed here.
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
