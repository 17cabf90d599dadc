"""The guard of webhooks: what may not be reached, by name and by address."""

import asyncio
import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsentinel.sinks.addresses import refusal_of_address, refusal_of_name
from ebpfsentinel.sinks.posting import Post
from ebpfsentinel.sinks.sender import SendError
from ebpfsentinel.sinks.tests.receivers import HttpReceiver


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "::1",
        "fd00::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "fec0::1",
    ],
)
def test_private_addresses_need_permission(address):
    assert refusal_of_address(address, allow_private=False)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "::1", "fd00::1"])
def test_private_addresses_may_be_permitted(address):
    assert not refusal_of_address(address, allow_private=True)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "fe80::1%eth0",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "fd00:ec2::254",
        "100.100.100.200",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "255.255.255.255",
        "240.0.0.1",
    ],
)
@pytest.mark.parametrize("allow_private", [True, False])
def test_some_addresses_are_never_reached(address, allow_private):
    assert refusal_of_address(address, allow_private=allow_private)


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_are_reached(address):
    assert not refusal_of_address(address, allow_private=False)


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_in_disguise_is_judged_as_itself(number):
    plain = refusal_of_address(str(ipaddress.IPv4Address(number)), allow_private=False)
    mapped = ipaddress.IPv6Address((0xFFFF << 32) | number)
    nat64 = ipaddress.IPv6Address((0x64FF9B << 96) | number)
    assert bool(refusal_of_address(str(mapped), allow_private=False)) == bool(plain)
    if plain:
        assert refusal_of_address(str(nat64), allow_private=False)


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST.", "a.local", "db.internal", "router"])
def test_private_names_need_permission(name):
    assert refusal_of_name(name, allow_private=False)
    assert not refusal_of_name(name, allow_private=True)


def test_a_metadata_service_is_never_asked():
    assert refusal_of_name("metadata.google.internal", allow_private=True)


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f.1", "0177.0.0.1", "127.1", "localhost", "[::1]", "[::ffff:7f00:1]"]
)
def test_no_spelling_of_loopback_gets_through(host):
    async def body():
        async with HttpReceiver() as receiver:
            post = Post(f"http://{host}:{receiver.port}/", guarded=True)
            with pytest.raises(SendError, match="refused"):
                await post(b"{}", "application/json", {})
            assert not receiver.requests

    asyncio.run(body())


def test_the_connection_goes_to_the_address_that_was_looked_at(monkeypatch):
    """The name answers differently the second time; nobody asks a second time."""

    async def body():
        async with HttpReceiver() as receiver:
            asked = []

            async def answer(host, _port, **_):
                asked.append(host)
                return [(2, 1, 6, "", ("127.0.0.1" if len(asked) == 1 else "169.254.169.254", 0))]

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answer)
            post = Post(f"http://hook.test:{receiver.port}/x", guarded=True, allow_private=True)
            for _ in range(3):
                await post(b"{}", "application/json", {})
            assert asked == ["hook.test"]
            assert receiver.taken[0][1]["host"] == f"hook.test:{receiver.port}"
            await post.aclose()
            post._pinned = (-1e9, "")
            with pytest.raises(SendError, match="metadata"):
                await post(b"{}", "application/json", {})
            await post.aclose()

    asyncio.run(body())


def test_one_bad_address_among_good_ones_is_enough(monkeypatch):
    async def body():
        async def answer(*_, **__):
            return [(2, 1, 6, "", (each, 0)) for each in ("1.1.1.1", "10.0.0.1")]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answer)
        with pytest.raises(SendError, match=r"10\.0\.0\.1 is private"):
            await Post("http://hook.test/", guarded=True)(b"", "application/json", {})

    asyncio.run(body())
