"""Processes that connect, send, listen and accept; run as a script in a network namespace.

Lines on standard output say which process did what by which port; see the functions.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time


def family_of(host: str) -> int:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def say(*words: object) -> None:
    """One line at once, whole, though many processes write."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def forked(count: int, work) -> None:
    """``work(number)`` in so many processes; returns when all have ended."""
    children = []
    for number in range(count):
        pid = os.fork()
        if not pid:
            try:
                work(number)
            finally:
                os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)


def asks(host: str, port: int, processes: int, count: int, blocking: bool = True) -> None:
    """``pid port served_by when`` for each short TCP connection."""

    def work(_: int) -> None:
        for _ in range(count):
            with socket.socket(family_of(host)) as client:
                client.setblocking(blocking)
                with contextlib.suppress(BlockingIOError):
                    client.connect((host, port))
                client.settimeout(60)
                if not blocking:
                    wait_writable(client)
                mine = client.getsockname()[1]
                say(os.getpid(), mine, client.recv(16).decode(), time.monotonic_ns())

    forked(processes, work)


def wait_writable(client: socket.socket) -> None:
    import select  # noqa: PLC0415 -- a script of its own

    select.select([], [client], [], 20)


def tells(host: str, port: int, processes: int, count: int, connected: bool = False) -> None:
    """``pid port 0 when`` for each UDP socket that sent a datagram."""

    def work(_: int) -> None:
        for _ in range(count):
            with socket.socket(family_of(host), socket.SOCK_DGRAM) as sender:
                if connected:
                    sender.connect((host, port))
                    sender.send(b"here")
                else:
                    sender.sendto(b"here", (host, port))
                say(os.getpid(), sender.getsockname()[1], 0, time.monotonic_ns())

    forked(processes, work)


def hands(host: str, port: int, count: int) -> None:
    """``pid port`` of who sent last by a UDP socket that another one had handed over."""
    with contextlib.ExitStack() as stack:
        for _ in range(count):  # all stay open: a port that is free may be given again
            sender = stack.enter_context(socket.socket(family_of(host), socket.SOCK_DGRAM))
            sender.sendto(b"mine", (host, port))
            near, far = socket.socketpair()
            with near, far:
                if pid := os.fork():
                    socket.send_fds(near, [b"x"], [sender.fileno()])
                    os.waitpid(pid, 0)
                else:
                    _, (fd, *_), _, _ = socket.recv_fds(far, 1, 1)
                    with socket.socket(fileno=fd) as handed:
                        handed.sendto(b"yours", (host, port))
                        say(os.getpid(), handed.getsockname()[1])
                    os._exit(0)


def serves(host: str, port: int, workers: int) -> None:
    """A pre-forked server: whoever accepts says its pid. Ends when standard input does."""
    listener = socket.create_server((host, port), family=family_of(host), backlog=4096)
    children = []
    for _ in range(workers):
        pid = os.fork()
        if not pid:
            while True:
                client, _ = listener.accept()
                with client, contextlib.suppress(OSError):
                    client.sendall(str(os.getpid()).encode())
                    client.recv(1)  # the client closes first: its port is not used again
        children.append(pid)
    say("ready", os.getpid())
    sys.stdin.read()
    for pid in children:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def holds(host: str, port: int, processes: int, count: int) -> None:
    """Connections that stay: ``pid port 0`` for each; after a line on standard input each sends."""

    def work(_: int) -> None:
        with contextlib.ExitStack() as stack:
            held = []
            for _ in range(count):
                client = stack.enter_context(socket.socket(family_of(host)))
                client.connect((host, port))
                client.recv(16)
                held.append(client)
                say(os.getpid(), client.getsockname()[1], 0)
            say("held")
            while not os.path.exists(sys.argv[-1]):  # noqa: PTH110 -- many wait for one file
                time.sleep(0.02)
            for client in held:
                client.sendall(b"still here")
            say("sent")
            sys.stdin.read()

    forked(processes, work)


def keeps(host: str, port: int, workers: int) -> None:
    """As :func:`serves`, but connections are kept open, and ``pid port`` of each client said."""
    listener = socket.create_server((host, port), family=family_of(host), backlog=4096)
    children = []
    for _ in range(workers):
        pid = os.fork()
        if not pid:
            held = []
            while True:
                client, peer = listener.accept()
                client.sendall(str(os.getpid()).encode())
                held.append(client)
                say(os.getpid(), peer[1])
        children.append(pid)
    say("ready", os.getpid())
    sys.stdin.read()
    for pid in children:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    verb, to, *rest = sys.argv[1:]
    numbers = [int(each) for each in rest if each.isdigit()]
    globals()[verb](to, *numbers)
