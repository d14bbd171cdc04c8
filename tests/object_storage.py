"""A small object storage on this machine: objects by path over HTTP, read by ranges, put whole, behind a token.

It stands in for S3 and the like, whose packages need versions that the kit's constraints do not allow.
"""

import os
import re
import sys
import threading
import time
import uuid
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

TOKEN = "token-that-nobody-may-see"
OPTIONS = {"client_kwargs": {"headers": {"Authorization": f"Bearer {TOKEN}"}}}


class Storage(ThreadingHTTPServer):
    """Serves the files of a folder; ``requests`` has a line for each request, ``before`` is called with it first."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder, token=TOKEN):
        self.folder, self.token = Path(folder), token
        self.requests, self.before = [], lambda request: None
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def bytes_read(self):
        return sum(size for method, _, size in self.requests if method == "GET")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def answer(self, status, content=b"", size=None, **headers):
        self.send_response(status)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in (headers | {"Content-Length": len(content) if size is None else size}).items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_GET(self):
        server = self.server
        path = server.folder / unquote(self.path.partition("?")[0]).strip("/")
        place = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        start, stop = (int(place[1]), int(place[2]) + 1) if place else (0, None)
        server.before((self.command, path.name, start))
        if self.headers.get("Authorization") != f"Bearer {server.token}":
            return self.answer(403)
        if path.is_dir():
            names = (each.name + "/" * each.is_dir() for each in sorted(path.iterdir()))
            page = "".join(f'<a href="{name}">{name}</a>' for name in names).encode()
            return self.answer(200, page, Content_Type="text/html")
        if not path.is_file():
            return self.answer(404)
        size = path.stat().st_size
        if start and start >= size:
            return self.answer(416, Content_Range=f"bytes */{size}")
        stop = size if stop is None else min(stop, size)
        kind = {"Content_Type": "application/octet-stream", "Accept_Ranges": "bytes"}
        if self.command == "HEAD":
            return self.answer(200, size=size, **kind)
        with open(path, "rb") as file:
            server.requests.append((self.command, path.name, stop - start))
            self.answer(206 if place else 200, b"", size=stop - start,
                        **kind, Content_Range=f"bytes {start}-{stop - 1}/{size}")  # fmt: skip
            self.wfile.flush()
            sent = start
            while sent < stop:
                sent += os.sendfile(self.connection.fileno(), file.fileno(), sent, stop - sent)

    do_HEAD = do_GET

    def do_POST(self):
        server = self.server
        path = server.folder / unquote(self.path).strip("/")
        server.before((self.command, path.name, 0))
        part = server.folder / f".{uuid.uuid4().hex}"
        with open(part, "wb") as file:
            for chunk in self.chunks():
                file.write(chunk)
        if self.headers.get("Authorization") != f"Bearer {server.token}":
            part.unlink()
            return self.answer(403)
        if not (server.folder / path.relative_to(server.folder).parts[0]).is_dir():  # the bucket
            part.unlink()
            return self.answer(404)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, path)
        server.requests.append((self.command, path.name, path.stat().st_size))
        self.answer(200)

    def chunks(self):
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def log_message(self, *args):
        pass


@contextmanager
def serving(folder, **options):
    """Serve a folder from a thread."""
    with Storage(folder, **options) as server:
        thread = threading.Thread(target=partial(server.serve_forever, 0.05), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


if __name__ == "__main__":  # in a process of its own, for benchmarks: prints its URL
    with serving(sys.argv[1]) as alone:
        print(alone.url, flush=True)
        while True:
            time.sleep(60)
