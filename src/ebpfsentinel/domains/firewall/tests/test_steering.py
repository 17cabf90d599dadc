"""`cpu` of a rule: real packets, taken up by the stack where the rule says."""

import contextlib
import os
import socket
from collections import Counter
from pathlib import Path

import pytest

from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.settings import FirewallSettings
from ebpfsentinel.domains.firewall.tests.guard import Guard
from ebpfsentinel.domains.firewall.tests.judge import PASS
from ebpfsentinel.domains.firewall.tests.network import Network
from ebpfsentinel.domains.firewall.tests.packets import udp4
from ebpfsentinel.domains.firewall.tests.test_traffic import (
    ALLOWED,
    DENIED,
    FAMILIES,
    TCX_INGRESS,
    arrivals,
    connects,
    rule,
)
from ebpfsentinel.kernel.build import compile_object
from ebpfsentinel.kernel.libbpf import check, ffi, lib
from ebpfsentinel.kernel.objects import load_object
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.kernel import DRY, XdpMode
from ebpfsentinel.model.settings import SettingsError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")
LAST = (os.cpu_count() or 1) - 1
AROUND = {"cpus": LAST + 1}


@pytest.fixture(scope="module")
def network():
    made = Network()
    yield made
    made.close()


@contextlib.contextmanager
def guarded(network, mode=XdpMode.NATIVE):
    made = Guard(network, mode)
    try:
        assert made.attach() == mode.value
        yield made
    finally:
        made.close()


@contextlib.contextmanager
def watched(network, folder):
    """What the stack takes up meanwhile, by CPU and task."""
    source = Path(__file__).parent / "see_cpu.bpf.c"
    reader = load_object(compile_object(source, folder / "see_cpu.bpf.o"))
    places: Counter[tuple[int, str]] = Counter()
    try:
        fd = reader.programs["see_cpu"].fd
        index = network.agent.call(socket.if_nametoindex, network.agent.device)
        link = network.agent.call(lib().bpf_link_create, fd, index, TCX_INGRESS, ffi.NULL)
        check(link, "attaching")
        yield places
        keys, values = reader.maps["places"].read()
        for key, count in zip(keys, values.tolist(), strict=True):
            places[int(key["cpu"]), bytes(key["task"]).split(b"\0")[0].decode()] = count
        os.close(link)
    finally:
        lib().bpf_object__close(reader.handle)


def steered(places, cpu):
    """Packets that the queue of this CPU took up, there."""
    return sum(n for (at, task), n in places.items() if (at, task[:9]) == (cpu, f"cpumap/{cpu}/"))


def steer(cpu, **written):
    return rule(id="steer", priority=20, action="allow", cpu=cpu, **written)


@needs_root
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("cpu", sorted({0, LAST}))
def test_packets_are_taken_up_on_the_cpu_that_the_rule_names(network, tmp_path, family, cpu):
    with guarded(network) as guard, watched(network, tmp_path) as places:
        guard.judge.rules(steer(cpu), around=AROUND)
        assert arrivals(network, family) == (100, 100)
        assert connects(network, ALLOWED, family)
        assert guard.kernel.failures()["cpu"] == 0
    assert steered(places, cpu) == places.total() == 200


@needs_root
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_denied_never_arrives_by_way_of_another_cpu(network, tmp_path, family):
    deny = rule(protocol="udp", dst_port=DENIED)
    with guarded(network) as guard, watched(network, tmp_path) as places:
        guard.judge.rules(deny, steer(LAST), around=AROUND)
        assert arrivals(network, family) == (0, 100)
        guard.judge.rules(deny, steer(LAST), mode="alert", around=AROUND)
        assert arrivals(network, family)[1] == 100
        assert guard.judge.hits()["r"][0] == 200
    assert steered(places, LAST) == 200


@needs_root
@pytest.mark.parametrize("mode", [XdpMode.GENERIC, XdpMode.TC])
def test_without_native_xdp_packets_stay_where_they_are_and_are_counted(network, tmp_path, mode):
    with guarded(network, mode) as guard, watched(network, tmp_path) as places:
        guard.judge.rules(steer(LAST, protocol="udp"), around=AROUND)
        before = guard.kernel.failures()["cpu"]
        assert arrivals(network) == (100, 100)
        assert guard.kernel.failures()["cpu"] - before == 200
    assert not steered(places, LAST)


@needs_root
def test_rules_that_go_take_the_queue_with_them(network):
    with guarded(network) as guard:
        guard.judge.rules(steer(LAST), around=AROUND)
        keys, _ = guard.kernel.read("steer_cpus")
        assert keys.tolist() == [LAST]
        guard.judge.rules(steer(LAST, enabled=False), around=AROUND)
        assert len(guard.kernel.read("steer_cpus")[0]) == 0
        assert arrivals(network) == (100, 100)
        guard.judge.rules(steer(0), around=AROUND)
        guard.kernel._maps["steer_cpus"].delete(guard.kernel.read("steer_cpus")[0])
        before = guard.kernel.failures()["cpu"]
        assert arrivals(network) == (100, 100)
        assert guard.kernel.failures()["cpu"] > before


@needs_root
def test_a_question_is_not_steered(network):
    with guarded(network) as guard:
        guard.judge.rules(steer(LAST), around=AROUND)
        device = network.agent.device
        before = guard.kernel.failures()
        asked = network.agent.call(guard.kernel.run, DRY, udp4(dport=1), interface=device)
        assert asked.retval == PASS
        assert guard.kernel.failures() == before


@pytest.mark.parametrize(
    ("action", "cpu", "remedy"),
    [
        ("deny", 0, "Leave cpu out"),
        ("reject", 0, "Leave cpu out"),
        ("allow", 2, "Write 0 to 1"),
        ("log", 65_534, "Write 0 to 1"),
    ],
)
def test_a_rule_that_cannot_steer_is_refused(action, cpu, remedy):
    engine = DOMAIN.engine(Tools(rules=None))
    settings = FirewallSettings(rules=[rule(action=action, cpu=cpu)])
    with pytest.raises(SettingsError, match=remedy) as refused:
        engine.plan(settings, {}, Surroundings(cpus=2))
    assert "firewall.rules[0].cpu" in str(refused.value)


def test_the_list_of_rules_shows_the_cpu():
    engine = DOMAIN.engine(Tools(rules=None))
    settings = FirewallSettings(rules=[rule(action="log", cpu=1)])
    engine.commit(engine.plan(settings, {}, Surroundings(cpus=2)))
    assert [view.cpu for view in engine.items("rules") if view.id == "r"] == [1]
