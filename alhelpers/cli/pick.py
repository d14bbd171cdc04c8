"""The command ``pick``: the pictures of a folder to label next, by a model of one's own or the photo network."""

import argparse
import json
import math
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alhelpers.cli.output import (
    boxes,
    boxes_of,
    boxes_said,
    count,
    fail,
    local,
    names_of,
    print_lines,
    progress_bar,
    say,
    say_left_out,
    seed_of,
)
from alhelpers.cli.strategy import Rows, WrongUsage, check_strategy, compares, metadata_of, strategy_options
from alhelpers.cli.tables import check_no_json, write_rows

if TYPE_CHECKING:
    from alhelpers.data import FolderDataset
    from alhelpers.learners import TorchClassifier
    from alhelpers.mining import Selection

#: The columns of the table of picks.
COLUMNS = ("path", "rank", "score")

Picks = list[tuple[str, int, float]]


def add_to(commands: Any) -> None:
    """Add the command to a parser."""
    pick = commands.add_parser(
        "pick",
        help="pick the pictures of a folder to label next",
        description="Predict the pictures in PHOTOS with a model, or with the photo network of the extra 'photos' if "
        "there is none, and write those that are most worth labelling. Files "
        "in a subfolder are labelled with its name, and never picked; those beside the subfolders, and in one that is "
        "called 'unlabelled', are the pool. Nothing is written unless all of it can be.",
        epilog="The model file defines build(), which returns a torch.nn.Module or a learner, and may define "
        "preprocess and logits (functions of a batch) and class_names. It is imported, so that its code runs; weights "
        "are loaded without running any. exit codes: 0 done, 1 failed, 2 wrong usage, 3 nothing left to pick",
    )
    add = pick.add_argument
    add("photos", type=Path, metavar="PHOTOS", help="a folder of pictures")
    photo = "the Python file of the model (NAME: build); default: a layer on the photo network, trained on the labels"
    add("--model", metavar="FILE.py:NAME", help=photo)
    saved = "what torch.save(model.state_dict(), FILE) wrote, or the folder that learner.save(FOLDER) wrote"
    add("--weights", type=Path, metavar="FILE|FOLDER", help=saved)
    add("-n", "--number", type=count, default=50, metavar="N", help="how many to pick (default: 50)")
    add("--max-boxes", type=boxes, metavar="B", help="of a detector: the most boxes expected on the picks")
    add("-o", "--output", type=local, required=True, metavar="CSV", help="a table of path, rank and score")
    add("--labels", type=Path, metavar="CSV", help="a table of path and label, in place of the subfolders")
    add("--classes", type=names_of, metavar="A,B,C", help="the classes in the order of the model's outputs")
    resized = "pixels that pictures are resized to (default: as they are, if all have one size)"
    add("--size", type=size_of, metavar="S or HxW", help=resized)
    by = (
        "a strategy of alhelpers.mining (default: entropy; untrained: typicality; of a regression: spread; of a "
        "detector: box_uncertainty; of a segmenter: metadata.bald), "
        "metadata.COLUMN, or a function of one's own"
    )
    add("--strategy", metavar="NAME|FILE.py:FUNCTION", help=by)
    listed = "an option of the strategy, such as of=errors; alhelpers.mining.strategies() lists them"
    add("--option", action="append", default=[], metavar="NAME=VALUE", help=listed)
    known = "a table of path and what a strategy reads as metadata.COLUMN, the highest number first"
    add("--metadata", type=Path, metavar="CSV", help=known)
    add("--passes", type=count, default=20, metavar="T", help="predictions with dropout on (default: 20)")
    add("--seed", type=seed_of, default=0, metavar="S", help="a whole number from 0 on (default: 0)")
    add("--copy-to", type=Path, metavar="FOLDER", help="also copy the picks into a new folder")
    add("--link", action="store_true", help="make links instead of copies")
    add(
        "--sheet", type=local, metavar="HTML", help="also write a page that shows the picks with their scores"
    )
    add("--force", action="store_true", help="replace the table and the page if they are there")
    add("--json", action="store_true", help="print one JSON object")
    pick.set_defaults(function=_pick)


def size_of(text: str) -> tuple[int, int]:
    """Parse a height and a width, or both in one."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise argparse.ArgumentTypeError(f"must be pixels such as 64 or 48x64 (height x width), got {text!r}")
    return int(sides[0]), int(sides[-1])


def _pick(options: argparse.Namespace) -> int:
    """Pick, and write the table, the copies and the page, all or none."""
    from alhelpers import mining
    from alhelpers.cli.functions import OwnCodeError, own_errors

    try:
        _check(options)
        known = check_strategy(options)
    except ValueError as error:
        return fail(error, 2)
    try:
        with warnings.catch_warnings(), own_errors():
            warnings.showwarning = lambda message, *_: say(f"warning: {_as_options(str(message), options)}")
            photos, selection = _selected(options, known)
        picks = [
            (id, rank, float(score))
            for rank, (id, score) in enumerate(zip(selection.ids, selection.scores, strict=True), start=1)
        ]
        try:
            _write(options, photos, picks)
        except OSError as error:
            places = ", ".join(str(path) for path in _places(options) if path is not None)
            return fail(f"nothing was written to {places}: {error.strerror or error}; name another place")
    except mining.PoolExhausted as error:
        say(str(error))
        nothing = {"output": str(options.output), "picked": 0, "picks": []}
        return print_lines([json.dumps(nothing)] if options.json else [], 3)
    except KeyboardInterrupt:
        return fail("interrupted: nothing was written")
    except WrongUsage as error:
        return fail(error, 2)
    except OwnCodeError as error:
        of_model = isinstance(error.__cause__, RuntimeError) and not callable(known[0])
        return fail(f"{error}{_OTHER_INPUT if of_model else ''}")
    except ValueError as error:
        return fail(_as_options(str(error), options))
    except RuntimeError as error:  # what torch raises
        reason = str(error).strip().partition("\n")[0]
        model = f"the model of {options.model}" if options.model else "the photo network"
        return fail(f"{model} failed on these pictures: {reason}{_OTHER_INPUT}")
    return print_lines(_lines(options, photos, selection, picks), 0)


_OTHER_INPUT = (
    "; if it was built for another size, pass --size, and for other numbers, define preprocess in its file"
)


def _as_options(text: str, options: argparse.Namespace) -> str:
    """Return a message about arguments in Python as one about the command line and the model's file."""
    text = text.replace("pass size=, such as size=64,", "pass --size, such as --size 64,")
    text = text.replace(
        "pass metadata=, one value for each row, where it can be passed", "name a table with --metadata"
    )
    file = (options.model or "its file").partition(":")[0]
    hook = (
        r"name it: logits=(lambda output: .*)|(?:with )?TorchClassifier\(\.\.\., logits=(lambda output: .*)\)"
    )

    def defined(found: re.Match[str]) -> str:
        before = "name it: define" if found[1] else "define"
        return f"{before} logits = {found[1] or found[2]} in {file}"

    return re.sub(hook, defined, text)


def _check(options: argparse.Namespace) -> None:
    """Raise a ValueError before anything is computed if an input is missing, or the outputs cannot be written."""
    if not options.photos.is_dir():
        raise ValueError(f"{options.photos} is not a folder: name the one that holds the pictures")
    if options.labels is not None and not options.labels.is_file():
        raise ValueError(f"{options.labels} is not there: name a CSV file with the columns path and label")
    if options.labels is not None:
        check_no_json(options.labels, "label")
    if options.model is not None:
        from alhelpers.cli.model_file import check_place

        check_place(options.model, options.weights)
    outputs = [path for path in (options.output, options.sheet) if path is not None]
    for path in outputs:
        if path.exists() and not options.force:
            raise ValueError(f"{path} is there already: choose another name, or replace it with --force")
    if len({os.path.abspath(path) for path in outputs}) < len(outputs):
        raise ValueError(f"-o and --sheet are both {options.output}: choose two names")
    if options.weights is not None and options.model is None:
        raise ValueError(
            f"--weights {options.weights} is of no model: name its file with --model FILE.py:NAME"
        )
    if options.link and options.copy_to is None:
        raise ValueError("--link makes links in a folder: name it with --copy-to FOLDER")
    if (folder := options.copy_to) is not None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ValueError(f"{folder} is there already and is not empty: choose a new folder for the picks")
        if folder.resolve().is_relative_to(options.photos.resolve()):
            raise ValueError(
                f"{folder} is inside of {options.photos}, where it would be a class: choose a folder outside"
            )


def _selected(options: argparse.Namespace, known: tuple[Any, Rows]) -> tuple["FolderDataset", "Selection"]:
    """Read the folder and the model, and pick."""
    from alhelpers import loop

    strategy, rows = known
    if options.classes is not None:
        _check_classes(options)
    if options.model is None:
        learner, photos = _photo_model(options)
    else:
        learner, photos = _own_model(options)
    own = options.strategy if strategy is None else strategy
    given = strategy_options(options, own)
    if getattr(learner, "task", None) == "detection" and compares(own):
        say(
            f"no labelled boxes are read here: {options.strategy} compares with none; in Python, pass them to"
            " alhelpers.loop.pick as reference=data.coco(...)"
        )
    with progress_bar("reading") as progress:
        selection = loop.pick(
            learner,
            photos,
            options.number,
            strategy=own,
            max_boxes=options.max_boxes,
            metadata=metadata_of(options, rows, photos),
            passes=options.passes,
            seed=options.seed,
            progress=progress,
            **given,
        )
    return photos, selection


def _check_classes(options: argparse.Namespace) -> None:
    """Raise if a label is not among --classes."""
    from alhelpers import data

    names = data.folder(options.photos, options.labels).class_names or ()
    several = options.labels is not None  # perhaps: a table for multilabel has ; between labels
    for name in names:
        for part in name.split(";") if several and name not in options.classes else [name]:
            if part.strip() and part.strip() not in options.classes:
                raise WrongUsage(
                    f"--classes {','.join(options.classes)} lacks the label {part.strip()!r}: add it, or correct the"
                    f" label in {options.labels or options.photos}"
                )


def _own_model(options: argparse.Namespace) -> tuple["TorchClassifier", "FolderDataset"]:
    """Read the model of the command line, and the folder as it takes it."""
    from alhelpers import data
    from alhelpers.cli.model_file import load_model
    from alhelpers.loop.picking import default_strategy

    model = load_model(options.model, options.weights, options.seed)
    task = getattr(model.learner, "task", "classification")
    options.strategy = options.strategy or default_strategy(task)
    names, own = options.classes or model.class_names, getattr(model.learner, "class_names", None)
    if options.classes and own and options.classes != [*own]:
        raise WrongUsage(
            f"--classes {','.join(options.classes)} are not the classes of the model, {','.join(own)}, in their order:"
            " leave --classes out"
        )
    several = task == "multilabel" and options.labels is not None
    photos = data.folder(
        options.photos,
        options.labels,
        size=options.size,
        task="multilabel" if several else "classification",
        class_names=names,
    )
    size = "as they are" if options.size is None else "{} x {} pixels".format(*options.size)
    then = f", then through preprocess of {options.model.partition(':')[0]}" if model.preprocesses else ""
    known = ", ".join(photos.class_names or own or ()) or "not named (--classes names them)"
    order = "" if names or not photos.class_names else " (sorted; --classes A,B,C changes it)"
    classes = f"classes in the order of the outputs: {known}{order}"
    outputs = "the outputs are numbers" if task == "regression" else classes
    say(f"pictures become RGB, 0 to 1, {size}{then}; {outputs}")
    if options.weights is None:
        say("no --weights: the model is used as it was built")
    return model.learner, photos


def _photo_model(options: argparse.Namespace) -> tuple["TorchClassifier", "FolderDataset"]:
    """Train a layer on the photo network's embeddings, if two classes are labelled; read the folder at its size."""
    from alhelpers import data
    from alhelpers.learners import photo_classifier
    from alhelpers.learners.photos import SIZE

    size = options.size or (SIZE, SIZE)
    photos = data.folder(options.photos, options.labels, size=size, class_names=options.classes)
    learner = photo_classifier(len(photos.class_names or ()) or 2, seed=options.seed)
    labelled = photos.labelled
    if len(set(labelled.labels().tolist())) > 1:
        labelled = labelled.readable()
        learner.fit(labelled, seed=options.seed)
        options.strategy = options.strategy or "entropy"
        trained = f"with one layer trained on {len(labelled)} labelled pictures"
    else:
        options.strategy = options.strategy or "typicality"
        trained = "untrained, as no two classes are labelled"
    say(f"no --model: the photo network, {trained}; picks by {options.strategy}")
    return learner, photos


# ------------------------------------------------------------------------------
# what is written
# ------------------------------------------------------------------------------


def _write(options: argparse.Namespace, photos: "FolderDataset", picks: Picks) -> None:
    """Write everything beside its place, and move it there when all of it is complete."""
    from alhelpers.cli.sheet import write_sheet
    from alhelpers.files import replacing

    with ExitStack() as outputs:
        rows = [(path, rank, f"{score:.9g}") for path, rank, score in picks]  # all digits of a float32
        write_rows(outputs.enter_context(replacing(options.output)), COLUMNS, rows)
        if options.sheet is not None:
            title = f"{len(picks)} picks of {options.photos.resolve().name} by {options.strategy}"
            write_sheet(outputs.enter_context(replacing(options.sheet)), title, photos.root, picks)
        if options.copy_to is not None:
            folder = outputs.enter_context(_new_folder(options.copy_to))
            _copy(photos.root, [path for path, *_ in picks], folder, link=options.link)


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder that takes its place at the end, or is deleted on any exception."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        yield part
        part.chmod(0o755)
        if target.exists():
            target.rmdir()  # empty, or it raises
        part.rename(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _copy(root: Path, paths: Sequence[str], folder: Path, *, link: bool) -> None:
    for path in paths:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if link:
            target.symlink_to((root / path).resolve())
        else:
            shutil.copy2(root / path, target)


def _places(options: argparse.Namespace) -> list[Path | None]:
    return [options.output, options.sheet, options.copy_to]


def _lines(
    options: argparse.Namespace, photos: "FolderDataset", selection: "Selection", picks: Picks
) -> list[str]:
    """Return what is printed; what was left out is said beside."""
    from alhelpers.data import Problem

    problems = selection.meta["problems"]
    say_left_out([Problem(**problem) for problem in problems], "files (--json lists all)")
    pool = selection.meta["pool"]
    written, expected = _places(options), boxes_of(selection, options.number)
    if not options.json:
        held = ", ".join(str(path) for path in written if path is not None)
        said = f"picked {len(picks)} of {pool} pictures by {options.strategy}{boxes_said(expected)}"
        return [f"{said}; written: {held}"]
    rows = [
        {"path": path, "rank": rank, "score": score if math.isfinite(score) else None}
        for path, rank, score in picks
    ]
    content = {
        **dict(zip(("output", "sheet", "folder"), (path and str(path) for path in written), strict=True)),
        "picked": len(picks),
        "pool": pool,
        **expected,
        "strategy": options.strategy,
        "seed": options.seed,
        "class_names": photos.class_names,
        "problems": problems,
        "picks": rows,
    }
    return [json.dumps(content)]
