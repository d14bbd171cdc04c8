"""JSON messages over a socket, with open files passed along."""

import json
import socket
from typing import Any

_HEADER = 8


def send(channel: socket.socket, message: Any, files: list[int] | None = None) -> None:
    """Send a message, and descriptors of open files with it."""
    body = json.dumps(message).encode()
    header = len(body).to_bytes(_HEADER, "big")
    if files:
        socket.send_fds(channel, [header], files)
    else:
        channel.sendall(header)
    channel.sendall(body)


def receive(channel: socket.socket) -> tuple[Any, list[int]]:
    """Receive a message and the descriptors with it; (None, []) when the other side has closed or died.

    Returns
    -------
    message : Any
    files : list of int
        At most one; the receiver closes it.
    """
    try:
        return _receive(channel)
    except ConnectionResetError:  # it died with unread messages
        return None, []


def _receive(channel: socket.socket) -> tuple[Any, list[int]]:
    files: list[int] = []
    header = b""
    while len(header) < _HEADER:
        part, passed, _, _ = socket.recv_fds(channel, _HEADER - len(header), 1)
        files += passed
        if not part:
            return None, []
        header += part
    size, body = int.from_bytes(header, "big"), bytearray()
    while len(body) < size:
        part = channel.recv(min(1 << 20, size - len(body)))
        if not part:
            return None, []
        body += part
    return json.loads(bytes(body)), files
