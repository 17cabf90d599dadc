"""`mirror` of a rule: real packets, whose copies come out of another interface byte for byte."""

import contextlib
import fcntl
import ipaddress
import os
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.settings import FirewallSettings
from ebpfsentinel.domains.firewall.tests.guard import Guard
from ebpfsentinel.domains.firewall.tests.judge import PASS, rule
from ebpfsentinel.domains.firewall.tests.network import Network, Side, ip
from ebpfsentinel.domains.firewall.tests.packets import Dot1Q, udp4, udp6
from ebpfsentinel.domains.firewall.tests.wire import raw
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.floor import Floor
from ebpfsentinel.model.kernel import DRY, XdpMode
from ebpfsentinel.model.settings import SettingsError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
MODES = [XdpMode.NATIVE, XdpMode.GENERIC, XdpMode.TC]
DENIED, ALLOWED, LOGGED, END = 7001, 7002, 7003, 7009
MIRROR = "mon0"
SIOCGIFHWADDR = 0x8927


class Monitor:
    """A pair; what leaves by its end ``mon0``, the agent's, is seen at the other."""

    def __init__(self, agent) -> None:
        self.agent = agent
        self.side = Side(f"fw{os.getpid()}m", "tap0", 3)
        self.connect()

    def connect(self) -> None:
        """Make the pair; also again, after it was removed."""
        pair = ["type", "veth", "peer", "name", "tap0", "netns", self.side.name]
        ip("link", "add", MIRROR, "netns", self.agent.name, *pair)
        for side, device in ((self.agent, MIRROR), (self.side, "tap0")):
            side.ip("link", "set", device, "up")
            side.call(_quiet, device)
        self.side.call(subprocess.run, ["ethtool", "-K", "tap0", "gro", "on"], check=True)
        self.tap = self.side.call(raw, "tap0")
        self.tap.settimeout(60)

    def links(self) -> dict[str, int]:
        """As the agent would see them."""
        return {name: index for index, name in self.agent.call(socket.if_nameindex)}

    def next(self, count: int) -> list[bytes]:
        """The next frames that come."""
        return [self.tap.recv(65536) for _ in range(count)]

    def close(self) -> None:
        self.tap.close()
        self.side.close()


def _quiet(device: str) -> None:
    """Without IPv6 nothing leaves by itself."""
    Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("1")


@pytest.fixture(scope="module")
def network():
    made = Network()
    yield made
    made.close()


@pytest.fixture(scope="module")
def monitor(network):
    made = Monitor(network.agent)
    yield made
    made.close()


class Mirrored:
    """A guarded host with a mirror, a sender of raw frames, and receivers behind the guard."""

    def __init__(self, network, monitor, mode) -> None:
        self.network, self.monitor = network, monitor
        self.guard = Guard(network, mode)
        self.sender = network.peer.call(raw, network.peer.device)
        self.mac = network.agent.call(_mac_of, network.agent.device)
        assert self.guard.attach() == mode.value

    def rules(self, *rules, **settings) -> None:
        """Put in force, in the agent's namespace: indices mean something only there."""
        put, around = self.guard.judge.rules, {"links": self.monitor.links()}
        self.network.agent.call(put, *rules, around=around, **settings)

    def frame(self, port: int, data: bytes = b"mirrored", tags=(), ipv6: bool = False) -> bytes:
        build, ends = (udp6, "ipv6") if ipv6 else (udp4, "ipv4")
        peer, agent = (getattr(side, ends) for side in (self.network.peer, self.network.agent))
        made = build(peer, agent, dport=port, data=data, tags=tags)
        return self.mac + made[6:]

    def arrivals(self, *frames: bytes, ipv6: bool = False) -> dict[int, int]:
        """Datagrams by port that get behind the guard."""
        family = socket.AF_INET6 if ipv6 else socket.AF_INET
        ports = (DENIED, ALLOWED, LOGGED, END)
        agent = self.network.agent
        receivers = {port: agent.socket(socket.SOCK_DGRAM, port, family) for port in ports}
        with contextlib.ExitStack() as stack:
            for receiver in receivers.values():
                stack.enter_context(receiver)
            for frame in (*frames, self.frame(END, ipv6=ipv6)):
                self.sender.send(frame)
            receivers[END].recv(64)
            return {port: _waiting(receivers[port]) for port in ports if port != END}

    def copies(self) -> dict[str, int]:
        """What became of copies."""
        found = self.guard.kernel.total("fw_copies")[0]
        return {name: int(found[name]) for name in found.dtype.names}

    def close(self) -> None:
        self.sender.close()
        self.guard.close()


def _waiting(receiver: socket.socket) -> int:
    receiver.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while receiver.recv(4096):
            count += 1
    return count


def _mac_of(device: str) -> bytes:
    with socket.socket() as any_socket:
        request = struct.pack("16s24x", device.encode())
        return fcntl.ioctl(any_socket, SIOCGIFHWADDR, request)[18:24]


@contextlib.contextmanager
def mirrored(network, monitor, mode=XdpMode.NATIVE):
    made = Mirrored(network, monitor, mode)
    try:
        yield made
    finally:
        made.close()


def copied(port=DENIED, action="deny", **fields):
    written = {"protocol": "udp", "dst_port": port, "mirror": MIRROR, **fields}
    return rule(f"{action}-{port}", action, **written)


def tc_programs(guard) -> int:
    """Places where TC looks at packets."""
    found = {program.name: program.attached for program in guard.kernel.programs()}
    return len(found["tc_firewall"])


NOTHING = {"sent": 0, "too_big": 0, "no_interface": 0, "failed": 0}


@needs_root
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ipv6", [False, True])
def test_what_is_denied_comes_out_of_the_mirror_and_nowhere_else(network, monitor, mode, ipv6):
    with mirrored(network, monitor, mode) as at:
        at.rules(copied())
        sent = [at.frame(DENIED, b"%d" % number * 40, ipv6=ipv6) for number in range(20)]
        between = [at.frame(ALLOWED, ipv6=ipv6)] * 20
        told = at.arrivals(*(each for both in zip(sent, between, strict=True) for each in both),
                           ipv6=ipv6)  # fmt: skip
        assert told == {DENIED: 0, ALLOWED: 20, LOGGED: 0}
        assert monitor.next(20) == sent
        assert at.copies() == NOTHING | {"sent": 20}
        (count,) = at.guard.kernel.interface_counters()
        assert count.packets["dropped"] == 20


@needs_root
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ipv6", [False, True])
def test_what_passes_arrives_and_its_copy_too(network, monitor, mode, ipv6):
    with mirrored(network, monitor, mode) as at:
        at.rules(copied(ALLOWED, "allow"), copied(LOGGED, "log"))
        sent = [at.frame(port, ipv6=ipv6) for port in (ALLOWED, LOGGED)] * 10
        told = at.arrivals(at.frame(DENIED, ipv6=ipv6), *sent, ipv6=ipv6)
        assert told == {DENIED: 1, ALLOWED: 10, LOGGED: 10}
        assert monitor.next(20) == sent
        assert at.copies() == NOTHING | {"sent": 20}
        assert at.guard.judge.hits()[f"allow-{ALLOWED}"][0] == 10  # not counted again by TC


@needs_root
@pytest.mark.parametrize("mode", MODES)
def test_alert_mode_drops_nothing_and_copies_all_the_same(network, monitor, mode):
    with mirrored(network, monitor, mode) as at:
        at.rules(copied(), mode="alert")
        assert at.arrivals(at.frame(DENIED))[DENIED] == 1
        assert monitor.next(1) == [at.frame(DENIED)]
        assert at.copies() == NOTHING | {"sent": 1}


@needs_root
@pytest.mark.parametrize("mode", MODES)
def test_what_the_floor_spares_arrives_and_is_copied(network, monitor, mode):
    with mirrored(network, monitor, mode) as at:
        at.rules(copied())
        peer = ipaddress.ip_network(f"{network.peer.ipv4}/32")
        at.guard.kernel.protect(Floor(networks=frozenset({peer})))
        assert at.arrivals(at.frame(DENIED))[DENIED] == 1
        assert monitor.next(1) == [at.frame(DENIED)]
        assert at.copies() == NOTHING | {"sent": 1}


@needs_root
@pytest.mark.parametrize("mode", MODES)
def test_what_does_not_fit_is_counted_and_judged_all_the_same(network, monitor, mode):
    with mirrored(network, monitor, mode) as at:
        network.agent.ip("link", "set", MIRROR, "mtu", "1400")
        try:
            at.rules(copied(), copied(ALLOWED, "allow"))
            room = 1400 - 20 - 8
            fitting = [at.frame(port, bytes(room)) for port in (DENIED, ALLOWED)]
            tagged = at.frame(DENIED, bytes(room), tags=[Dot1Q(vlan=0)])
            larger = [at.frame(port, bytes(room + 1)) for port in (DENIED, ALLOWED)]
            told = at.arrivals(*larger, tagged, *fitting)
            assert told == {DENIED: 0, ALLOWED: 2, LOGGED: 0}
            assert at.copies() == NOTHING | {"sent": 3, "too_big": 2}
            untagged = tagged[:12] + tagged[16:]  # as a socket sees it
            assert sorted(monitor.next(3)) == sorted([untagged, *fitting])
        finally:
            network.agent.ip("link", "set", MIRROR, "mtu", "1500")


@needs_root
@pytest.mark.parametrize("mode", MODES)
def test_an_interface_that_goes_is_counted_and_works_again_when_it_is_back(network, monitor, mode):
    rules = copied(), copied(ALLOWED, "allow")
    with mirrored(network, monitor, mode) as at:
        at.rules(*rules)
        network.agent.ip("link", "del", MIRROR)
        told = at.arrivals(at.frame(DENIED), at.frame(ALLOWED))
        assert told == {DENIED: 0, ALLOWED: 1, LOGGED: 0}
        assert at.copies() == NOTHING | {"no_interface": 2}
        at.rules(*rules)
        assert at.guard.judge.engine.status()["unresolved"] == [f"interface {MIRROR}"]
        monitor.tap.close()
        monitor.connect()
        at.rules(*rules)
        assert at.guard.judge.engine.status()["unresolved"] == []
        sent = [at.frame(DENIED), at.frame(ALLOWED)]
        assert at.arrivals(*sent)[ALLOWED] == 1
        assert sorted(monitor.next(2)) == sorted(sent)


@needs_root
@pytest.mark.parametrize("mode", [XdpMode.NATIVE, XdpMode.GENERIC])
def test_tc_is_there_only_while_rules_have_a_mirror(network, monitor, mode):
    with mirrored(network, monitor, mode) as at:
        assert tc_programs(at.guard) == 0
        at.rules(copied(ALLOWED, "allow"))
        assert tc_programs(at.guard) == 1
        at.rules(copied(ALLOWED, "allow", enabled=False))
        assert tc_programs(at.guard) == 0
        assert len(at.guard.kernel.read("fw_mirrors")[0]) == 0
        assert at.arrivals(at.frame(ALLOWED))[ALLOWED] == 1
        assert at.copies() == NOTHING


@needs_root
def test_a_question_sends_nothing(network, monitor):
    with mirrored(network, monitor) as at:
        at.rules(copied())
        frame, device = at.frame(DENIED), network.agent.device
        asked = network.agent.call(at.guard.kernel.run, DRY, frame, interface=device)
        assert asked.retval == PASS
        assert at.copies() == NOTHING


def plan(*rules, links, engine=None, **settings):
    engine = engine or DOMAIN.engine(Tools(rules=None))
    made = engine.plan(
        FirewallSettings(rules=list(rules), **settings), {}, Surroundings(links=links)
    )
    return engine, made


@pytest.mark.parametrize(
    ("action", "mirror", "said", "remedy"),
    [
        ("reject", MIRROR, "becomes the answer", "write deny"),
        ("deny", "lo", "comes in again", "another interface"),
        ("allow", "mon9", "there is no interface 'mon9'", MIRROR),
    ],
)
def test_a_mirror_that_cannot_be_is_refused(action, mirror, said, remedy):
    with pytest.raises(SettingsError, match=said) as refused:
        plan(copied(80, action, mirror=mirror), links={"lo": 1, MIRROR: 7})
    assert "firewall.rules[0].mirror" in str(refused.value)
    assert remedy in str(refused.value)


def test_a_mirror_that_is_gone_does_not_stop_a_restart():
    engine, made = plan(copied(), links={MIRROR: 7})
    assert made.links == {MIRROR: 7}
    engine.commit(made)
    again = DOMAIN.engine(Tools(rules=None))
    again.recall(made.memo)
    _, kept = plan(copied(), links={"lo": 1}, engine=again)
    assert kept.links == {MIRROR: 0}
    again.commit(kept)
    assert again.status()["unresolved"] == [f"interface {MIRROR}"]
    with pytest.raises(SettingsError, match="there is no interface 'mon1'"):
        plan(copied(), copied(80, mirror="mon1"), links={}, engine=again)


def test_where_nothing_is_sent_the_machine_need_not_have_the_interface():
    _, made = plan(copied(), links=None)
    assert made.links == {}


def test_another_index_writes_one_entry_and_compiles_nothing():
    engine, made = plan(copied(), links={MIRROR: 7})
    engine.commit(made)
    _, moved = plan(copied(), links={MIRROR: 9}, engine=engine)
    kinds = {type(action).__name__: action for action in moved.actions}
    assert kinds["MapWrite"].values.tolist() == [9]
    assert not kinds["Switch"].places
    assert "Engage" not in kinds


def test_the_list_of_rules_shows_the_mirror_and_metrics_tell_of_copies():
    engine, made = plan(copied(), links={MIRROR: 7})
    engine.commit(made)
    (view,) = (view for view in engine.items("rules") if not view.system)
    assert view.mirror == MIRROR
    results = {m.labels["result"] for m in engine.metrics() if m.name == "mirrored"}
    assert results == set(NOTHING)
