"""``why`` and ``would``: the answer of the loaded programs, the rules behind it, and no trace."""

import ipaddress
import random
import time

import msgspec
import pytest

from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.asking import parse
from ebpfsentinel.domains.firewall.building import build
from ebpfsentinel.domains.firewall.conditions import matches, point_of
from ebpfsentinel.domains.firewall.explaining import asked_of, explain
from ebpfsentinel.domains.firewall.replay import Judge as Replayed
from ebpfsentinel.domains.firewall.settings import FirewallRule
from ebpfsentinel.domains.firewall.tests import packets
from ebpfsentinel.domains.firewall.tests.judge import Judge
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.alert import Alert, Severity
from ebpfsentinel.model.floor import Floor
from ebpfsentinel.model.kernel import DRY, Frames, KernelError
from ebpfsentinel.model.settings import SettingsError


def rule(number, **written):
    priority, action = written.pop("priority", number), written.pop("action", "deny")
    written = {name: value for name, value in written.items() if value is not None}
    tree = {"id": f"r{number}", "priority": priority, "action": action, **written}
    return msgspec.convert(tree, FirewallRule)


@pytest.fixture(scope="module")
def judge():
    kernel = LinuxKernel()
    kernel.load([DOMAIN])
    yield Judge(kernel)
    kernel.detach()


def ask(judge, line):
    return explain(parse(line), judge.engine, judge.kernel, time.time_ns())


@pytest.mark.parametrize(("mode", "word"), [("block", "deny"), ("alert", "would_deny")])
def test_the_deciding_rule_and_what_would_follow(judge, mode, word):
    judge.rules(
        rule(1, src_ip="192.0.2.0/24", action="allow"),
        rule(2, dst_port=22, protocol="tcp"),
        rule(3, dst_port="20-30", action="log"),
        rule(4, enabled=False),
        rule(5, vlan_id=8),
        rule(6, scope="eth9"),
        rule(7, src_ip="10.0.0.0/8", vlan_id=7),
        mode=mode,
        policy="drop",
        interfaces={"eth9": 3},
    )
    found = ask(judge, "tcp 10.0.0.1:4242 -> 10.0.0.2:22 vlan 7")
    assert (found["verdict"], found["rule"]["id"]) == (word, "r2")
    assert found["rule"]["origin"] == "config"
    assert [each["id"] for each in found["would_follow"]] == ["r3", "r7", "default-policy"]
    assert found["would_follow"][-1]["action"] == "deny"
    last = ask(judge, "udp 10.0.0.1:1 -> 10.0.0.2:99")
    assert last["rule"] == {"id": "default-policy"}
    assert last["would_follow"] == []


@pytest.mark.parametrize(("mode", "word"), [("block", "spared"), ("alert", "would_deny")])
def test_what_the_floor_spares_is_said_to_be(judge, mode, word):
    judge.rules(rule(1, dst_port=22), rule(2, src_ip="192.0.2.0/24", action="log"), mode=mode)
    admins = frozenset(
        {ipaddress.ip_network("192.0.2.7/32"), ipaddress.ip_network("2001:db8::/32")}
    )
    judge.kernel.protect(Floor(loopback=True, networks=admins))
    try:
        for source, verdict in (("192.0.2.7", word), ("192.0.2.8", word.replace("spared", "deny"))):
            found = ask(judge, f"tcp {source}:4242 -> 10.0.0.2:22")
            assert (found["verdict"], found["rule"]["id"]) == (verdict, "r1")
        assert ask(judge, "udp 192.0.2.7:4242 -> 10.0.0.2:99")["verdict"] == "log"
        assert ask(judge, "tcp [2001:db8::1]:4242 -> [::1]:22")["verdict"] == word
        frames = Frames.of([build(parse(f"tcp 192.0.2.{n}:1 -> 10.0.0.2:22")) for n in (7, 8)])
        replayed = Replayed(judge.kernel, judge.engine.names(), ["r1"], lambda _: None)
        replayed.judge(frames)
        told = {row["verdict"]: row["frames"] for row in replayed.table()}
        assert told == ({"deny": 1, "spared": 1} if mode == "block" else {"deny": 2})
    finally:
        judge.kernel.protect(Floor())


def test_asking_leaves_no_trace(judge):
    judge.rules(rule(1, dst_port=22))
    before = judge.hits(), judge.kernel.total("interface_count").tolist()
    for _ in range(5):
        ask(judge, "tcp 10.0.0.1:4242 -> 10.0.0.2:22")
    assert (judge.hits(), judge.kernel.total("interface_count").tolist()) == before
    assert len(judge.kernel.drain("fw_events")) == 0
    judge.judge(build(parse("tcp 10.0.0.1:4242 -> 10.0.0.2:22")))
    assert judge.hits()["r1"][0] == before[0]["r1"][0] + 1


def test_the_conditions_of_rules_agree_with_the_programs(judge):
    pick = random.Random(11)

    def some(*values):
        return pick.choice([None, None, *values])

    def random_rule(number):
        protocol = pick.choice(["any", "tcp", "udp", "icmp"])
        ports = protocol != "icmp"
        return rule(
            number,
            protocol=protocol,
            src_ip=some("10.0.0.0/30", "10.0.0.1", "fd00::/127"),
            dst_port=some(22, "20-30") if ports else None,
            src_port=some("0-100") if ports else None,
            vlan_id=some(0, 7),
            flags=some("S/SA", "A", "/S") if protocol == "tcp" else None,
            icmp_type=some(0, 8) if protocol == "icmp" else None,
            dscp_match=some(46),
            fragment=some("none", "first", "later", "any"),
            src_mac=some("02:00:00:00:00:01", "02:00:00:00:00:05"),
            action=pick.choice(["allow", "deny", "log"]),
        )

    for _ in range(40):
        rules = [random_rule(number) for number in range(1, 12)]
        judge.rules(*rules)
        for _ in range(25):
            protocol = pick.choice(["tcp", "udp", "icmp", "47"])
            later = pick.random() < 0.2
            six = pick.random() < 0.3 and protocol != "icmp"
            with_ports = protocol in ("tcp", "udp") and not later
            ports = [f":{pick.choice([22, 25, 80, 200])}" if with_ports else "" for _ in "ab"]
            sides = [
                f"[fd00::{pick.randrange(4)}]" if six else f"10.0.0.{pick.randrange(6)}"
                for _ in "ab"
            ]
            line = f"{protocol} {sides[0]}{ports[0]} -> {sides[1]}{ports[1]}"
            line += pick.choice(["", " vlan 7"]) + (" fragment later" if later else "")
            line += pick.choice(["", "", " fragment first"]) if not later else ""
            line += pick.choice(["", " dscp 46"])
            line += pick.choice([" ack", " syn ack"]) if protocol == "tcp" and not later else ""
            point = point_of(parse(line), {}, 0)
            in_force = judge.engine.in_force()[1]
            matching = [each.rule.id for each in in_force if matches(each, point)]
            found = ask(judge, line)
            told = [found["rule"]["id"], *(each["id"] for each in found["would_follow"])]
            assert [name for name in told if name != "default-policy"] == matching[: len(told)]


def test_an_interface_that_is_not_there_is_told(judge):
    judge.rules()
    with pytest.raises(KernelError, match="no interface 'absent0'"):
        ask(judge, "tcp 10.0.0.1:1 -> 10.0.0.2:2 on absent0")
    assert "not attached to lo" in ask(judge, "tcp 10.0.0.1:1 -> 10.0.0.2:2 on lo")["stage"]


def alert(**fields):
    given = {"timestamp_ns": 1, "component": "c", "severity": Severity.LOW, "rule_id": "r"}
    return Alert(**given, action="deny", message="", id="1-r-1", **fields)


def test_an_alert_is_about_its_packet():
    made = alert(
        src_ip="fd00::1",
        dst_ip="fd00::2",
        src_port=5,
        dst_port=6,
        protocol=17,
        context={"vlan_id": 7, "interface": "eth0"},
    )
    assert asked_of(made).text() == "udp [fd00::1]:5 -> [fd00::2]:6 vlan 7 on eth0"
    with pytest.raises(SettingsError, match="is about no packet"):
        asked_of(alert())


def test_a_question_is_answered_as_the_packet_would_fare(judge):
    pick = random.Random(3)
    whole = [
        packets.tcp4(dport=22),
        packets.tcp4(dport=23, tags=(packets.Dot1Q(vlan=7),)),
        packets.udp6(dport=53),
        packets.ether(packets.ARP()),
        packets.ether(packets.IPv6() / packets.ICMPv6ND_NS()),
        packets.ether(packets.IPv6() / packets.IPv6ExtHdrHopByHop() / packets.TCP(dport=22)),
        packets.ether(packets.IP(frag=7, proto=6) / packets.Raw(b"x" * 30)),
    ]
    frames = [frame[:cut] for frame in whole for cut in range(14, len(frame) + 1)]
    for frame in whole * 40:
        noisy = bytearray(frame)
        noisy[pick.randrange(12, len(noisy))] = pick.randrange(256)
        frames.append(bytes(noisy))
    for policy in ("pass", "drop"):
        judge.rules(
            rule(1, dst_port=22), rule(2, vlan_id=7), rule(3, protocol="udp", action="log"),
            policy=policy,
        )  # fmt: skip
        many = Frames.of(frames)
        asked, sent = (judge.kernel.run_many(name, many) for name in (DRY, "xdp_root"))
        assert not asked.refused.any()
        assert (asked.retval == 2).all()
        assert ((asked.meta["action"] == 1) == (sent.retval == 1)).all()
        passed = sent.retval == 2
        assert (asked.meta["rule_id"][passed] == sent.meta["rule_id"][passed]).all()
        assert 50 < passed.sum() < len(frames) - 50
