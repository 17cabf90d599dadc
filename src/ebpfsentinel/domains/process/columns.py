"""Events as columns: what conditions are evaluated over.

Only the columns that some condition reads are made. Text columns are dictionary-encoded: each
distinct value of a batch is decoded once, however many processes share it. (``np.unique`` over the
wide byte columns sorts them and takes five times as long as a dict.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.process.calls import call_name, error_name, request_name
from ebpfsentinel.domains.process.events import ProcessFlag
from ebpfsentinel.domains.process.fields import TYPES
from ebpfsentinel.domains.process.image import (
    NONE_ID,
    Texts,
    arguments,
    base_name,
    container_of,
    heads,
    joined,
    script_of,
    text,
)
from ebpfsentinel.domains.process.tree import UNKNOWN
from ebpfsentinel.model.conditions import FieldType, Table, Words

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from numpy.typing import NDArray

    from ebpfsentinel.domains.process.image import Image
    from ebpfsentinel.domains.process.tree import Node

    Column = Words | NDArray[Any]


@dataclass
class Events:
    """Records of one kind with what the tree knows of their processes; all of the same length.

    ``rows`` are the records, ``images`` what the processes ran at the event, ``targets`` the traced
    processes of ptrace events.
    """

    type: str
    rows: NDArray[Any]
    nodes: Sequence[Node]
    images: Sequence[Image]
    targets: Sequence[Node] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def heads(self) -> NDArray[Any]:
        """The numbers of the images, dtype ``HEAD``."""
        return heads(self.images)

    def where(self, mask: NDArray[np.bool_]) -> Events:
        """The events of ``mask``."""
        index = np.flatnonzero(mask).tolist()
        return Events(
            self.type,
            self.rows[mask],
            [self.nodes[i] for i in index],
            [self.images[i] for i in index],
            [self.targets[i] for i in index] if self.targets else [],
        )


def encode(values: Sequence[Hashable], decode: Callable[[Any], Any]) -> Words:
    """The values dictionary-encoded, in order of appearance, each distinct one decoded once."""
    distinct = dict.fromkeys(values)
    index = {value: code for code, value in enumerate(distinct)}
    codes = np.fromiter(map(index.__getitem__, values), np.int32, len(values))
    return Words(codes, [decode(value) for value in distinct])


def table(events: Events, fields: Iterable[str]) -> Table:
    """The columns of ``fields`` over the events.

    Raises:
        KeyError: a name that is not one of the documented fields.
    """
    return Table(len(events), {name: _column(events, name) for name in fields})


def _column(events: Events, name: str) -> Column:
    kind, build = COLUMNS[name]
    if kind and kind != events.type:
        return _blank(len(events), TYPES[name])
    return build(events)


def _blank(length: int, kind: FieldType) -> Column:
    """The column of a field that does not apply."""
    if kind is FieldType.STRING:
        return Words(np.zeros(length, np.int32), [""])
    if kind is FieldType.STRINGS:
        return Words(np.zeros(length, np.int32), [()])
    return np.zeros(length, np.bool_ if kind is FieldType.BOOL else np.int64)


_text = Texts(text)
_arguments = Texts(arguments)
_joined = Texts(joined)
_container = Texts(container_of)
_name = Texts(lambda raw: base_name(text(raw)) if raw.startswith(b"/") else text(raw))


def _image_text(name: str, decode: Callable[[bytes], Any]) -> Callable[[Events], Column]:
    return lambda events: encode([getattr(image, name) for image in events.images], decode)


def _names(images: Iterable[Image]) -> Words:
    return encode([image.path or image.comm for image in images], _name)


def _number(name: str) -> Callable[[Events], Column]:
    """A number of the record itself; an id of -1 is -1 again."""
    return lambda events: _signed(events.rows[name])


def _head_number(name: str) -> Callable[[Events], Column]:
    return lambda events: _signed(events.heads[name])


def _signed(column: NDArray[Any]) -> NDArray[np.int64]:
    wide = column.astype(np.int64)
    wide[wide == NONE_ID] = -1
    return wide


def _flag(flag: ProcessFlag) -> Callable[[Events], Column]:
    return lambda events: events.heads["flags"] & flag != 0


def _named(field_name: str, name: Callable[[int], str]) -> Callable[[Events], Column]:
    return lambda events: encode(events.rows[field_name].tolist(), name)


def _scripts(events: Events) -> Column:
    flagged = np.flatnonzero(events.heads["flags"] & ProcessFlag.PROCESS_SCRIPT)
    values = [""] * len(events)
    for index in flagged.tolist():
        values[index] = script_of(events.images[index])
    return encode(values, str)


def _parents(decode_of: str) -> Callable[[Events], Column]:
    def build(events: Events) -> Column:
        above = [node.up.image if node.up else UNKNOWN.image for node in events.nodes]
        if decode_of == "name":
            return _names(above)
        return encode([image.path for image in above], _text)

    return build


def _ancestors(events: Events) -> Column:
    return encode([node.up for node in events.nodes], lambda link: link.names if link else ())


def _target_uid(events: Events) -> Column:
    known = events.rows["flags"] & ProcessFlag.PROCESS_TARGET_KNOWN != 0
    told = _signed(heads([node.image for node in events.targets])["uid"])
    told[[node is UNKNOWN for node in events.targets]] = -1
    return np.where(known, events.rows["target_uid"].astype(np.int64), told)


def _target_pid(events: Events) -> Column:
    pids = np.array([node.key[0] for node in events.targets], np.int64)
    return np.where(events.rows["target_pid"] != 0, events.rows["target_pid"], pids).astype(
        np.int64
    )


def _target_name(events: Events) -> Column:
    return _names(node.image for node in events.targets)


COLUMNS: dict[str, tuple[str, Callable[[Events], Column]]] = {
    "event.type": ("", lambda events: Words(np.zeros(len(events), np.int32), [events.type])),
    "process.path": ("", _image_text("path", _text)),
    "process.name": ("", lambda events: _names(events.images)),
    "process.comm": ("", lambda events: encode(events.rows["comm"].tolist(), _text)),
    "process.args": ("", _image_text("argv", _joined)),
    "process.argv": ("", _image_text("argv", _arguments)),
    "process.argc": ("", _head_number("argc")),
    "process.args_truncated": ("", _flag(ProcessFlag.PROCESS_ARGV_TRUNCATED)),
    "process.script": ("", _scripts),
    "process.cwd": ("", _image_text("cwd", _text)),
    "process.deleted": ("", _flag(ProcessFlag.PROCESS_DELETED)),
    "process.memfd": ("", _flag(ProcessFlag.PROCESS_MEMFD)),
    "process.tty": ("", _flag(ProcessFlag.PROCESS_TTY)),
    **{
        f"process.{name}": ("", _number(name))
        for name in ("pid", "ppid", "uid", "gid", "euid", "egid", "pid_ns")
    },
    **{
        f"process.{name}": ("", _head_number(name))
        for name in ("loginuid", "sessionid", "mnt_ns", "net_ns", "user_ns", "uts_ns", "ipc_ns")
    },
    "process.parent.path": ("", _parents("path")),
    "process.parent.name": ("", _parents("name")),
    "process.ancestors": ("", _ancestors),
    "process.cgroup": ("", _image_text("cgroup", _text)),
    "process.container.id": ("", _image_text("cgroup", _container)),
    "exec.filename": (
        "exec_failed",
        lambda events: encode(events.rows["filename"].tolist(), _text),
    ),
    "exec.errno": ("exec_failed", _number("error")),
    "exec.error": ("exec_failed", _named("error", error_name)),
    "exit.code": ("exit", _number("code")),
    "exit.signal": ("exit", _number("signal")),
    "ptrace.request": ("ptrace", _named("request", request_name)),
    "ptrace.result": ("ptrace", _number("result")),
    "ptrace.target.pid": ("ptrace", _target_pid),
    "ptrace.target.uid": ("ptrace", _target_uid),
    "ptrace.target.path": (
        "ptrace",
        lambda events: encode([node.image.path for node in events.targets], _text),
    ),
    "ptrace.target.name": ("ptrace", _target_name),
    "setuid.call": ("setuid", _named("call", call_name)),
    "setuid.result": ("setuid", _number("result")),
    "setuid.asked": ("setuid", _number("asked_1")),
    **{
        f"setuid.{name}": ("setuid", _number(name))
        for name in ("old_uid", "old_euid", "old_gid", "old_egid")
    },
}
"""How each documented field is made, and the one event type that has it (empty: all have)."""
