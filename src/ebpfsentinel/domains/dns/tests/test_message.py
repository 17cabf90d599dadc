"""DNS messages: those of scapy, and hostile bytes."""

import contextlib
import struct
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsentinel.domains.dns.message import Answer, Malformed, read, read_name

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.layers.dns import DNS, DNSQR, DNSRR
    from scapy.packet import raw


def answer(*records: tuple[str, str, str, int], name: str = "www.example.com") -> bytes:
    """An answer with records of an owner, a type, data and a TTL."""
    made = [
        DNSRR(rrname=owner, type=kind, rdata=data, ttl=ttl) for owner, kind, data, ttl in records
    ]
    return raw(DNS(id=7, qr=1, qd=[DNSQR(qname=name)], an=made))


def test_addresses_of_both_families_and_by_way_of_aliases():
    message = answer(
        ("www.example.com", "CNAME", "edge.example.net", 30),
        ("edge.example.net", "A", "192.0.2.1", 300),
        ("edge.example.net", "AAAA", "2001:db8::1", 20),
        ("other.example.net", "A", "192.0.2.9", 300),
    )
    assert read(message) == (
        "www.example.com",
        (Answer("192.0.2.1", 30), Answer("2001:db8::1", 20)),
        True,
    )


def test_a_name_that_is_not_there_has_no_addresses():
    message = bytearray(answer(("www.example.com", "A", "192.0.2.1", 300)))
    message[3] |= 3  # NXDOMAIN
    assert read(bytes(message)) == ("www.example.com", (), True)


def test_what_came_before_a_cut_counts():
    message = answer(*(("www.example.com", "A", f"192.0.2.{n}", 60) for n in range(4)))
    found = read(message[:-1])
    assert [each.address for each in found.answers] == ["192.0.2.0", "192.0.2.1", "192.0.2.2"]
    assert not found.whole


def test_letters_are_small_and_other_bytes_are_written_out():
    name = b"\x03WwW\x04a.b\x00\x01X\x00"
    assert read_name(name, 0) == (r"www.a\046b\000.x", len(name))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (b"\xc0\x00", "ahead"),
        (b"\x01a\xc0\x05\x00\x00", "ahead"),
        (b"\x01a\xc0\x00", "too"),
        (b"\x40" + bytes(80), "label"),
        (b"\x05ab", "cut"),
        (b"\xc0", "cut"),
        (b"\x3f" + b"a" * 63, "cut"),
        ((b"\x3f" + b"a" * 63) * 4 + b"\x00", "too long"),
    ],
)
def test_a_name_that_is_none(name, why):
    with pytest.raises(Malformed, match=why):
        read_name(name, 0)


@given(st.binary(max_size=600))
def test_any_bytes_are_an_answer_or_malformed(message):
    for given_bytes in (message, struct.pack(">HHHHHH", 1, 0x8000, 1, 20, 0, 0) + message):
        try:
            found = read(given_bytes)
        except Malformed:
            continue
        assert len(found.answers) <= 64
        assert found.name.isascii()


@given(st.data())
def test_a_changed_byte_anywhere(data):
    message = bytearray(
        answer(
            ("www.example.com", "CNAME", "a.example.net", 30),
            ("a.example.net", "A", "192.0.2.1", 3),
        )
    )
    at = data.draw(st.integers(0, len(message) - 1))
    message[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Malformed):
        assert len(read(bytes(message)).answers) <= 2
