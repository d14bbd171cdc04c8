"""What the notebook tests share."""

from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
NAMES = [path.stem for path in PATHS]

#: Small enough for a test; each notebook takes those that it has.
SMALL = {
    "items": 120,
    "pool_items": 120,
    "arrivals": 12,
    "size": 20,
    "steps_of_base": 60,
    "training_steps": 80,
    "passes": 5,
    "members": 3,
    "strange": 10,
    "hidden": [8],
    "scale": [2000, 4000, 8000],
    "nights": 2,
    "rounds": 1,
    "round_size": 5,
    "strategies": ["random", "margin + typicality"],
    "contenders": ["margin", "mc_dropout > typicality"],
    "steps": 80,
    "seeds": 2,
    "budget": 40,
    "draws": 6,
    "chance_draws": 3,
}

#: Where a notebook needs others; each item of the pipelines takes several requests.
SMALL_OF = {
    "03_train_with_mc_dropout": {"dataset": "digits"},
    "04_train_committee": {"dataset": "digits"},
    "05_compare_models": {"dataset": "digits"},
    "06_mine_pool": {"dataset": "digits", "training_steps": 40, "map_items": 100, "labels": 40, "many": 60},
    "08_run_the_pipeline": {"dataset": "digits", "pool_items": 40},
    "09_use_your_own_data": {
        "pool_items": 150,
        "labels": 20,
        "size": 20,
        "budget": 60,
        "seeds": 2,
        "training_steps": 60,
        "tickets": 300,
        "upload": 40,
    },
    "12_detect_objects": {
        "scenes": 40,
        "looked": 60,
        "steps": 12,
        "pool_images": 80,
        "initial": 10,
        "budget": 30,
        "test_images": 40,
        "uploaded": 8,
        "platform_steps": 40,
        "drawn": 2,
    },
    "13_segment_images": {
        "pool_images": 60,
        "test_images": 30,
        "initial": 10,
        "round_size": 4,
        "budget": 20,
        "passes": 3,
        "training_steps": 8,
        "watched": 24,
        "upload": 4,
    },
    "16_label_relabel_or_stop": {
        "dataset": "digits",
        "last": 200,
        "images": 150,
        "answers": 300,
        "looked": 180,
    },
}


def read(path):
    return nbformat.read(str(path), as_version=4)


def code_cells(document):
    return [cell for cell in document.cells if cell.cell_type == "code"]


def prose_cells(document):
    return [cell for cell in document.cells if cell.cell_type == "markdown"]


def tags(cell):
    return cell.metadata.get("tags", [])
