"""What requests bring: JSON or a form, or a multipart form that is read as it arrives, its file to disk."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qsl

from aiohttp import web
from multipart import MultipartSegment, PushMultipartParser, parse_options_header

from .errors import bad_request
from .validation import strict_json

FIELD_LIMIT = 1 << 24
FORM_LIMIT = 1 << 16
MAX_PARTS = 100


async def read_body(request: web.Request, limit: int | None = None) -> Any:
    """Parse the JSON or the form in a request, of a stated length if there is a limit; None if it has no body."""
    if limit is not None and (request.content_length is None or request.content_length > limit):
        raise bad_request(f"this request must have a Content-Length of at most {limit} bytes")
    content = await request.read()
    if not content:
        return None
    try:
        if request.content_type == "application/x-www-form-urlencoded":
            return dict(parse_qsl(content.decode(), keep_blank_values=True))
        return strict_json(content)
    except (ValueError, UnicodeDecodeError) as error:
        raise bad_request(f"the request's body is not valid JSON: {error}") from error


async def receive(
    chunks: AsyncIterator[bytes], content_type: str, incoming: Path, limit: int
) -> tuple[dict[str, str], int]:
    """Read a form with one file of at most `limit` bytes into `incoming`; the caller removes it, whatever happens.

    Returns the text fields by name, and the size of the file. A ValueError means that the form is broken or incomplete.
    """
    form = _Form(limit)
    boundary = parse_options_header(content_type)[1].get("boundary", "")
    with open(incoming, "wb") as file, PushMultipartParser(boundary, max_segment_count=MAX_PARTS) as parser:
        async for chunk in chunks:
            for event in parser.parse(chunk):
                form.take(event, file)
    return form.finished()


class _Form:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = -1
        self.texts: dict[str, bytearray] = {}
        self.name = ""

    def take(self, event: MultipartSegment | bytes | None, file: BinaryIO) -> None:
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
            raise bad_request("an upload must have one 'file', this one has more")
        else:
            self.size = 0

    def finished(self) -> tuple[dict[str, str], int]:
        if self.size < 0:
            raise bad_request("the upload must have a 'file'")
        return {name: content.decode() for name, content in self.texts.items()}, self.size
