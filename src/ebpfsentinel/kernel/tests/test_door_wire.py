"""What goes over the door comes out as it went in, and what is none of it does not come in."""

import ipaddress
import os
import socket
import threading
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsentinel.kernel.door import calls, channel, wire
from ebpfsentinel.kernel.door.arrays import WireArray, describe, described, packed, unpacked
from ebpfsentinel.kernel.door.remote import KeeperGoneError, RemoteKernel
from ebpfsentinel.model import action as model
from ebpfsentinel.model.floor import Connection, Floor
from ebpfsentinel.model.flows import FlowFilter, PacketFilter
from ebpfsentinel.model.kernel import KernelError, NotLoaded

NESTED = np.dtype([("word", "<u4", (4,)), ("inner", [("x", "u1"), ("y", ">u2")]), ("text", "S16")])
SCALARS = st.sampled_from(["<u4", "<u8", "|u1", ">u2", "<i8", "|S7", "|V56", "|b1"]).map(np.dtype)


def structures(kinds):
    names = st.lists(st.text("abc_", min_size=1, max_size=5), unique=True, min_size=1, max_size=4)
    return names.flatmap(
        lambda found: st.tuples(*[kinds] * len(found)).map(
            lambda dtypes: np.dtype(list(zip(found, dtypes, strict=True)))
        )
    )


def sub_arrays(kinds):
    return st.tuples(kinds, st.integers(1, 3)).map(lambda pair: np.dtype((pair[0], (pair[1],))))


DTYPES = st.recursive(SCALARS, lambda kinds: structures(kinds) | sub_arrays(kinds), max_leaves=6)


@given(DTYPES)
def test_every_dtype_comes_out_as_it_went_in(dtype):
    assert described(describe(dtype)) == dtype


@given(st.binary(max_size=80))
def test_no_bytes_break_the_reader_of_dtypes(data):
    try:
        found = described(data)
    except ValueError:
        return
    assert not found.hasobject


@given(st.binary(max_size=200))
def test_no_bytes_break_the_reader_of_calls(data):
    try:
        wire.decode_call(data)
    except wire.WireError:
        return


CALL = wire.encode(
    calls.Apply(
        [
            wire.to_wire(model.MapWrite("m", np.zeros(2, "<u4"), np.zeros(2, NESTED))),
            wire.to_wire(model.Kill(7, 8)),
            wire.to_wire(model.EndFlows((FlowFilter(port=5),))),
        ]
    )
)


@given(st.integers(0, len(CALL) - 1), st.integers(0, 255))
def test_a_call_with_one_other_byte_is_a_call_or_refused(at, byte):
    data = bytearray(CALL)
    data[at] = byte
    try:
        found = wire.decode_call(bytes(data))
    except wire.WireError:
        return
    assert isinstance(found, calls.CALLS)


@pytest.mark.parametrize(
    "plain",
    [
        "|O",
        "O8",
        "<U4",
        ["|u1", [1 << 30]],
        ["|u1", [-1]],
        [["a"], ["|u1"], [0]],
        [["a", "a"], ["|u1", "|u1"], [0, 1], 2],
        [["a"], ["<u8"], [0], 4],
        [["a"], ["<u8"], [1 << 40], 4],
        [["a"], ["|O"], [0], 8],
        7,
        None,
    ],
)
def test_what_is_no_plain_dtype_is_refused(plain):
    with pytest.raises(ValueError, match="dtype"):
        described(msgspec.msgpack.encode(plain))


def test_a_deep_dtype_is_refused():
    plain = "|u1"
    for _ in range(20):
        plain = [["a"], [plain], [0], 1]
    with pytest.raises(ValueError, match="deep"):
        described(msgspec.msgpack.encode(plain))


@pytest.mark.parametrize(
    ("shape", "data"),
    [((3,), bytes(8)), ((1, 1, 2), bytes(8)), ((-2,), bytes(8)), ((1 << 40, 0), b"")],
)
def test_bytes_that_do_not_fill_their_shape_are_refused(shape, data):
    with pytest.raises(ValueError, match=r"bytes|dimensions"):
        unpacked(WireArray(describe(np.dtype("<u4")), shape, data))


def test_an_array_is_the_callers_own():
    sent = np.arange(4, dtype=np.uint32)
    found = unpacked(packed(sent))
    found[0] = 9
    assert sent[0] == 0
    assert found.tolist() == [9, 1, 2, 3]


ACTIONS = [
    model.MapDelete("m", np.zeros(1, NESTED)),
    model.Swap("m", 1, np.zeros((), NESTED)),
    model.Lend("m", 1, "other"),
    model.Switch("m", {0: np.zeros(3, "u1")}, {1: 5}, "h", np.zeros((), NESTED)),
    model.Patch("m", 1, 2, "h", NESTED, ((0, b"abcd"),)),
    model.Engage("p", on=True),
    model.Run("p", 3),
    model.FlowTable(None),
    model.FlowTable(np.zeros((), NESTED)),
    model.Kill(1, 2),
]


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: type(action).__name__)
def test_every_action_comes_out_as_it_went_in(action):
    (part,) = wire.decode_call(wire.encode(calls.Apply([wire.to_wire(action)]))).actions
    assert repr(wire.to_action(part)) == repr(action)


def test_filters_of_flows_come_out_as_they_went_in():
    large = (1 << 100, 1 << 127)
    sent = model.EndFlows(
        (
            FlowFilter(address=ipaddress.ip_network("fd00::/8"), ports=(1, 2), state="syn_sent"),
            PacketFilter(6, src=(large,), dst_ports=((1, 1),)),
        ),
        barred=True,
    )
    (part,) = wire.decode_call(wire.encode(calls.Apply([wire.to_wire(sent)]))).actions
    assert wire.to_action(part) == sent


def test_a_floor_comes_out_as_it_went_in():
    one = ipaddress.ip_address
    sent = Floor(
        loopback=True,
        networks=frozenset({ipaddress.ip_network("10.0.0.0/8")}),
        ports=frozenset({22}),
        listeners=frozenset({(one("::1"), 3)}),
        connections=frozenset({Connection(one("1.2.3.4"), 1, 2)}),
    )
    call = wire.decode_call(wire.encode(calls.Protect(wire.floor_to_wire(sent))))
    assert wire.floor_of(call.floor) == sent


@pytest.mark.parametrize("error", [KernelError("why"), NotLoaded("m"), KeyError("what")])
def test_an_error_is_raised_as_it_was(error):
    refused = wire.decode_answer(calls.Slots(), wire.encode(wire.refusal(error)))
    found = wire.error_of(refused)
    assert type(found) is type(error)
    assert str(found) == str(error)


def test_an_answer_of_another_call_is_refused():
    with pytest.raises(wire.WireError):
        wire.decode_answer(calls.Slots(), wire.encode(calls.Done([1])))


@pytest.mark.parametrize(
    "call",
    [
        calls.Load(["x" * 65]),
        calls.Reserve(["sixteen-letters-"]),
        calls.Apply([calls.Kill(0, 1)]),
        calls.RunOne("p", bytes((1 << 16) + 1), 1, ""),
        calls.RunOne("p", b"", 1 << 30, ""),
        calls.Locate([""]),
        calls.Lapse(-1, []),
    ],
)
def test_what_is_beyond_the_bounds_is_refused(call):
    data = wire._encoder.encode(call)
    with pytest.raises(wire.WireError, match="Expected"):
        wire.decode_call(data)


def test_frames_and_descriptors_go_over_a_socket():
    here, there = socket.socketpair()
    with here, there, Path("/dev/null").open() as handed:
        body = bytes(range(256)) * 8192
        sending = threading.Thread(target=channel.send, args=(here, body, [handed.fileno()]))
        sending.start()
        data, handles = channel.receive(there, len(body))
        sending.join()
        assert bytes(data) == body
        (handle,) = handles
        with os.fdopen(handle) as found:
            assert not found.isatty()


def test_a_frame_that_is_too_long_ends_the_connection_unread():
    here, there = socket.socketpair()
    with here, there:
        channel.send(here, bytes(100))
        with pytest.raises(channel.ClosedError, match="99 is the most"):
            channel.receive(there, 99)


def test_who_hangs_up_in_the_midst_of_a_frame_is_gone():
    here, there = socket.socketpair()
    with there:
        here.send(bytes([0, 0, 1, 0, 1, 2, 3]))
        here.close()
        with pytest.raises(channel.ClosedError, match="closed"):
            channel.receive(there, 1 << 20)


def test_a_keeper_of_another_version_is_given_a_chance_to_begin_anew_and_then_refused():
    greeted = []

    def old(there):
        with there:
            call = wire.decode_call(channel.receive(there, 1 << 20)[0])
            greeted.append(call.version)
            channel.send(there, wire.encode(calls.Done("0.0.0-old")))

    def connect():
        here, there = socket.socketpair()
        threading.Thread(target=old, args=(there,)).start()
        return here

    kernel = RemoteKernel(connect)
    with pytest.raises(KeeperGoneError, match=r"of version .*-old, and we are of"):
        kernel.reserve(["eth0"])
    assert len(greeted) == 2
    assert "0.0.0-old" in kernel.trouble()
    with pytest.raises(KeeperGoneError):
        kernel.regain()
