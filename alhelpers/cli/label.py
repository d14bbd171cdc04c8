"""The command ``label``: classes for the pictures of a folder, on the platform's page or in the terminal."""

import argparse
import json
import signal
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alhelpers.cli.output import count, fail, local, names_of, print_lines, say
from alhelpers.cli.tables import KEY, read_table, write_table

if TYPE_CHECKING:
    from alhelpers.data import FolderDataset

# Seconds between two looks at what was labelled on the page, and how long an end can still be undone there.
_EVERY, _LINGER = 1.0, 5.0

_HELP = "number or name of a class, Enter to skip, u to undo, q to stop"


def add_to(commands: Any) -> None:
    """Add the command to a parser."""
    label = commands.add_parser(
        "label",
        help="label the pictures of a folder",
        description="Open the labelling page of the offline platform with the pictures in PHOTOS that have no label, "
        "and write their classes to a table, again after each answer; in a terminal without a browser, ask there. The "
        "table holds the labels of subfolders, too, so that alhelpers pick --labels and data.folder(labels=) need no "
        "other. Run the command again to continue.",
        epilog="exit codes: 0 done, 1 failed, 2 wrong usage, 3 nothing left to label",
    )
    add = label.add_argument
    add("photos", type=Path, metavar="PHOTOS", help="a folder of pictures")
    table = "a table of path and label; what it holds already is kept"
    add("-o", "--output", type=local, required=True, metavar="CSV", help=table)
    add("--classes", type=names_of, metavar="A,B,C", help="the classes (default: those that have examples)")
    add("--picks", type=Path, metavar="CSV", help="label the pictures of this table first, in its order")
    add("-n", "--number", type=count, default=200, metavar="N", help="label at most N (default: 200)")
    add("--terminal", action="store_true", help="ask in the terminal, also where there is a browser")
    add("--json", action="store_true", help="print one JSON object at the end")
    label.set_defaults(function=_label)


def _label(options: argparse.Namespace) -> int:
    """Ask for labels until all are there or the user stops, and write them."""
    from alhelpers import data

    try:
        work = _Work(data.folder(options.photos), options)
        if not work.queue:
            say(f"nothing is left to label: every picture in {options.photos} has a label")
            return print_lines([json.dumps(work.summary())] if options.json else [], 3)
        terminal = options.terminal or (sys.stdin.isatty() and not _has_browser())
        (_ask if terminal else _open_page)(work)
    except (ValueError, RuntimeError) as error:
        return fail(error)
    found = work.summary()
    said = f"labelled {found['labelled']} pictures, {found['left']} of these {len(work.queue)} are left; "
    return print_lines(
        [json.dumps(found) if options.json else f"{said}{options.output} holds {found['total']}"], 0
    )


class _Work:
    """Which pictures are to be labelled, with which classes, and what is labelled."""

    def __init__(self, photos: "FolderDataset", options: argparse.Namespace) -> None:
        self.photos, self.output = photos, options.output
        known = set(photos.ids.tolist())
        labelled = photos.labelled
        names = photos.class_names or ()
        #: The labels that are there from the start, and the new ones.
        self.before = dict(zip(labelled.ids.tolist(), (names[row] for row in labelled.labels()), strict=True))
        self.answers: dict[str, str] = {}
        if self.output.exists():
            rows = read_table(self.output, "label")
            if rows and (more := [name for name in rows[0] if name not in (KEY, "label")]):
                raise ValueError(
                    f"{self.output} has the column {more[0]!r}, which would be lost: choose another name"
                )
            _check_known(self.output, [row[KEY] for row in rows], known, photos.root)
            self.before |= {row[KEY]: row["label"] for row in rows if row["label"]}
        self.classes = list(dict.fromkeys([*(options.classes or ()), *sorted(set(self.before.values()))]))
        if not self.classes:
            raise ValueError(
                f"there are no classes: name them with --classes, as {photos.root} has no subfolder"
            )
        first = []
        if options.picks is not None:
            first = [row[KEY] for row in read_table(options.picks)]
            _check_known(options.picks, first, known, photos.root)
        empty = {problem.id for problem in photos.problems}
        order = dict.fromkeys([*first, *photos.ids.tolist()])
        self.queue = [id for id in order if id not in self.before and id not in empty][: options.number]
        self._written: Mapping[str, str] | None = None

    def save(self, answers: Mapping[str, str]) -> None:
        """Write the table, unless it holds these answers already."""
        if dict(answers) == self._written:
            return
        self.answers = self._written = dict(answers)
        write_table(self.output, (KEY, "label"), sorted((self.before | self.answers).items()))

    def summary(self) -> dict[str, Any]:
        """Return how far the labelling is."""
        return {
            "output": str(self.output),
            "labelled": len(self.answers),
            "left": len(self.queue) - len(self.answers),
            "total": len(self.before) + len(self.answers),
            "class_names": self.classes,
        }


def _check_known(table: Path, paths: list[str], known: set[str], root: Path) -> None:
    if unknown := [path for path in paths if path not in known]:
        raise ValueError(
            f"{table} has the path {unknown[0]!r}, which is no picture in {root}: correct or remove it"
        )


# ------------------------------------------------------------------------------
# in the terminal
# ------------------------------------------------------------------------------


def _ask(work: _Work) -> None:
    """Ask for the class of one picture after the other."""
    say(", ".join(f"{number} {name}" for number, name in enumerate(work.classes, start=1)) + f"; {_HELP}")
    place, answers, done = 0, dict[str, str](), list[str]()
    while place < len(work.queue):
        path = work.queue[place]
        file = (work.photos.root / path).resolve()
        print(
            f"[{place + 1}/{len(work.queue)}] {path} {file.as_uri()}: ", end="", file=sys.stderr, flush=True
        )
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            line = ""
        answer = line.strip()
        if not line or answer == "q":
            print(file=sys.stderr)
            return
        if answer == "u" and "u" not in work.classes:
            if done:
                answers.pop(done.pop(), None)
                place -= 1
                work.save(answers)
            continue
        label = _class_of(answer, work.classes)
        if answer and label is None:
            say(f"{answer!r} is none of them: {_HELP}")
            continue
        if label is not None:
            answers[path] = label
            work.save(answers)
        done.append(path)
        place += 1


def _class_of(answer: str, classes: list[str]) -> str | None:
    """Return the class of a name or a number; names come first, as they may be numbers."""
    if answer in classes:
        return answer
    if answer.isdecimal() and 0 < int(answer) <= len(classes):
        return classes[int(answer) - 1]
    return None


# ------------------------------------------------------------------------------
# on the page
# ------------------------------------------------------------------------------


def _open_page(work: _Work) -> None:
    """Serve the labelling page of a platform of its own until all is labelled, or until Ctrl-C."""
    from alhelpers import platform
    from alhelpers.notebook import connect

    with platform.start() as own, _stopped() as stop:
        dl = connect(project="Labelling", state_dir=own.state_dir)
        # the SDK reads its settings when it is imported
        from alhelpers.dataloop.labelling import TaskError, read_answers

        task, paths = _make_task(dl, work)
        link = own.page.replace("/?", f"/tasks/{task.id}/label?")
        say(
            f"{len(work.queue)} pictures to label on this page (Ctrl-C stops; {work.output} is written as you label):"
        )
        print(link, file=sys.stderr, flush=True)
        if _has_browser():
            webbrowser.open(link)
        finished: float | None = None
        while finished is None or time.monotonic() < finished + _LINGER:
            stopping = stop.wait(_EVERY)
            try:
                found = read_answers(task)
            except TaskError as error:
                raise RuntimeError(str(error)) from error
            work.save({paths[id]: labels[0] for id, labels in found.items() if len(labels) == 1})
            if stopping:
                return
            done = all(item.status(task_id=task.id) for item in task.get_items().all())
            finished = (finished or time.monotonic()) if done else None


def _make_task(dl: Any, work: _Work) -> tuple[Any, dict[str, str]]:
    """Upload the pictures in their order, and return their task and their paths by item."""
    dataset = dl.projects.get(project_name="Labelling").datasets.create(
        work.photos.root.resolve().name or "photos"
    )
    dataset.add_labels(work.classes)
    paths = {}
    for number, path in enumerate(work.queue):
        name = f"{number:05d}-{Path(path).name}"
        item = dataset.items.upload(
            str(work.photos.root / path), remote_path="/", remote_name=name, raise_on_error=True
        )
        paths[item.id] = path
    me = dl.client_api.info()["user_email"]
    return dataset.tasks.create(task_name="label", assignee_ids=[me], scoring=None), paths


@contextmanager
def _stopped() -> Iterator[threading.Event]:
    """Yield what Ctrl-C sets, instead of raising an error between two writes."""
    event = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: event.set()) for number in numbers]
    try:
        yield event
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def _has_browser() -> bool:
    """Return whether a browser with windows can be opened."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return False
    return type(browser) is not webbrowser.GenericBrowser
