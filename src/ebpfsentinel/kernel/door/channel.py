"""Frames over a stream socket: four bytes of length, then so many; descriptors go with the first.

A frame that says it is longer than the reader takes ends the connection before anything of it is
read.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_LENGTH = struct.Struct("!I")
MOST_HANDLES = 128
_PART = 1 << 18


class ClosedError(Exception):
    """The other end is gone, or does not speak as agreed."""


def send(to: socket.socket, data: bytes, handles: Sequence[int] = ()) -> None:
    """Send one frame.

    Raises:
        ClosedError: the other end is gone, or takes nothing for as long as the socket's timeout.
    """
    head = _LENGTH.pack(len(data))
    more = []
    if handles:
        more = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", handles))]
    try:
        to.sendmsg([head], more)
        to.sendall(data)
    except OSError as error:
        raise ClosedError(str(error)) from None


def receive(source: socket.socket, most: int) -> tuple[bytearray, list[int]]:
    """One frame and its descriptors, which are the caller's to close.

    Raises:
        ClosedError: the other end is gone, or the frame is longer than ``most``.
    """
    handles: list[int] = []
    try:
        head = _head(source, handles)
        (length,) = _LENGTH.unpack(head)
        return _body(source, length, most), handles
    except (OSError, ClosedError) as error:
        for handle in handles:
            os.close(handle)
        raise ClosedError(str(error) or type(error).__name__) from None


def _head(source: socket.socket, handles: list[int]) -> bytes:
    head = b""
    while len(head) < _LENGTH.size:
        room = socket.CMSG_SPACE(MOST_HANDLES * array.array("i").itemsize)
        part, more, _, _ = source.recvmsg(_LENGTH.size - len(head), room, socket.MSG_CMSG_CLOEXEC)
        for level, kind, data in more:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                found = array.array("i")
                found.frombytes(data[: len(data) - len(data) % found.itemsize])
                handles += found
        if not part:
            raise ClosedError("the other end has closed")
        head += part
    return head


def _body(source: socket.socket, length: int, most: int) -> bytearray:
    """Room is made as bytes come, so that a length alone costs nothing."""
    if length > most:
        raise ClosedError(f"a frame of {length} bytes: {most} is the most")
    body = bytearray()
    while len(body) < length:
        part = source.recv(min(length - len(body), _PART))
        if not part:
            raise ClosedError("the other end has closed")
        body += part
    return body
