"""What engines may know of the machine: DNS names of a real server, namespaces of real links."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import dns.message
import dns.resolver
import dns.rrset
import pytest

from ebpfsentinel import machine
from ebpfsentinel.kernel.fake import FakeKernel
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class NameServer(threading.Thread):
    """Answers on loopback with what is in ``zone``; a name that is not there gets no answer."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(daemon=True)
        self.zone: dict[tuple[str, str], tuple[int, list[str]]] = {}
        self.asked = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", port))
        self.port = self._socket.getsockname()[1]

    def run(self) -> None:
        while True:
            wire, peer = self._socket.recvfrom(4096)
            if not wire:
                return
            self.asked += 1
            question = dns.message.from_wire(wire)
            (asked,) = question.question
            kind = "A" if asked.rdtype == 1 else "AAAA"
            if (known := self.zone.get((str(asked.name), kind))) is None:
                continue
            answer = dns.message.make_response(question)
            if known[1]:
                answer.answer.append(
                    dns.rrset.from_text(asked.name, known[0], "IN", kind, *known[1])
                )
            self._socket.sendto(answer.to_wire(), peer)

    def close(self) -> None:
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self.join()
        self._socket.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServer]:
    import dns.asyncresolver  # noqa: PLC0415

    found = NameServer()
    found.start()
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers, resolver.port = ["127.0.0.1"], found.port
    monkeypatch.setattr(dns.asyncresolver, "default_resolver", resolver)
    yield found
    found.close()


def test_names_are_resolved_again_when_their_ttl_is_over(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = machine.Names()
    now_s = 1000.0
    monkeypatch.setattr(machine, "monotonic", lambda: now_s)
    server.zone = {
        ("www.test.", "A"): (60, ["192.0.2.1"]),
        ("www.test.", "AAAA"): (30, ["2001:db8::1"]),
    }

    def refresh() -> bool:
        return asyncio.run(names.refresh(["www.test"]))

    assert refresh()
    assert names.addresses() == {"www.test": ("192.0.2.1", "2001:db8::1")}
    server.zone["www.test.", "A"] = (60, ["192.0.2.9"])
    asked = server.asked
    now_s += 29
    assert not refresh()
    assert server.asked == asked
    now_s += 2
    assert refresh()
    assert names.addresses()["www.test"] == ("192.0.2.9", "2001:db8::1")


def test_a_name_that_fails_keeps_its_last_answer_and_is_asked_again_soon(
    server: NameServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    names = machine.Names()
    now_s = 1000.0
    monkeypatch.setattr(machine, "monotonic", lambda: now_s)
    server.zone = {("a.test.", "A"): (60, ["192.0.2.1"]), ("a.test.", "AAAA"): (60, [])}
    asyncio.run(names.refresh(["a.test"]))
    del server.zone["a.test.", "A"]
    monkeypatch.setattr(machine, "RESOLVE_S", 0.3)
    now_s += 61
    assert not asyncio.run(names.refresh(["a.test"]))
    assert names.addresses() == {"a.test": ("192.0.2.1",)}
    assert "a.test (A) cannot be resolved" in caplog.text
    server.zone["a.test.", "A"] = (60, ["192.0.2.2"])
    now_s += machine.RETRY_S + 1
    assert asyncio.run(names.refresh(["a.test"]))
    assert asyncio.run(names.refresh([]))
    assert names.addresses() == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
def test_a_namespace_is_known_by_the_interfaces_that_lead_there() -> None:
    name, link = f"m{os.getpid()}", f"m{os.getpid()}v"[:15]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    ip("netns", "add", name)
    try:
        ip("link", "add", link, "type", "veth", "peer", "name", "inside", "netns", name)
        found = machine.Machine(FakeKernel())
        assert name not in found.surroundings(()).namespaces
        found.look_around()
        assert found.surroundings(()).namespaces[name] == (link,)
    finally:
        ip("netns", "del", name)


DENY = {"id": "no", "priority": 1, "action": "deny", "protocol": "udp", "dst_port": 5353}


def dies(lab: Any) -> bool:
    """Does a datagram to the denied port die?"""
    return lab.arrivals(5353, 1) == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="running the agent needs root")
def test_packets_follow_what_a_dns_name_stands_for(lab: Any, tmp_path: Path) -> None:
    with lab.inside(lab.guarded):
        names = NameServer(53)
    names.zone = {("bad.test.", "A"): (5, ["10.77.0.1"]), ("bad.test.", "AAAA"): (5, [])}
    names.start()
    resolver = tmp_path / "resolv.conf"
    resolver.write_text("nameserver 127.0.0.1\n")
    mounted = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    aliases = {"bad": {"type": "dynamic_dns", "values": ["bad.test"]}}
    section = {"mode": "block", "rules": [DENY | {"src_alias": "bad"}], "aliases": aliases}
    try:
        agent = lab.agent_within(
            ["unshare", "-m", "sh", "-c", mounted, str(resolver)], firewall=section
        )
        until(lambda: dies(lab))
        names.zone["bad.test.", "A"] = (5, ["192.0.2.1"])
        until(lambda: not dies(lab))
        agent.end()
    finally:
        names.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="running the agent needs root")
def test_packets_follow_the_file_of_a_group(lab: Any, tmp_path: Path) -> None:
    listed = tmp_path / "bad.txt"
    listed.write_text("192.0.2.1  # another\n")
    aliases = {"bad": {"type": "file", "path": str(listed)}}
    lab.agent(
        firewall={"mode": "block", "rules": [DENY | {"src_alias": "bad"}], "aliases": aliases}
    )
    assert not dies(lab)
    listed.write_text("192.0.2.1\n10.77.0.0/24\n")
    until(lambda: dies(lab))


@pytest.mark.skipif(os.geteuid() != 0, reason="running the agent needs root")
def test_w37_packets_from_a_namespace_meet_its_rules_and_no_others(lab: Any) -> None:
    agent = lab.agent(
        firewall={"mode": "block", "rules": [DENY | {"scope": {"namespace": lab.sender}}]}
    )
    assert dies(lab)
    agent.write(firewall={"mode": "block", "rules": [DENY | {"scope": {"namespace": lab.guarded}}]})
    agent.cli("config", "reload")
    assert not dies(lab)
