"""A real server and a real client, on one core: ``python -m bench.greeting serve|ask|rounds``.

``serve ADDRESS PORT`` greets everybody who connects. ``ask ADDRESS PORT SECONDS SOURCES`` connects
again and again, each time from the next of its addresses, and prints how many greetings it got, and
how many it did not. ``rounds ADDRESS PORT SOURCE`` connects as many times as each line of its input
says, and prints how many greetings it did not get.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time

GREETING = b"at your service" * 60


def running(namespace: str, *arguments: str) -> subprocess.Popen[str]:
    """This module, in a network namespace."""
    command = ["nsenter", f"--net=/run/netns/{namespace}", sys.executable, "-m", "bench.greeting"]
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, *arguments], stdin=pipe, stdout=pipe, text=True)


def serve(address: str, port: int) -> None:
    """Until killed."""
    with socket.create_server((address, port), backlog=512) as server:
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(GREETING)


def greeted(address: str, port: int, source: str) -> bool:
    """One connection, whole."""
    with socket.socket() as client:
        client.settimeout(3)
        client.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
        try:
            client.bind((source, 0))
            client.connect((address, port))
            found = 0
            while part := client.recv(4096):
                found += len(part)
        except OSError:
            return False
        return found == len(GREETING)


def ask(address: str, port: int, seconds: float, sources: list[str]) -> None:
    """As fast as it goes."""
    count, failed, over = 0, 0, time.monotonic() + seconds
    while time.monotonic() < over:
        ok = greeted(address, port, sources[(count + failed) % len(sources)])
        count, failed = count + ok, failed + (not ok)
    print(count, failed)


def rounds(address: str, port: int, source: str) -> None:
    """Until there is no more input."""
    print("ready", flush=True)
    for line in sys.stdin:
        print(sum(not greeted(address, port, source) for _ in range(int(line))), flush=True)


if __name__ == "__main__":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    verb, where, number, *rest = sys.argv[1:]
    if verb == "serve":
        serve(where, int(number))
    elif verb == "rounds":
        rounds(where, int(number), *rest)
    else:
        ask(where, int(number), float(rest[0]), rest[1:])
