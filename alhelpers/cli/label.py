"""The command ``label``: classes for the pictures of a folder, on the platform's page or in the terminal."""

import argparse
import json
import re
import signal
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alhelpers.cli.output import count, fail, local, names_of, print_lines, say, say_left_out
from alhelpers.cli.tables import KEY, read_table, write_table

if TYPE_CHECKING:
    from alhelpers.data import FolderDataset, Problem

# Seconds between two looks at what was labelled on the page, and how long an end can still be undone there.
_EVERY, _LINGER = 1.0, 5.0

# Side in pixels to which pictures are read, as this only finds out whether they can be.
_SMALL = 8

# Not to be in a name on the platform, and what stands for them.
_CONTROL = re.compile(r"[%\\\x00-\x1f\x7f-\x9f]")

#: The column that says what was put aside, and what it says.
STATUS, DISCARDED = "status", "discarded"

_HELP = "a class, Enter to skip, d to put aside, u to undo, q to stop"


def add_to(commands: Any) -> None:
    """Add the command to a parser."""
    label = commands.add_parser(
        "label",
        help="label the pictures of a folder",
        description="Open the labelling page of the offline platform with the pictures in PHOTOS that have no label, "
        "and write their classes to a table, again after each answer; in a terminal without a browser, ask there. The "
        "table holds the labels of subfolders, too, so that alhelpers pick --labels and data.folder(labels=) need no "
        "other. What is discarded is put aside: it has no label, and the status 'discarded', and is not asked for "
        "again. Ctrl-C stops and keeps the answers; run the command again to continue.",
        epilog="exit codes: 0 done or stopped, 1 failed, 2 wrong usage, 3 nothing left to label",
    )
    add = label.add_argument
    add("photos", type=Path, metavar="PHOTOS", help="a folder of pictures")
    table = "a table of path and label; what it holds already is kept"
    add("-o", "--output", type=local, required=True, metavar="CSV", help=table)
    add("--classes", type=names_of, metavar="A,B,C", help="the classes (default: those that have examples)")
    add("--picks", type=Path, metavar="CSV", help="label only the pictures of this table, in its order")
    add("-n", "--number", type=count, default=200, metavar="N", help="label at most N (default: 200)")
    add("--terminal", action="store_true", help="ask in the terminal, also where there is a browser")
    add("--json", action="store_true", help="print one JSON object at the end")
    label.set_defaults(function=_label)


def _label(options: argparse.Namespace) -> int:
    """Ask for labels until all are there or the user stops, and write them."""
    from alhelpers import data

    work = None
    try:
        work = _Work(data.folder(options.photos, size=_SMALL), options)
        work.save({})
        say_left_out(work.problems)
        if work.aside:
            say(f"put aside: {len(work.aside)}, as {options.output} has them as {DISCARDED}")
        if not work.queue:
            say(f"nothing is left to label: {work.all} that can be read has a label, or is put aside")
            return print_lines([json.dumps(work.summary())] if options.json else [], 3)
        if work.skipped:
            say(f"{work.skipped} of the pictures in {options.picks} have a label already, or are put aside")
        terminal = options.terminal or (sys.stdin.isatty() and not _has_browser())
        (_ask if terminal else _open_page)(work)
    except (ValueError, RuntimeError) as error:
        return fail(error)
    except KeyboardInterrupt:
        if work is None:
            return fail("interrupted")
        print(file=sys.stderr)
        work.save(work.answers)
    found = work.summary()
    said = f"labelled {found['labelled']} pictures, {found['left']} of these {len(work.queue)} are left; "
    if found["discarded"]:
        said = said.replace(",", f", put {found['discarded']} aside,", 1)
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
        #: The labels that are there from the start, and what was put aside.
        self.before = dict(zip(labelled.ids.tolist(), (names[row] for row in labelled.labels()), strict=True))
        self.aside: set[str] = set()
        #: The new answers: a class, or None for what is put aside.
        self.answers: dict[str, str | None] = {}
        if self.output.exists():
            self._read(known)
        self.classes = list(dict.fromkeys([*(options.classes or ()), *sorted(set(self.before.values()))]))
        if not self.classes:
            raise ValueError(
                f"there are no classes: name them with --classes, as {photos.root} has no subfolder"
            )
        asked, self.all = photos.ids.tolist(), f"every picture in {options.picks or photos.root}"
        if options.picks is not None:
            asked = [row[KEY] for row in read_table(options.picks)]
            _check_known(options.picks, asked, known, photos.root)
        waiting = [id for id in asked if id not in self.before and id not in self.aside]
        self.skipped = 0 if options.picks is None else len(asked) - len(waiting)
        self.queue, self.problems = _readable(photos, waiting, options.number)
        self._written: Mapping[str, str | None] | None = None

    def _read(self, known: set[str]) -> None:
        """Take over what the table holds."""
        rows = read_table(self.output, "label")
        if rows and (more := [name for name in rows[0] if name not in (KEY, "label", STATUS)]):
            raise ValueError(
                f"{self.output} has the column {more[0]!r}, which would be lost: choose another name"
            )
        _check_known(self.output, [row[KEY] for row in rows], known, self.photos.root)
        for row in rows:
            path, label, status = row[KEY], row["label"], row.get(STATUS, "")
            if status not in ("", DISCARDED) or (status and label):
                raise ValueError(
                    f"{self.output} has the status {status!r} and the label {label!r} for {path}: a status must be"
                    f" empty, or {DISCARDED!r} without a label"
                )
            if status:
                self.aside.add(path)
                self.before.pop(path, None)
            elif label:
                self.before[path] = label

    def save(self, answers: Mapping[str, str | None]) -> None:
        """Write the table, unless it holds these answers already."""
        self.answers = dict(answers)
        if self.answers == self._written:
            return
        held = self.before | dict.fromkeys(self.aside) | self.answers
        rows = [(path, label or "", "" if label else DISCARDED) for path, label in sorted(held.items())]
        width = 3 if None in held.values() else 2  # a status only where one is needed
        write_table(self.output, (KEY, "label", STATUS)[:width], [row[:width] for row in rows])
        self._written = self.answers

    def summary(self) -> dict[str, Any]:
        """Return how far the labelling is."""
        labelled = sum(label is not None for label in self.answers.values())
        return {
            "output": str(self.output),
            "labelled": labelled,
            "discarded": len(self.answers) - labelled,
            "left": len(self.queue) - len(self.answers),
            "total": len(self.before) + labelled,
            "class_names": self.classes,
        }


def _readable(photos: "FolderDataset", ids: list[str], number: int) -> tuple[list[str], list["Problem"]]:
    """Return the first of the pictures that can be read, at most so many, and what of those before cannot."""
    place = {id: row for row, id in enumerate(photos.ids.tolist())}
    images, problems = next(photos.take([place[id] for id in ids]).chunks(number), (None, []))
    copies = {problem.id for problem in problems if problem.kind == "duplicate"}  # these may be labelled
    read = copies.union([] if images is None else images.ids.tolist())
    return [id for id in ids if id in read][:number], [each for each in problems if each.id not in copies]


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
    numbered = _numbered(work.classes)
    names = (f"{number} {name}" for number, name in enumerate(work.classes, start=1))
    say(", ".join(names if numbered else work.classes) + f"; {'number or name of ' * numbered}{_HELP}")
    place, answers, done = 0, dict[str, str | None](), list[str]()
    while place < len(work.queue):
        path = work.queue[place]
        say(f"[{place + 1}/{len(work.queue)}] {_shown(path)}")
        print(f"  {(work.photos.root / path).resolve().as_uri()}: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not sys.stdin.isatty():  # where nobody has pressed Enter
            print(file=sys.stderr)
        answer = line.strip()
        if not line or answer == "q":
            return
        if answer == "u" and "u" not in work.classes:
            if done:
                answers.pop(done.pop(), None)
                place -= 1
                work.save(answers)
            continue
        label = _class_of(answer, work.classes)
        aside = label is None and answer == "d"
        if answer and label is None and not aside:
            say(f"{answer!r} is none of them: {_HELP}")
            continue
        if answer:
            answers[path] = label
            work.save(answers)
        done.append(path)
        place += 1


def _numbered(classes: list[str]) -> bool:
    """Return whether classes can be chosen by number: not if a name is a number, too."""
    return not any(name.isdecimal() for name in classes)


def _class_of(answer: str, classes: list[str]) -> str | None:
    """Return the class of a name or a number."""
    if answer in classes:
        return answer
    if _numbered(classes) and answer.isdecimal() and 0 < int(answer) <= len(classes):
        return classes[int(answer) - 1]
    return None


def _shown(path: str) -> str:
    """Return a path without characters that break a line; no two paths become one."""
    return _CONTROL.sub(lambda found: f"%{ord(found[0]):02X}", path)


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
            statuses = {item.id: item.status(task_id=task.id) for item in task.get_items().all()}
            answers = {paths[id]: labels[0] for id, labels in found.items() if len(labels) == 1}
            work.save(answers | {paths[id]: None for id, status in statuses.items() if status == "discard"})
            if stopping:
                return
            done = all(statuses.values())
            finished = (finished or time.monotonic()) if done else None
        if left := len(work.queue) - len(work.answers):
            say(f"{left} were completed without a class, or with several: the next run asks for them again")


def _make_task(dl: Any, work: _Work) -> tuple[Any, dict[str, str]]:
    """Upload the pictures in their order, and return their task and their paths by item."""
    dataset = dl.projects.get(project_name="Labelling").datasets.create(
        work.photos.root.resolve().name or "photos"
    )
    dataset.add_labels(work.classes)
    paths = {}
    for path in work.queue:
        folder, _, name = _shown(path).rpartition("/")
        item = dataset.items.upload(
            str(work.photos.root / path), remote_path=f"/{folder}", remote_name=name, raise_on_error=True
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
