"""Capture files: those of others are read, damaged ones are refused with the offset."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsentinel.kernel.capture import read_capture
from ebpfsentinel.model.kernel import CaptureError

FRAMES = [bytes([number]) * length for number, length in enumerate((60, 14, 1514, 1, 61), 1)]


def pcap(frames=FRAMES, order="<", magic=0xA1B2C3D4, link=1, wire=0):
    head = struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link)
    records = (struct.pack(order + "IIII", 1, 2, len(f), len(f) + wire) + f for f in frames)
    return head + b"".join(records)


def block(order, kind, body):
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + length + body + length


def pcapng(frames=FRAMES, order="<", link=1):
    section = block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    made = section + block(order, 1, struct.pack(order + "HHI", link, 0, 0))
    for number, frame in enumerate(frames):
        size = len(frame)
        if number % 3 == 0:
            made += block(order, 6, struct.pack(order + "5I", 0, 1, 2, size, size) + frame)
        elif number % 3 == 1:
            made += block(order, 3, struct.pack(order + "I", size) + frame)
        else:
            made += block(order, 2, struct.pack(order + "HH4I", 0, 0, 1, 2, size, size) + frame)
        made += block(order, 0x0BAD, b"not for us")
    return made


def read(path, data):
    path.write_bytes(data)
    chunks = list(read_capture(path))
    return [each.frames.frame(at) for each in chunks for at in range(len(each.frames))]


@pytest.mark.parametrize("order", "<>")
def test_both_formats_and_both_byte_orders_are_read(tmp_path, order):
    for data in (
        pcap(order=order),
        pcap(order=order, magic=0xA1B23C4D),
        pcapng(order=order),
        pcapng(order=order) + pcapng(order="<"),
    ):
        found = read(tmp_path / "f", data)
        assert found == FRAMES * (len(found) // len(FRAMES))
        assert found


def test_what_tcpdump_would_have_cut_is_counted(tmp_path):
    (tmp_path / "f").write_bytes(pcap(wire=5))
    assert sum(each.cut for each in read_capture(tmp_path / "f")) == len(FRAMES)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "empty"),
        (b"hello, world", "offset 0: neither pcap nor pcapng"),
        (b"\x1f\x8b\x08\x00", "compressed; unpack it first"),
        (pcap()[:20], "offset 20: the file header is cut off"),
        (pcap(link=113), r"offset 20: link type 113 \(LINUX_SLL\) is not Ethernet"),
        (pcapng(link=101), r"offset 36: link type 101 \(RAW\) is not Ethernet"),
        (pcap()[:30], "offset 24: a record header is cut off"),
        (pcap()[:50], "offset 40: 60 bytes of frame, 10 there"),
        (pcap()[:32] + b"\xff" * 8 + bytes(60), "offset 24: a frame of 4294967295 bytes: damaged"),
        (pcapng()[:60], "offset 48: 92 bytes of block, 12 there"),
        (pcapng()[:52] + struct.pack("<I", 13) + bytes(40), "offset 48: a block of 13 bytes"),
        (pcapng()[:28] + pcapng()[48:], "offset 28: interface 0 was never described"),
    ],
)
def test_a_damaged_file_is_refused_with_the_offset(tmp_path, data, told):
    with pytest.raises(CaptureError, match=told):
        read(tmp_path / "f", data)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("capture") / "f"


@given(
    whole=st.sampled_from([pcap(), pcapng(), pcapng(order=">")]),
    cut=st.integers(0, 4000),
    at=st.integers(0, 4000),
    patch=st.binary(max_size=8),
)
def test_nothing_in_a_file_breaks_the_reader(scratch, whole, cut, at, patch):
    data = bytearray(whole)
    data[at : at + len(patch)] = patch
    data = bytes(data[: max(len(data) - cut, 0)])
    found = []
    with contextlib.suppress(CaptureError):
        found = read(scratch, data)
    assert sum(map(len, found)) <= len(data)


def test_a_file_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(CaptureError, match="cannot be read: No such file"):
        list(read_capture(tmp_path / "absent"))
