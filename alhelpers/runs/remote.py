"""A sweep whose folder is in object storage: a local copy that is fetched first, and sent file by file."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from alhelpers import storage
from alhelpers.runs.errors import SweepError
from alhelpers.runs.settings import Setting
from alhelpers.runs.store import Store

if TYPE_CHECKING:
    import pandas


class RemoteStore(Store):
    """The folder of a sweep at a URL: each file is put there as soon as it is written."""

    def __init__(self, folder: Path, notebook: Path, url: str, options: storage.Options) -> None:
        super().__init__(folder, notebook)
        self.url, self.options = url.rstrip("/"), options
        self.shown = storage.shown(self.url)

    def place(self, setting: Setting) -> str:
        """Return the URL of a run's executed copy."""
        return f"{self.shown}/{self.executed(setting).relative_to(self.folder).as_posix()}"

    def changed(self, path: Path) -> None:
        """Put a file that was written, or remove one that was removed."""
        url = f"{self.url}/{path.relative_to(self.folder).as_posix()}"
        if path.exists():
            storage.upload(path, url, self.options)
        else:
            storage.remove(url, self.options)

    def fetch(self) -> None:
        """Fetch what is known of finished runs; an empty file stands for each other file, which nothing reads."""
        found = storage.tree(self.url, self.options)
        read = [name for name in found if name.endswith(".json")]
        contents = dict(zip(read, storage.read_all([found[name] for name in read]), strict=True))
        for name in found:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(contents.get(name, b""))


@contextmanager
def remote_store(url: str, notebook: Path, options: storage.Options) -> Iterator[RemoteStore]:
    """Yield the store of a sweep at a URL; an error of the storage is one of the sweep."""
    try:
        with tempfile.TemporaryDirectory(prefix="alhelpers-", ignore_cleanup_errors=True) as folder:
            store = RemoteStore(Path(folder), notebook, url, options)
            store.fetch()
            yield store
    except storage.StorageError as error:
        raise SweepError(
            f"{error}: runs that were put there are kept. Start the sweep again to continue"
        ) from error


def remote_results(url: str, options: storage.Options) -> pandas.DataFrame:
    """Return the table of a sweep at a URL."""
    import pandas

    path = f"{url.rstrip('/')}/results.parquet"
    try:
        content = storage.read_bytes(path, options)
    except storage.StorageError as error:
        raise SweepError(str(error)) from error
    if content is None:
        raise SweepError(f"{storage.shown(path)} does not exist: has a sweep run in {storage.shown(url)}?")
    return pandas.read_parquet(io.BytesIO(content))
