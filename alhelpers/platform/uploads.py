"""Uploads: a multipart form that is read as it arrives, its file to disk and its text fields to memory."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from multipart import MultipartSegment, PushMultipartParser, parse_options_header

from .errors import bad_request

FIELD_LIMIT = 1 << 24
MAX_PARTS = 100


def is_form(content_type: str) -> bool:
    """Say whether a Content-Type header announces a multipart form."""
    return content_type.lower().startswith("multipart/")


async def receive(
    chunks: AsyncIterator[bytes], content_type: str, incoming: Path, limit: int
) -> tuple[dict[str, str], int]:
    """Read a form with one file.

    Parameters
    ----------
    chunks : async iterator of bytes
        The body of the request.
    content_type : str
        Its Content-Type header, with the boundary.
    incoming : Path
        Where the file's bytes go; the caller removes it, whatever happens.
    limit : int
        The largest file, in bytes.

    Returns
    -------
    fields : dict
        The text fields by name.
    size : int
        The size of the file, in bytes.

    Raises
    ------
    ApiError
        400, when the form is too large, or without a file.
    ValueError
        When it is broken or incomplete; the parser's own errors are such, too.
    """
    form = _Form(limit)
    boundary = parse_options_header(content_type)[1].get("boundary", "")
    with (
        open(incoming, "wb") as file,
        PushMultipartParser(boundary, max_segment_count=MAX_PARTS) as parser,
    ):
        async for chunk in chunks:
            for event in parser.parse(chunk):
                form.take(event, file)
    return form.finished()


class _Form:
    """What has arrived of a form."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = -1
        self.texts: dict[str, bytearray] = {}
        self.name = ""

    def take(self, event: MultipartSegment | bytes | None, file: BinaryIO) -> None:
        """Take the beginning of a part, or bytes of the one that has begun."""
        if isinstance(event, MultipartSegment):
            self._begin(event.name)
        elif event is not None and self.name == "file":
            self.size += len(event)
            if self.size > self.limit:
                raise bad_request(f"the file is larger than the limit of {self.limit} bytes for an upload")
            file.write(event)
        elif event is not None:
            self.texts[self.name] += event
            if len(self.texts[self.name]) > FIELD_LIMIT:
                raise bad_request(f"the form field {self.name!r} is larger than {FIELD_LIMIT} bytes")

    def _begin(self, name: str) -> None:
        self.name = name
        if name != "file":
            self.texts[name] = bytearray()
        elif self.size >= 0:
            raise bad_request("an upload brings one 'file', this one brings more")
        else:
            self.size = 0

    def finished(self) -> tuple[dict[str, str], int]:
        """Give the fields and the file's size, once all has arrived."""
        if self.size < 0:
            raise bad_request("the upload brings no 'file'")
        return {name: content.decode() for name, content in self.texts.items()}, self.size
