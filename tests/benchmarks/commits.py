"""Which code was measured: the last commit that changed the package."""

import subprocess
from pathlib import Path

_ROOT = Path(__file__).parents[2]


def code_commit() -> str:
    """Return the commit that changed ``alhelpers`` last, shortened; with a + if files differ from what is committed."""
    commit = _git("log", "-1", "--format=%h", "--", "alhelpers")
    return f"{commit}+" if _git("status", "--porcelain", "--", "alhelpers") else commit


def committed_code() -> str:
    """Return the same for a record that is kept; raise a RuntimeError if files differ from what is committed."""
    commit = code_commit()
    if commit.endswith("+"):
        raise RuntimeError(
            "alhelpers differs from what is committed: commit it first, so that the record can name it"
        )
    return commit


def commit_of(folder: Path) -> str:
    """Return the commit whose measurements a folder holds, this one's if there are none; RuntimeError for another's."""
    commit, note = committed_code(), folder / "commit"
    begun = note.read_text().strip() if note.is_file() else commit
    if begun != commit:
        raise RuntimeError(
            f"{folder} holds what commit {begun} measured, and this is {commit}: choose another folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(f"{commit}\n")
    return commit


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
