"""Routes of items' bytes: uploads, downloads and thumbnails. They stream, so they run beside the state thread."""

import asyncio
import contextlib
import json
import logging
import sys
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.client_exceptions import ClientPayloadError

from ...api import Call, Raw, one, render
from ...errors import ApiError, bad_request, not_found
from ...store import Document
from ...uploads import read_body, receive
from ...validation import require, strict_json
from . import images, models

# Up to this size reading a file is faster than asking the system to send it.
SMALL_FILE = 1 << 18
# How long the decoding of an image may take, in seconds.
DECODE_SECONDS = 10.0
logger = logging.getLogger(__name__)
# Runs a function on the state thread, as one transaction, and returns its answer.
OnState = Callable[[Callable[[Call], Any], web.Request, Any], Awaitable[Raw]]


class ItemFiles:
    """The routes, for uploads of at most `limit` bytes that arrive in the folder `incoming`."""

    def __init__(self, on_state: OnState, incoming: Path, limit: int) -> None:
        self._on_state, self._incoming, self._limit = on_state, incoming, limit
        self._decoder = Decoder()

    async def close(self) -> None:
        await self._decoder.close()

    def add_to(self, router: web.UrlDispatcher, api: str) -> None:
        router.add_route("POST", f"{api}/datasets/{{dataset_id}}/items", self._upload)
        router.add_route("GET", f"{api}/items/{{item_id}}/stream", self._download)
        router.add_route("GET", f"{api}/items/{{item_id}}/thumbnail", self.thumbnail)
        router.add_route("POST", f"{api}/items/{{item_id}}/revisions", self._revise)

    async def _upload(self, request: web.Request) -> web.Response:
        """Take a file (multipart), or make a directory (a form)."""
        if not request.content_type.startswith("multipart/"):
            return _json(await self._on_state(_make_directory, request, await read_body(request)))
        overwrite = request.query.get("mode") == "overwrite"
        return await self._take(request, _add_upload, overwrite=overwrite)

    async def _revise(self, request: web.Request) -> web.Response:
        item = json.loads((await self._on_state(_item, request, None)).text)
        return await self._take(request, _replace_content, path=item["filename"])

    async def _take(
        self,
        request: web.Request,
        store: Callable[[Call, models.Upload], Raw],
        *,
        overwrite: bool = True,
        path: str | None = None,
    ) -> web.Response:
        """Receive a file, and store it as a whole or not at all; with `path` it is the bytes of that item."""
        incoming = self._incoming / uuid.uuid4().hex
        try:
            chunks, kind = request.content.iter_any(), request.headers.get("Content-Type", "")
            fields, size = await receive(chunks, kind, incoming, self._limit)
            if path is not None:
                fields["path"] = path
            upload = await _described(fields, incoming, size, overwrite=overwrite)
            return _json(await self._on_state(lambda call: store(call, upload), request, None))
        except (ValueError, ClientPayloadError) as error:
            raise bad_request(f"the upload is not a complete multipart form: {error}") from error
        finally:
            incoming.unlink(missing_ok=True)

    async def thumbnail(self, request: web.Request) -> web.StreamResponse:
        """Send a small picture of an item, made when it is first asked for and then kept in the dataset."""
        found = json.loads((await self._on_state(_locate_thumbnail, request, None)).text)
        if "thumbnail" in found:
            try:
                content = await asyncio.to_thread(Path(found["thumbnail"]).read_bytes)
            except FileNotFoundError as error:  # deleted since we looked
                raise not_found("thumbnail of item", request.match_info["item_id"]) from error
        else:
            content = await self._decoder.thumbnail(found["path"])
            if not content:
                about = f"only images have one, in one of the formats {', '.join(images.FORMATS)} and not too large"
                raise not_found(f"thumbnail of item ({about})", request.match_info["item_id"])
            await self._on_state(_keep_thumbnail, request, content)
        return web.Response(body=content, headers={"Content-Type": "image/jpeg"})

    async def _download(self, request: web.Request) -> web.StreamResponse:
        found = json.loads((await self._on_state(locate, request, None)).text)
        headers = {"Content-Type": found["mimetype"]}
        try:
            with open(found["path"], "rb") as file:
                content = file.read() if found["size"] <= SMALL_FILE else None
        except FileNotFoundError as error:  # deleted or overwritten since we looked
            raise not_found("the bytes of item", request.match_info["item_id"]) from error
        if content is None:
            return web.FileResponse(found["path"], headers=headers)
        return _slice(request, content, headers)


class Decoder:
    """A process that decodes images, one at a time; one that takes too long or dies is replaced."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def thumbnail(self, path: str) -> bytes:
        """Return a small JPEG of the image in a file, or no bytes if it cannot be decoded."""
        async with self._turn:
            try:
                async with asyncio.timeout(DECODE_SECONDS):
                    return await self._ask(path)
            except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
                logger.warning("no thumbnail of %s: decoding failed with %s", path, type(error).__name__)
                await self.close()
                return b""

    async def _ask(self, path: str) -> bytes:
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", images.__file__),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        self._process.stdin.write(json.dumps(path).encode() + b"\n")
        size = int.from_bytes(await self._process.stdout.readexactly(4), "big")
        return await self._process.stdout.readexactly(size)

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _described(fields: dict[str, str], incoming: Path, size: int, *, overwrite: bool) -> models.Upload:
    path = models.clean_path(fields.get("path", ""))
    metadata = _metadata(fields.get("metadata"))
    content: Document = {}
    if models.guess_type(path).startswith("image/") or path.endswith(".json"):
        # Reading a small file's header is faster than starting another thread.
        read = models.read_content
        content = read(incoming, path) if size < SMALL_FILE else await asyncio.to_thread(read, incoming, path)
    return models.Upload(path, incoming, size, content, metadata, fields.get("description"), overwrite)


def _metadata(text: str | None) -> Document:
    metadata = strict_json(text) if text else {}
    if not isinstance(metadata, dict):
        raise bad_request(f"'metadata' of an upload must be a JSON object, got {text!r}")
    return metadata


def _json(answer: Raw) -> web.Response:
    return web.Response(text=answer.text, headers=answer.headers, content_type="application/json")


def _slice(request: web.Request, content: bytes, headers: dict[str, str]) -> web.Response:
    """Answer with a file's bytes, or with the range that was asked for."""
    try:
        start, stop, _ = request.http_range.indices(len(content))
    except ValueError as error:
        raise bad_request(
            f"cannot read the range {request.headers.get('Range')!r}: use 'bytes=FIRST-LAST'"
        ) from error
    if not content or (start, stop) == (0, len(content)):
        return web.Response(body=content, headers=headers)
    if start >= stop:
        raise ApiError(
            416, f"the file has {len(content)} bytes: none of them are in {request.headers.get('Range')!r}"
        )
    headers = headers | {"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}"}
    return web.Response(status=206, body=content[start:stop], headers=headers)


def _add_upload(call: Call, upload: models.Upload) -> Raw:
    item_id, done = models.add_upload(call.store, call.params["dataset_id"], upload, call.user)
    return Raw(render(call, "items", call.store.row("items", item_id)), {"x-item-op": done})


def _item(call: Call) -> Raw:
    return Raw(call.store.row("items", call.params["item_id"]).doc)


def _replace_content(call: Call, upload: models.Upload) -> Raw:
    item = call.store.get("items", call.params["item_id"])
    models.replace_content(call.store, item, upload, call.user)
    return one(call, "items", item["id"])


def _make_directory(call: Call) -> Raw:
    body = require(call.body)
    if body.get("type") != "dir":
        raise bad_request("an upload is a multipart form with a file, or a form with type=dir and path")
    dataset_id = call.store.row("datasets", call.params["dataset_id"]).id
    path = models.clean_path(body.get("path", ""))
    item = models.ensure_directory(call.store, dataset_id, path, call.user)
    return one(call, "items", item["id"] if item else "")


def locate(call: Call) -> Document:
    row = call.store.row("items", call.params["item_id"])
    if row.blob is None:
        raise bad_request(f"item {row.id} is a directory: it has no bytes")
    item, path = call.store.parsed(row), str(call.store.blob_path(row.blob))
    about = {"name": item["name"], "mimetype": models.guess_type(item["name"])}
    return about | {"path": path, "size": item["metadata"].get("system", {}).get("size")}


def _locate_thumbnail(call: Call) -> Document:
    found = locate(call)
    item = call.store.get("items", call.params["item_id"])
    kept = models.by_path(call.store, item["datasetId"], models.thumbnail_path(item["id"]))
    blob = call.store.row("items", kept["id"]).blob if kept else None
    return found | ({"thumbnail": str(call.store.blob_path(blob))} if blob else {})


def _keep_thumbnail(call: Call) -> Document:
    item = call.store.get("items", call.params["item_id"])
    path = models.thumbnail_path(item["id"])
    if models.by_path(call.store, item["datasetId"], path) is None:
        models.add_bytes(call.store, item["datasetId"], path, call.body, call.user)
    return {}
