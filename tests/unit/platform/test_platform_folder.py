"""State folders that are damaged, foreign or not ours alone: refused or repaired with a sentence."""

import errno
import json
import os
import random
import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from contextlib import closing, suppress
from pathlib import Path

import pytest
from platform_client import Client, Refused

import alhelpers.platform
from alhelpers.platform import StateUnusable
from alhelpers.platform.store import Store

NOBODY = 65534
CREDENTIALS = {"type": "service_account", "token": "x", "secret": "y", "email": "z"}


def everything_in(path):
    """The names, modes and bytes of a folder and all that is in it, or of a file."""
    found = {}
    for each in (path, *sorted(path.rglob("*"))):
        content = os.readlink(each) if each.is_symlink() else each.read_bytes() if each.is_file() else None
        found[str(each.relative_to(path))] = (each.lstat().st_mode, content)
    return found


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A state folder of which the server was killed: a part of its changes is in the log alone."""
    folder = tmp_path_factory.mktemp("original") / "state"
    with alhelpers.platform.start(folder) as platform:
        client = Client(platform.url, platform.token)
        dataset = client.dataset()["id"]
        for number in range(30):
            client.upload(dataset, f"/{number}.bin", b"x" * number)
        # Freed with the platform, so this reader keeps it from moving the log into the database.
        killed = folder.with_name("killed")
        shutil.copytree(folder, killed)
    (killed / "server.json").unlink()
    return killed


@pytest.fixture
def folder(original, tmp_path):
    return Path(shutil.copytree(original, tmp_path / "state"))


def closed(folder):
    """Move the log into the database, as a server does that is stopped."""
    Store(folder).close()
    return folder / "platform.sqlite"


def documents(folder):
    with closing(sqlite3.connect(folder / "platform.sqlite")) as database:
        return database.execute("SELECT * FROM documents ORDER BY id").fetchall()


def items(folder):
    return sum(row[1] == "items" and row[8] is not None for row in documents(folder))


def foreign_database(folder):
    database = sqlite3.connect(folder / "platform.sqlite")
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("CREATE TABLE documents (id, doc)")
    database.execute("INSERT INTO documents VALUES (1, 'mine')")
    database.commit()
    return database  # open, so that its log stays


def ordinary(folder, *names):
    shutil.rmtree(folder)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(CREDENTIALS))


def ordinary_with_a_database(folder):
    ordinary(
        folder,
        "incoming/photo.jpg",
        "blobs/00/photo.jpg",
        "workers/plan/a.txt",
        "server.log",
        "credentials.json",
    )
    return foreign_database(folder)


def replaced_by_a_file(folder):
    shutil.rmtree(folder)
    folder.write_text("a file")


def linked(name):
    def change(folder):
        elsewhere = folder.with_name("elsewhere")
        os.rename(folder / name, elsewhere)
        (folder / name).symlink_to(elsewhere)

    return change


def without_database(folder):
    for path in folder.glob("platform.sqlite*"):
        path.unlink()


def with_database(content):
    def change(folder):
        without_database(folder)
        (folder / "platform.sqlite").write_bytes(content)

    return change


def of_a_later_version(folder):
    with closing(sqlite3.connect(closed(folder))) as database:
        database.execute("PRAGMA user_version = 7")


def page(number, content):
    def change(folder):
        with open(closed(folder), "r+b") as file:
            file.seek(4096 * number)
            file.write(content)

    return change


def noise_in_a_document(folder):
    path = closed(folder)
    path.write_bytes(path.read_bytes().replace(b'"name":"7.bin"', b'"name":"\xff.bin"'))


def cut_document(folder):
    with closing(sqlite3.connect(closed(folder))) as database, database:
        database.execute("UPDATE documents SET doc = '{\"a' WHERE name = '/7.bin'")


RANDOM = random.Random(0).randbytes(4096)
UNUSABLE = {
    "an ordinary folder with a database": (ordinary_with_a_database, "nothing in it shows that the platform"),
    "a folder of uploads": (lambda folder: ordinary(folder, "incoming/a.jpg"), "nothing in it shows"),
    "a lock with words": (lambda folder: ordinary(folder, "server.lock"), "nothing in it shows"),
    "a log of another program": (lambda folder: ordinary(folder, "server.log"), "nothing in it shows"),
    "a file": (replaced_by_a_file, "it cannot be read .Not a directory"),
    "a link to itself": (
        lambda folder: (shutil.rmtree(folder), folder.symlink_to(folder)),
        "it cannot be read",
    ),
    **{
        f"{name} is a link": (linked(name), f"{name} in it is a link")
        for name in ("blobs", "incoming", "logs")
    },
    "the database is a link": (linked("platform.sqlite"), "platform.sqlite in it is a link"),
    "no database beside bytes": (without_database, "the bytes of items, but no platform.sqlite"),
    "an empty database": (with_database(b""), "it is empty"),
    "an empty database beside its log": (
        lambda folder: os.truncate(folder / "platform.sqlite", 0),
        "it is empty",
    ),
    "a word of noise": (noise_in_a_document, "Could not decode to UTF-8"),
    "a document without its end": (cut_document, "Unterminated string"),
    "no database": (with_database(b"this is no database" * 100), "file is not a database"),
    "a later version": (of_a_later_version, "its version is 7, this program's is 2"),
    **{
        f"zeros in page {number}": (page(number, bytes(4096)), "platform.sqlite cannot be used")
        for number in (0, 5)
    },
    **{
        f"noise in page {number}": (page(number, RANDOM), "platform.sqlite cannot be used")
        for number in (0, 6)
    },
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_what_cannot_be_served_is_refused_with_a_sentence_and_not_a_byte_of_it_changes(folder, case):
    change, reason = UNUSABLE[case]
    kept = change(folder)
    before = everything_in(folder.parent)
    for _ in range(2):  # the first refusal leaves what the second one is about
        with pytest.raises(StateUnusable, match=f"(?s){reason}.*Move the state folder away, or choose"):
            alhelpers.platform.start(folder)
        assert everything_in(folder.parent) == before
    if isinstance(kept, sqlite3.Connection):
        with pytest.raises(StateUnusable):
            alhelpers.platform.ensure(folder)
        assert everything_in(folder.parent) == before
        kept.close()


def test_a_process_says_it_in_one_line(folder):
    page(0, RANDOM)(folder)
    command = [sys.executable, "-m", "alhelpers.platform", "--state-dir", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and ended.stderr.count("\n") == 1 and "is not a database" in ended.stderr
    with pytest.raises(RuntimeError, match="did not start; its log ends with: .*Move the state folder away"):
        alhelpers.platform.ensure(folder)


@pytest.mark.parametrize("place", ["state", "new"])
def test_a_full_disk_is_told_at_the_start(folder, place):
    command = [sys.executable, "-m", "alhelpers.platform", "--state-dir", str(folder.with_name(place))]
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, **limit)
    assert ended.returncode == 1 and ended.stderr.splitlines()[-1].startswith(
        f"{folder.with_name(place)} cannot be"
    )
    assert "Traceback" not in ended.stderr and items(folder) == 30
    if place == "new":
        assert os.listdir(folder.with_name(place)) == ["server.lock"]


def test_every_page_of_the_database_that_is_lost_is_noticed(folder):
    path = closed(folder)
    content, before = path.read_bytes(), documents(folder)
    for number in range(len(content) // 4096):
        damaged = bytearray(content)
        damaged[4096 * number : 4096 * (number + 1)] = RANDOM
        path.write_bytes(damaged)
        try:
            Store(folder).close()
        except StateUnusable:
            assert path.read_bytes() == damaged
        else:
            assert documents(folder) == before  # the page is a free one


@pytest.fixture
def powerless():
    """A folder of a user who is not the superuser, whose rights this process has until the test ends."""
    folder = Path(tempfile.mkdtemp())
    superuser = os.geteuid() == 0
    if superuser:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    yield folder / "state"
    if superuser:
        os.seteuid(0)
    folder.chmod(0o700)
    shutil.rmtree(folder)


def test_what_cannot_be_written_is_refused(powerless):
    Store(powerless).close()
    for path, mode, reason in (
        (powerless / "platform.sqlite", 0o400, "readonly database"),
        (powerless, 0o500, "readonly database"),
        (powerless, 0o000, "it cannot be read .Permission denied"),
    ):
        path.chmod(mode)
        with pytest.raises(StateUnusable, match=reason):
            alhelpers.platform.start(powerless)
        path.chmod(0o700)
    powerless.parent.chmod(0o500)
    with pytest.raises(StateUnusable, match="Permission denied"):
        alhelpers.platform.start(powerless.parent / "new")
    powerless.parent.chmod(0o700)
    assert os.listdir(powerless.parent) == ["state"]


STRAYS = "blobs/mine/photo.jpg blobs/00/photo.jpg incoming/sub/a.bin incoming/b.bin backup/c d.txt".split()
STRAYS += "workers/notes/plan.txt workers/e.txt logs/mine.txt".split()


def test_what_others_keep_in_our_folder_stays(folder):
    for name in STRAYS:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    (folder / "blobs" / "link").symlink_to(folder.parent)
    (folder / "incoming" / ("a" * 32)).write_text("half an upload")
    alhelpers.platform.start(folder).stop()
    assert all((folder / name).read_text() == "mine" for name in STRAYS)
    assert not (folder / "incoming" / ("a" * 32)).exists() and items(folder) == 30


@pytest.mark.parametrize("content", ["", '{"secret": "12', "[]", json.dumps(CREDENTIALS)])
def test_damaged_credentials_are_made_again_and_said_so(folder, content, caplog):
    closed(folder)
    token = json.loads((folder / "credentials.json").read_text())["token"]
    (folder / "credentials.json").write_text(content)
    with alhelpers.platform.start(folder) as platform:
        assert platform.token != token
        assert Client(platform.url, platform.token).send("GET", "/users/me")["email"]
    assert "credentials.json was damaged: there is a new token" in caplog.text and items(folder) == 30


def test_bytes_that_are_gone_are_told_of(folder, caplog):
    for path in list(folder.glob("blobs/*/*"))[:2]:
        path.unlink()
    alhelpers.platform.start(folder).stop()
    assert "the bytes of 2 items are missing" in caplog.text and items(folder) == 30


def log_cut_to(part):
    def change(folder):
        log = folder / "platform.sqlite-wal"
        os.truncate(log, int(log.stat().st_size * part))

    return change


def log_zeroed(folder):
    with open(folder / "platform.sqlite-wal", "r+b") as file:
        file.seek(4096 * 5)
        file.write(bytes(4096))


@pytest.mark.parametrize("change", [*map(log_cut_to, (0, 0.01, 0.5, 0.9)), log_zeroed])
def test_changes_that_are_lost_are_told_of_and_their_bytes_kept(folder, change):
    change(folder)
    with pytest.warns(UserWarning, match="the last changes are lost: .* pages in .*-wal can be read"):
        alhelpers.platform.ensure(folder).stop()
    left = items(folder)
    kept = [path.read_bytes() for path in folder.glob("lost/*")]
    assert left < 30 and sorted(map(len, kept)) == sorted(range(30))[left:]
    alhelpers.platform.start(folder).stop()
    assert len(list(folder.glob("lost/*"))) == len(kept) and items(folder) == left


def test_what_a_first_start_leaves_that_is_killed_is_no_obstacle(tmp_path):
    for name in (
        "server.lock",
        "launch.lock",
        "server.log",
        ".platform.sqlite.x1_.part",
        ".credentials.json.2.part",
    ):
        (tmp_path / name).write_text("a line" if name == "server.log" else "")
    tmp_path.chmod(0o755)
    alhelpers.platform.start(tmp_path).stop()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "platform.sqlite").stat().st_mode) == 0o600


def test_a_link_to_the_folder_is_as_good_as_the_folder(folder):
    link = folder.with_name("link")
    link.symlink_to(folder)
    with alhelpers.platform.start(link) as platform:
        assert platform.state_dir == folder and alhelpers.platform.running(link).pid == os.getpid()
        with pytest.raises(alhelpers.platform.StateFolderBusy):
            alhelpers.platform.start(folder)


def test_a_new_database_is_there_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr("alhelpers.files.os.replace", lambda *_: os.kill(os.getpid(), 9))
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            Store(tmp_path)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    assert not (tmp_path / "platform.sqlite").exists() and len(os.listdir(tmp_path)) == 1
    monkeypatch.undo()
    alhelpers.platform.start(tmp_path).stop()


def with_a_file_as(name):
    def change(folder):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).write_text("")

    return change


def with_a_lost_link_as(name):
    def change(folder):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).symlink_to("nowhere")

    return change


@pytest.mark.parametrize("change", [with_a_file_as, with_a_lost_link_as])
@pytest.mark.parametrize("name", ["blobs/00", "blobs/ab"])
def test_a_part_that_cannot_be_written_is_refused(folder, change, name):
    change(name)(folder)
    with pytest.raises(StateUnusable, match=f"{name} in it cannot be written"):
        alhelpers.platform.start(folder)


def test_a_folder_that_becomes_read_only_while_the_server_starts_is_no_matter_of_the_port(
    folder, monkeypatch
):
    def fail(*_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("alhelpers.platform.server.write_private", fail)
    with pytest.raises(StateUnusable, match="Read-only file system"):
        alhelpers.platform.start(folder)


@pytest.mark.parametrize("number", "ENOSPC EDQUOT EROFS EACCES EIO".split())
def test_a_disk_that_fails_is_a_507_and_leaves_nothing(folder, monkeypatch, caplog, number):
    with alhelpers.platform.start(folder) as platform:
        client = Client(platform.url, platform.token)
        dataset = client.dataset("other")["id"]

        def fail(*_):
            raise OSError(getattr(errno, number), os.strerror(getattr(errno, number)))

        with monkeypatch.context() as patch:
            patch.setattr("alhelpers.platform.store.os.replace", fail)
            with pytest.raises(Refused, match="the disk of the state folder failed .*try again") as refusal:
                client.upload(dataset, "/a.bin", b"x")
        assert refusal.value.status == 507 and os.listdir(folder / "incoming") == []
        assert client.upload(dataset, "/a.bin", b"x")["filename"] == "/a.bin"
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("size", [10, 1 << 19])
def test_what_is_in_the_place_of_a_file_is_a_507(folder, caplog, size):
    with alhelpers.platform.start(folder) as platform:
        client = Client(platform.url, platform.token)
        item = client.upload(client.dataset("other")["id"], "/a.bin", b"x" * size)["id"]
        (blob,) = {row[8] for row in documents(folder) if row[0] == item}
        path = folder / "blobs" / blob[-2:] / blob
        path.unlink()
        path.mkdir()
        with pytest.raises(Refused, match="Is a directory") as refusal:
            client.stream(item)
        assert refusal.value.status == 507 and "Traceback" not in caplog.text
        path.rmdir()


def test_a_database_without_room_is_a_507(folder):
    with alhelpers.platform.start(folder) as platform:
        client = Client(platform.url, platform.token)
        dataset = client.dataset("other")["id"]
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            with pytest.raises(Refused, match="the disk of the state folder failed") as refusal:
                client.send("PATCH", f"/datasets/{dataset}", {"name": "renamed"})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert refusal.value.status == 507
        assert client.send("GET", f"/datasets/{dataset}")["name"] == "other"
