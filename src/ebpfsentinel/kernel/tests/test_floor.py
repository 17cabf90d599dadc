"""The never-block floor on the real kernel, and claims on interfaces."""

import ipaddress
import os
import struct
import subprocess
import sys
import time
import uuid

import numpy as np
import pytest

from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.settings import AntiLockout, FirewallSettings, Policy
from ebpfsentinel.kernel.fake import FakeKernel
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.floor import Connection, Floor
from ebpfsentinel.model.kernel import KernelError
from ebpfsentinel.model.settings import Mode

DROP, PASS = 1, 2
ADMIN, OTHER = "10.77.0.1", "192.0.2.9"
ADMIN6, OTHER6 = "fd77::1", "2001:db8::9"
HOST = {4: "10.77.0.2", 6: "fd77::2"}


def frame(src, src_port, dst_port, protocol=6):
    source = ipaddress.ip_address(src)
    target = ipaddress.ip_address(HOST[source.version])
    l4 = struct.pack(">HHIIBBHHH", src_port, dst_port, 1, 0, 0x50, 2, 64240, 0, 0)
    if source.version == 4:
        head = struct.pack(">HBBHHHBBH", 0x0800, 0x45, 0, 40, 1, 0, 64, protocol, 0)
    else:
        head = struct.pack(">HIHBB", 0x86DD, 6 << 28, 20, protocol, 64)
    return bytes(12) + head + source.packed + target.packed + l4


@pytest.fixture(scope="module")
def kernel():
    made = LinuxKernel()
    made.load([DOMAIN])
    yield made
    made.detach()


def in_force(kernel, mode):
    settings = FirewallSettings(
        mode=mode, default_policy=Policy.DROP, anti_lockout=AntiLockout(enabled=False)
    )
    engine = DOMAIN.engine(Tools(rules=None))
    kernel.apply(engine.plan(settings, {}, Surroundings(anew=True)).actions)


@pytest.fixture
def closed(kernel):
    """Everything is denied, and nothing is on the floor."""
    in_force(kernel, Mode.BLOCK)
    kernel.protect(Floor())
    kernel.lapse(0, [])
    kernel.drain("fw_events")
    return kernel


def verdict(kernel, *packet):
    return kernel.run("xdp_root", frame(*packet)).retval


def net(*texts):
    return frozenset(ipaddress.ip_network(text) for text in texts)


@pytest.mark.parametrize(("admin", "other"), [(ADMIN, OTHER), (ADMIN6, OTHER6)])
def test_only_what_stands_on_the_floor_is_spared(closed, admin, other):
    address = ipaddress.ip_address
    own = address(HOST[address(admin).version])
    session = Connection(address(admin), 40001, 22)
    cases = {
        Floor(networks=net(admin)): [(admin, 1, 7), (admin, 1, 7, 17)],
        Floor(ports=frozenset({8080})): [(admin, 1, 8080), (other, 1, 8080)],
        Floor(listeners=frozenset({(own, 8443)})): [(admin, 1, 8443), (other, 1, 8443)],
        Floor(connections=frozenset({session})): [(admin, 40001, 22)],
    }
    asked = [
        (src, *rest)
        for src in (admin, other)
        for rest in (
            (1, 7),
            (1, 7, 17),
            (1, 8080),
            (1, 8080, 17),
            (1, 8443),
            (40001, 22),
            (40002, 22),
        )
    ]
    for floor, spared in cases.items():
        closed.protect(floor)
        for packet in asked:
            wanted = PASS if packet in spared or (floor.networks and packet[0] == admin) else DROP
            assert verdict(closed, *packet) == wanted, (floor, packet)


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("10.0.0.0/7", "11.255.255.255", "12.0.0.0"),
        ("10.64.0.0/12", "10.79.1.1", "10.80.0.0"),
        ("0.0.0.0/0", "203.0.113.1", None),
        ("192.0.2.128/25", "192.0.2.129", "192.0.2.127"),
        ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
        ("2001:d00::/24", "2001:dff::1", "2001:e00::1"),
        ("2000::/3", "3fff::1", "4000::1"),
        ("2001:db8::77/128", "2001:db8::77", "2001:db8::78"),
    ],
)
def test_networks_of_every_width(closed, network, inside, outside):
    closed.protect(Floor(networks=net(network)))
    assert verdict(closed, inside, 1, 7) == PASS
    if outside:
        assert verdict(closed, outside, 1, 7) == DROP
    closed.protect(Floor())
    assert verdict(closed, inside, 1, 7) == DROP


def test_what_is_spared_is_counted_and_its_event_says_so(closed):
    closed.protect(Floor(networks=net(ADMIN)))
    closed.reserve(["lo"])
    before = closed.total("interface_count")[0].copy()
    verdict(closed, ADMIN, 1, 7)
    verdict(closed, OTHER, 1, 7)
    after = closed.total("interface_count")[0]
    gained = {name: int(after[name] - before[name]) for name in ("passed", "dropped", "spared")}
    assert gained == {"passed": 1, "dropped": 1, "spared": 1}
    assert closed.drain("fw_events")["action"].tolist() == [8, 1]


def test_in_alert_mode_nothing_changes(closed):
    in_force(closed, Mode.ALERT)
    closed.protect(Floor(networks=net(ADMIN)))
    assert verdict(closed, ADMIN, 1, 7) == PASS
    assert closed.drain("fw_events")["action"].tolist() == [1]


def test_a_lapse_ends_drops_of_the_domains_it_names(closed):
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    closed.lapse(now + 3_600 * 10**9, [DOMAIN.name])
    assert verdict(closed, OTHER, 1, 7) == DROP
    closed.lapse(now, ["another"])
    assert verdict(closed, OTHER, 1, 7) == DROP
    closed.lapse(now, [DOMAIN.name])
    assert verdict(closed, OTHER, 1, 7) == PASS
    closed.lapse(0, [])
    assert verdict(closed, OTHER, 1, 7) == DROP


def test_both_kernels_keep_the_same_maps(closed):
    fake = FakeKernel()
    fake.load([DOMAIN])
    address = ipaddress.ip_address
    floor = Floor(
        networks=net("10.0.0.0/8", ADMIN6),
        ports=frozenset({1, 65535}),
        listeners=frozenset({(address(OTHER6), 8080)}),
        connections=frozenset({Connection(address(ADMIN), 40001, 22)}),
    )
    for kernel in (closed, fake):
        kernel.protect(floor)
    for name in ("floor_head", "floor_tcp", "floor_net"):
        ours, twin = (kernel.read(name) for kernel in (closed, fake))
        for one, other in zip(ours, twin, strict=True):
            assert (
                np.sort(one.view(f"V{one.itemsize}")).tobytes()
                == np.sort(other.view(f"V{other.itemsize}")).tobytes()
            )


CLAIM = """
import sys
from ebpfsentinel.kernel.load import LinuxKernel
kernel = LinuxKernel()
kernel.claim([sys.argv[1]])
print("claimed", flush=True)
sys.stdin.read()
"""


def test_a_second_agent_is_refused_with_the_pid_of_the_first_and_a_dead_one_stops_nobody():
    name = f"ebs{uuid.uuid4().hex[:8]}"
    subprocess.run(
        ["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p"], check=True
    )
    try:
        first = subprocess.Popen(
            [sys.executable, "-c", CLAIM, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with first:
            assert first.stdout.readline() == b"claimed\n"
            with pytest.raises(KernelError, match=rf"{name}.*pid {first.pid} \(.*python"):
                LinuxKernel().claim([name])
            first.kill()
        second = LinuxKernel()
        second.claim([name])
        second.detach()
        assert os.getpid() != first.pid
    finally:
        subprocess.run(["ip", "link", "del", name], check=True)
