"""The keeper: the small process that holds the kernel, so that the agent needs no privilege.

It listens on a Unix socket, takes one client at a time, root's or the agent's, and carries out what
the configuration allows: see :mod:`ebpfsentinel.kernel.door`. When a client has gone it starts over
within the same process (execve(2) upon itself, the listening socket kept): whatever the client made
it hold goes as if a process had ended, and enforcement stays or falls with ``agent.on_exit``.
"""

from __future__ import annotations

import contextlib
import getopt
import logging
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec

from ebpfsentinel.kernel import heap, pins
from ebpfsentinel.kernel.door import calls, channel, wire
from ebpfsentinel.kernel.door.charter import Charter
from ebpfsentinel.kernel.door.serve import Server
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.kernel import KernelError

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger("ebpfsentinel.keeper")

_LISTENING = 3
"""The first descriptor that a service manager passes (sd_listen_fds(3))."""
_TICK_S, _STALLED_S, _READ_S, _GREETING_S = 1.0, 10.0, 60.0, 0.5
_ROOT = 0
_LARGE = 1 << 17


class KeeperError(Exception):
    """The keeper cannot start; the text says why, and what to do."""


@dataclass(slots=True)
class Options:
    """What the keeper is started with. ``connected``: one client is there already, as descriptor.

    ``charter``: a file with what is allowed, ready made, instead of a configuration.
    """

    config: str = ""
    charter: str = ""
    socket: str = ""
    settings: tuple[str, ...] = ()
    connected: int = -1


class Allowed:
    """What is allowed, read again when the file changes; what cannot be read changes nothing.

    Domains and interfaces of the file before may still be guarded, since a change that nobody
    confirms is undone; what may be killed and whom the floor spares is as the file is now.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._known: tuple[int, ...] | None = None
        self._charter: Charter | None = None
        self._fresh: Charter | None = None

    def __call__(self) -> Charter:
        """As it is now.

        Raises:
            KeeperError: there never was one.
        """
        now = self._state()
        if self._charter is None or now != self._known:
            try:
                fresh = self._read()
                self._charter = fresh.beside(self._fresh) if self._fresh else fresh
                self._fresh = fresh
            except KeeperError as error:
                if self._charter is None:
                    raise
                logger.warning("what was allowed stays so: %s", error)
            self._known = now
        return self._charter

    def _state(self) -> tuple[int, ...]:
        try:
            found = Path(self._options.config or self._options.charter or "/").stat()
        except OSError:
            return ()
        if not (self._options.config or self._options.charter):
            return (0,)
        return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size

    def _read(self) -> Charter:
        for place in filter(None, (self._options.config, self._options.charter)):
            _check_owner(Path(place))
        data = Path(self._options.charter).read_bytes() if self._options.charter else self._made()
        try:
            return msgspec.json.decode(data, type=Charter)
        except msgspec.DecodeError as error:
            raise KeeperError(f"what is allowed cannot be read: {error}") from None

    def _made(self) -> bytes:
        """By a process that ends, and takes with it the memory that reading took."""
        more = [f"--set={each}" for each in self._options.settings]
        program = "from ebpfsentinel.charter import main; main()"
        command = [sys.executable, "-P", "-c", program, f"--config={self._options.config}", *more]
        try:
            done = subprocess.run(  # noqa: S603 (our own interpreter)
                command, capture_output=True, timeout=_READ_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise KeeperError(str(error)) from None
        if done.returncode:
            raise KeeperError(done.stderr.decode(errors="replace").strip())
        return done.stdout


def _check_owner(path: Path) -> None:
    """Who may write to what allows must be root, or whom the keeper runs as.

    Raises:
        KeeperError: others may.
    """
    for each in (path, path.absolute().parent):
        try:
            found = each.stat()
        except OSError as error:
            raise KeeperError(f"{each}: {error.strerror}") from None
        sticky = each != path and found.st_mode & 0o1000
        if found.st_uid not in (_ROOT, os.geteuid()) or (found.st_mode & 0o022 and not sticky):
            raise KeeperError(
                f"{each} says what the agent may do, and others than root may write to it: "
                f"chown root {each}; chmod go-w {each}"
            )


class Keeper:
    """Listens, and serves one client after another, each from a clean start."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._allowed = Allowed(options)
        self._ending = False
        self._wake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        signal.signal(signal.SIGHUP, lambda *_: None)  # the file is looked at all the time

    def _end(self, *_: object) -> None:
        self._ending = True

    def run(self) -> None:
        """Serve until told to end, or until a client has gone: then this does not return."""
        self._allowed()
        if self._options.connected >= 0:
            self._serve(socket.socket(fileno=self._options.connected))
            return
        listening = _listening(self._options, self._allowed())
        _notify("READY=1")
        while not self._ending:
            self._wait(listening)
            if self._ending:
                break
            client = self._accepted(listening)
            if client is not None:
                self._serve(client, listening)
                if not self._ending:
                    _begin_anew(listening)

    def _wait(self, *sources: socket.socket) -> int:
        """Until one of them has something, or a second is over; the first that has, or -1."""
        handles = [source.fileno() for source in sources]
        found, _, _ = select.select([*handles, self._wake], [], [], _TICK_S)
        if self._wake in found:
            os.read(self._wake, 64)
        return next((handle for handle in handles if handle in found), -1)

    def _accepted(self, listening: socket.socket) -> socket.socket | None:
        if not select.select([listening], [], [], 0)[0]:
            return None
        client, _ = listening.accept()
        pid, user = _peer(client)
        if user in (_ROOT, self._allowed().user):
            return client
        logger.warning("user %d (process %d) may not use the kernel: it was sent away", user, pid)
        client.close()
        return None

    def _serve(self, client: socket.socket, listening: socket.socket | None = None) -> None:
        """Calls of one client, until it has gone or we end."""
        client.settimeout(_STALLED_S)
        allowed = self._allowed()
        root = Path(allowed.pin_root) if allowed.pin_root else pins.ROOT
        kernel = LinuxKernel(allowed.on_exit, allowed.xdp_mode, root, lends_rings=True)
        pid, user = _peer(client)
        logger.info("process %d of user %d is served", pid, user)
        server = Server(kernel, self._allowed, [pid])
        try:
            while not self._ending and not server.left:
                ready = self._wait(client, *([listening] if listening else []))
                if ready == client.fileno():
                    self._answer(server, client)
                elif listening is not None and ready >= 0:
                    self._turn_away(listening, pid)
                server.look_after()
        except channel.ClosedError as error:
            logger.info("process %d has gone: %s", pid, error)
        except wire.WireError as error:
            logger.warning("process %d said what is no call, and was sent away: %s", pid, error)
        finally:
            if self._ending and not server.left:
                kernel.detach()
            client.close()

    def _turn_away(self, listening: socket.socket, served: int) -> None:
        """One at a time: who else would be served is told so."""
        other = self._accepted(listening)
        if other is not None:
            busy = calls.Refused("kernel", f"it serves process {served} already")
            other.settimeout(_GREETING_S)
            with other, contextlib.suppress(channel.ClosedError):
                _, handles = channel.receive(other, _LARGE)
                for handle in handles:
                    os.close(handle)
                channel.send(other, wire.encode(busy))

    @staticmethod
    def _answer(server: Server, client: socket.socket) -> None:
        data, handles = channel.receive(client, wire.MOST_CALL_BYTES)
        for handle in handles:
            os.close(handle)  # nobody has anything to hand to us
        answer, handles = server.answer(data)
        channel.send(client, answer, handles)
        if len(data) > _LARGE or handles:
            del data, answer
            heap.give_back()


def _peer(client: socket.socket) -> tuple[int, int]:
    """Process and user at the other end (SO_PEERCRED)."""
    pid, user, _ = struct.unpack(
        "=iII", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    )
    return pid, user


def _listening(options: Options, allowed: Charter) -> socket.socket:
    """The socket that the service manager passed or our last start kept, or a new one.

    Raises:
        KeeperError: it cannot be made.
    """
    passed = os.environ.get("LISTEN_PID") == str(os.getpid())
    if passed and os.environ.get("LISTEN_FDS") == "1":
        os.set_inheritable(_LISTENING, False)
        return socket.socket(fileno=_LISTENING)
    path = Path(options.socket or allowed.socket)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        _remove_stale(path)
        before = os.umask(0o117)
        try:
            made.bind(str(path))
        finally:
            os.umask(before)
        _give_to_group(path, allowed.group)
        made.listen(16)
    except OSError as error:
        raise KeeperError(f"{path}: {error.strerror}") from None
    return made


def _remove_stale(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        try:
            asking.connect(str(path))
        except OSError:
            path.unlink(missing_ok=True)
        else:
            raise KeeperError(f"another keeper listens at {path}: end that one, or name --socket")


def _give_to_group(path: Path, group: int | None) -> None:
    """To the group of the agent's user, where there is one."""
    if group is None:
        logger.warning("there is no user as agent.user says: only root reaches %s", path)
    else:
        os.chown(path, -1, group)


def _begin_anew(listening: socket.socket) -> NoReturn:
    """The same process, as it was at its start, still listening."""
    if listening.fileno() != _LISTENING:
        os.dup2(listening.fileno(), _LISTENING)
    os.set_inheritable(_LISTENING, True)
    os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
    logger.info("beginning anew")
    os.execv(sys.executable, sys.orig_argv)  # noqa: S606 (no shell is wanted)


def _notify(text: str) -> None:
    """Tell the service manager (sd_notify(3)), where there is one."""
    place = os.environ.get("NOTIFY_SOCKET", "")
    if not place:
        return
    with (
        contextlib.suppress(OSError),  # it may not listen any more
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
    ):
        told.connect("\0" + place[1:] if place.startswith("@") else place)
        told.send(text.encode())


def arguments(words: Sequence[str]) -> Options:
    """Options from words.

    Raises:
        KeeperError: one is not known.
    """
    names = ["config=", "charter=", "socket=", "set=", "connected="]
    try:
        found, rest = getopt.getopt(list(words), "", names)
    except getopt.GetoptError as error:
        raise KeeperError(str(error)) from None
    if rest:
        raise KeeperError(f"{rest[0]!r} is not an option")
    options = Options()
    for name, value in found:
        if name == "--set":
            options.settings += (value,)
        elif name == "--connected":
            options.connected = int(value)
        else:
            setattr(options, name.removeprefix("--"), value)
    return options


def main() -> None:
    """The entry point; the command line's verb ``keeper`` ends in it."""
    logging.basicConfig(format="keeper: %(message)s", level=logging.INFO, stream=sys.stderr)
    heap.one_arena(_LARGE)
    try:
        Keeper(arguments(sys.argv[1:])).run()
    except (KeeperError, KernelError) as error:
        print(f"keeper: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
