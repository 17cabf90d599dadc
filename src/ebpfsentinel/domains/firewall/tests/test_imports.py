"""Rule sets of others: what real tools print, carried over exactly or listed."""

import contextlib
import ctypes
import ipaddress
import json
import os
import random
import shutil
import socket
import struct
import subprocess
import uuid
from pathlib import Path

import msgspec
import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ebpfsentinel.cli.root import root
from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.building import checksum
from ebpfsentinel.domains.firewall.imports.carry import carry
from ebpfsentinel.domains.firewall.imports.foreign import ImportedError
from ebpfsentinel.domains.firewall.imports.iptables import read_iptables
from ebpfsentinel.domains.firewall.imports.nft import read_nft
from ebpfsentinel.domains.firewall.ranking import Checker
from ebpfsentinel.domains.firewall.settings import (
    AntiLockout,
    FirewallRule,
    FirewallSettings,
    Policy,
)
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.kernel import DRY, Frames

NFT = """
table inet filter {
	set mgmt {
		type ipv4_addr
		flags interval
		elements = { 10.0.0.0/8, 192.0.2.2-192.0.2.3 }
	}
	map ports {
		type inet_service : verdict
		elements = { 25 : drop, 26 : accept }
	}
	chain other {
		tcp dport 443 accept
		udp dport { 53, 123 } counter accept comment "names and time"
	}
	chain some {
		ip saddr 192.0.2.1 return
		tcp dport 7 drop
	}
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		ct mark 7 accept
		iif "lo" accept
		ip saddr @mgmt tcp dport 22 accept
		ip saddr != 10.0.0.0/8 tcp dport 8080-8090 drop
		tcp dport vmap @ports
		limit rate 5/second accept
		ip6 saddr fd00::/8 log prefix "six " accept
		meta l4proto { tcp, udp } th dport 111 drop
		tcp flags & (fin | syn) == syn tcp dport 99 drop
		ip daddr 192.0.2.1 log prefix "dns "
		udp dport 500 jump other
		jump other
		jump some
		tcp dport 113 reject with tcp reset
	}
	chain output {
		type filter hook output priority filter; policy accept;
		tcp dport 25 drop
	}
}
table ip nat {
	chain post {
		type nat hook postrouting priority srcnat; policy accept;
		masquerade
	}
}
"""
IPTABLES = [
    "-N SSH",
    "-A SSH -s 10.0.0.0/8 -j ACCEPT",
    "-A SSH -j DROP",
    "-P INPUT DROP",
    "-A INPUT -i lo -j ACCEPT",
    "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A INPUT -m conntrack --ctstate DNAT -j ACCEPT",
    "-A INPUT -p tcp -m tcp --dport 22 -j SSH",
    "-A INPUT -p tcp -m multiport --dports 80,8000:8010 -m comment --comment web -j ACCEPT",
    "-A INPUT ! -s 128.0.0.0/1 -p udp --sport 53 -j ACCEPT",
    "-A INPUT -m length --length 100 -j DROP",
    "-A INPUT -m limit --limit 3/min -j LOG",
    "-A INPUT -m iprange --src-range 10.0.0.2-10.0.0.5 -j DROP",
    "-A INPUT -i eth+ -j ACCEPT",
    "-A INPUT -p gre -j ACCEPT",
    "-A INPUT -j REJECT",
    "-t nat -A PREROUTING -p tcp --dport 1 -j REDIRECT --to-ports 2",
]

SIX = "-A INPUT -s fd00::/8 -p tcp --dport 9 -j DROP"


def setns(handle):
    assert ctypes.CDLL(None).setns(handle, 0x40000000) == 0


@pytest.fixture
def namespace():
    if os.geteuid() or not shutil.which("nft") or not shutil.which("iptables-nft"):
        pytest.fail("needs root, nftables and iptables: run 'make test'")
    name = f"fwi{uuid.uuid4().hex[:8]}"
    subprocess.run(["ip", "netns", "add", name], check=True)

    def run(*command, text=None):
        enter = ["ip", "netns", "exec", name, *command]
        done = subprocess.run(enter, input=text, check=False, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    run.inside = lambda: inside(name)
    yield run
    subprocess.run(["ip", "netns", "del", name], check=True)


@contextlib.contextmanager
def inside(name):
    """Sockets made here belong to the namespace; only this thread goes there."""
    with Path("/proc/thread-self/ns/net").open() as home:
        with Path(f"/run/netns/{name}").open() as there:
            setns(there.fileno())
        try:
            yield
        finally:
            setns(home.fileno())


def slim(body):
    """Rules without what depends on where they stood."""
    return [
        {key: value for key, value in rule.items() if key not in ("id", "priority")}
        for rule in body["rules"]
    ]


def valid(body):
    """Every rule can be loaded."""
    rules = [(msgspec.convert(rule, FirewallRule), "r", "config") for rule in body["rules"]]
    around = Surroundings(interfaces={"lo": 1, "eth0": 2}, provided=frozenset({"flows"}))
    return Checker(FirewallSettings(), around).check_all(rules)


def left_out(body):
    return {row["text"]: row for row in body["left_out"]}


WANTED = [
    {"action": "allow", "state": ["established", "related"]},
    {"action": "allow", "scope": "lo"},
    {"action": "allow", "src_ip": "10.0.0.0/8", "protocol": "tcp", "dst_port": 22},
    {"action": "allow", "src_ip": "192.0.2.2/31", "protocol": "tcp", "dst_port": 22},
    *(
        {"action": "deny", "src_ip": src, "protocol": "tcp", "dst_port": "8080-8090"}
        for src in (
            "0.0.0.0/5",
            "8.0.0.0/7",
            "11.0.0.0/8",
            "12.0.0.0/6",
            "16.0.0.0/4",
            "32.0.0.0/3",
            "64.0.0.0/2",
            "128.0.0.0/1",
        )
    ),
    {"action": "deny", "protocol": "tcp", "dst_port": 25},
    {"action": "allow", "protocol": "tcp", "dst_port": 26},
    {"action": "log", "src_ip": "fd00::/8"},
    {"action": "deny", "protocol": "tcp", "dst_port": 111},
    {"action": "deny", "protocol": "udp", "dst_port": 111},
    {"action": "deny", "protocol": "tcp", "dst_port": 99, "flags": "S/FS"},
    {"action": "allow", "protocol": "tcp", "dst_port": 443},
    {"action": "allow", "protocol": "udp", "dst_port": 53},
    {"action": "allow", "protocol": "udp", "dst_port": 123},
]


def test_nftables_text_and_json_are_carried_over_alike(namespace):
    namespace("nft", "-f", "-", text=NFT)
    text = carry(read_nft(namespace("nft", "list", "ruleset")), "input").body()
    parsed = carry(read_nft(namespace("nft", "-j", "list", "ruleset")), "input").body()
    assert slim(text) == slim(parsed)
    assert len(text["left_out"]) == len(parsed["left_out"])
    assert slim(text)[:-1] == WANTED
    assert slim(text)[-1] | {"action": "deny"} == {
        "action": "deny",
        "protocol": "tcp",
        "dst_port": 113,
    }
    assert text["default_policy"] == "drop"
    assert valid(text)
    assert "names and time" in text["comments"].values()


def test_what_nftables_has_and_we_have_not_is_listed_with_what_it_changes():
    body = carry(read_nft(NFT), "input").body()
    rows = left_out(body)
    limit = rows["limit rate 5/second accept"]
    assert "limit" in limit["reason"]
    assert "default-policy" in limit["changes"]
    assert any(name.startswith("input-") for name in limit["changes"])
    assert "ct mark" in rows["ct mark 7 accept"]["reason"]
    assert (
        rows["limit rate 5/second accept"]["line"]
        == NFT.splitlines().index("\t\tlimit rate 5/second accept") + 1
    )
    assert "logs and goes on" in rows['ip daddr 192.0.2.1 log prefix "dns "']["reason"]
    assert "behind a conditional return (line 17)" in rows["tcp dport 7 drop"]["reason"]
    assert rows["chain output"]["reason"] == "is at hook output, not input"
    assert "of type nat" in rows["chain post"]["reason"]
    assert body["interfaces"] == ["lo"]


def test_iptables_is_carried_over_or_listed(namespace):
    for line in IPTABLES:
        namespace("iptables-nft", *line.split())
    saved = namespace("iptables-nft-save")
    namespace("ip6tables-nft", *SIX.split())
    body = carry(read_iptables(saved + namespace("ip6tables-nft-save")), "input").body()
    assert valid(body)
    v4 = "0.0.0.0/0"
    assert slim(body)[:10] == [
        {"action": "allow", "src_ip": v4, "scope": "lo"},
        {"action": "allow", "src_ip": v4, "state": ["established", "related"]},
        {"action": "allow", "src_ip": "10.0.0.0/8", "protocol": "tcp", "dst_port": 22},
        {"action": "deny", "src_ip": v4, "protocol": "tcp", "dst_port": 22},
        {"action": "allow", "src_ip": v4, "protocol": "tcp", "dst_port": 80},
        {"action": "allow", "src_ip": v4, "protocol": "tcp", "dst_port": "8000-8010"},
        {"action": "allow", "src_ip": "0.0.0.0/1", "protocol": "udp", "src_port": 53},
        {"action": "deny", "src_ip": "10.0.0.2/31"},
        {"action": "deny", "src_ip": "10.0.0.4/31"},
        {"action": slim(body)[9]["action"], "src_ip": v4},
    ]
    assert slim(body)[10:] == [
        {"action": "deny", "src_ip": v4},  # the policy of IPv4 alone
        {"action": "deny", "src_ip": "fd00::/8", "protocol": "tcp", "dst_port": 9},
    ]
    assert body["default_policy"] == "pass"
    reasons = " | ".join(row["reason"] for row in body["left_out"])
    for told in (
        "match 'length'",
        "match 'limit'",
        "-i has no counterpart",
        "-p gre",
        "table nat",
    ):
        assert told in reasons


EXACT_NFT = """table inet f {
	chain in {
		type filter hook input priority filter; policy accept;
		tcp flags syn / syn,ack tcp dport 99 drop
		tcp flags syn tcp dport 98 drop
		tcp flags == fin drop
		tcp flags fin,syn drop
		tcp flags & (fin | syn) == fin | syn drop
		ip frag-off & 0x1fff != 0 drop
		ip dscp ef drop
		ip6 dscp af21 drop
		ether saddr 00:11:22:33:44:55 drop
		ether saddr != 00:11:22:33:44:55 drop
		icmp type { echo-request, 13 } drop
	}
}
"""


def test_what_one_field_of_ours_says_is_carried_over(namespace):
    namespace("nft", "-f", "-", text=EXACT_NFT)
    text = carry(read_nft(namespace("nft", "list", "ruleset")), "input").body()
    parsed = carry(read_nft(namespace("nft", "-j", "list", "ruleset")), "input").body()
    assert slim(text) == slim(parsed)
    assert valid(text)
    v4 = {"src_ip": "0.0.0.0/0"}
    assert [{k: v for k, v in rule.items() if k != "action"} for rule in slim(text)] == [
        {"protocol": "tcp", "dst_port": 99, "flags": "S/AS"},
        {"protocol": "tcp", "dst_port": 98, "flags": "S/S"},
        {"protocol": "tcp", "flags": "F/ACEFPRSU"},
        {"protocol": "tcp", "flags": "FS/FS"},
        {**v4, "fragment": "later"},
        {**v4, "dscp_match": 46},
        {"src_ip": "::/0", "dscp_match": 18},
        {"src_mac": "00:11:22:33:44:55"},
        {**v4, "protocol": "icmp", "icmp_type": 8},
        {**v4, "protocol": "icmp", "icmp_type": 13},
    ]
    assert len(text["left_out"]) == len(parsed["left_out"]) == 2
    lines = [
        "-p tcp --dport 9 --tcp-flags FIN,SYN,RST,ACK SYN -j DROP",
        "-p tcp --tcp-flags ALL NONE -j DROP",
        "-m mac --mac-source 00:11:22:33:44:55 -j DROP",
        "-f -j DROP",
        "-m dscp --dscp 0x2e -j DROP",
        "-p icmp --icmp-type echo-request -j DROP",
    ]
    namespace("nft", "flush", "ruleset")
    for line in lines:
        namespace("iptables-nft", "-A", "INPUT", *line.split())
    body = carry(read_iptables(namespace("iptables-nft-save")), "input").body()
    assert valid(body)
    assert [{k: v for k, v in rule.items() if k != "action"} for rule in slim(body)] == [
        {**v4, "protocol": "tcp", "dst_port": 9, "flags": "S/AFRS"},
        {**v4, "protocol": "tcp", "flags": "/AFPRSU"},
        {**v4, "src_mac": "00:11:22:33:44:55"},
        {**v4, "fragment": "later"},
        {**v4, "dscp_match": 46},
        {**v4, "protocol": "icmp", "icmp_type": 8},
    ]


def test_two_chains_at_one_hook_are_not_mixed():
    text = """table inet a {
        chain one { type filter hook input priority 0; policy accept;
            tcp dport 1 drop
        }
        chain two { type filter hook input priority 1; policy accept;
            tcp dport 2 drop
        }
    }"""
    body = carry(read_nft(text), "input").body()
    assert slim(body) == [{"action": "deny", "protocol": "tcp", "dst_port": 1}]
    assert "second base chain" in left_out(body)["chain two"]["reason"]


def test_loops_gotos_and_missing_chains():
    text = """table ip a {
        chain loop {
            jump loop
            tcp dport 1 drop
        }
        chain in { type filter hook input priority 0; policy accept;
            jump loop
            jump nowhere
            tcp dport 9 goto loop
            tcp dport 9-10 drop
        }
    }"""
    body = carry(read_nft(text), "input").body()
    assert [rule["action"] for rule in body["rules"]] == ["deny", "allow", "deny"]
    assert body["rules"][1]["dst_port"] == 9
    assert "leads back to itself" in left_out(body)["jump loop"]["reason"]
    assert "no chain 'nowhere'" in left_out(body)["jump nowhere"]["reason"]


@pytest.mark.parametrize("text", ["nonsense", "table", "table ip x {", '{"nftables": 3}', "{"])
def test_what_is_no_rule_set_is_refused(text):
    with pytest.raises(ImportedError, match="Give"):
        read_nft(text)
    with pytest.raises(ImportedError, match="iptables-save"):
        read_iptables(text)


def test_nothing_becomes_nothing_and_says_so():
    body = carry(read_nft(""), "input").body()
    assert (body["rules"], body["default_policy"]) == ([], "pass")
    assert "no base chain at hook input" in body["notes"][0]


WORDS = sorted({*NFT.replace(";", " ; ").split(), "\n", "{", "}", "!=", "@x", "1-", "/", "vmap"})


@given(st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join) | st.text(max_size=80))
def test_no_text_breaks_the_nft_reader(text):
    for whole in (text, "table inet t {\nchain c {\n" + text + "\n}\n}"):
        with contextlib.suppress(ImportedError):
            valid(carry(read_nft(whole), "input").body())


TREES = st.recursive(
    st.none() | st.integers() | st.sampled_from(["tcp", "dport", "accept", "@x", "10.0.0.1"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["match", "op", "left", "right", "payload", "set", "vmap", "accept"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(st.lists(TREES, max_size=4))
def test_no_object_breaks_the_json_reader(expr):
    where = {"family": "ip", "table": "t", "chain": "c", "expr": expr}
    chain = {"family": "ip", "table": "t", "name": "c", "hook": "input", "type": "filter"}
    body = carry(read_nft(json.dumps({"nftables": [{"chain": chain}, {"rule": where}]})), "input")
    valid(body.body())


OPTIONS = sorted({word for line in IPTABLES for word in line.split()} | {"!", "'", "--x", "-s"})


@given(st.lists(st.sampled_from(OPTIONS), max_size=12).map(" ".join) | st.text(max_size=60))
def test_no_line_breaks_the_iptables_reader(line):
    text = f"*filter\n:INPUT DROP [0:0]\n-A INPUT {line}\n{line}\nCOMMIT\n"
    valid(carry(read_iptables(text), "input").body())


def cli(tmp_path, text, *arguments):
    path = tmp_path / "rules"
    path.write_text(text)
    return CliRunner().invoke(root, ["firewall", "import", str(path), *arguments])


def test_the_command_prints_a_section_that_loads(tmp_path):
    found = cli(tmp_path, NFT, "--from", "nftables", "-o", "yaml")
    assert found.exit_code == 0, found.output
    section = yaml.safe_load(found.stdout)["firewall"]
    assert section["default_policy"] == "drop"
    assert len(section["rules"]) == len(WANTED) + 1
    assert "left out" in found.stderr
    table = cli(tmp_path, NFT, "--from", "nftables").output
    assert "Without line 23 its packets are judged by" in table
    assert max(map(len, table.splitlines())) <= 80
    assert json.loads(cli(tmp_path, NFT, "--from", "nftables", "-o", "json").output)["rules"]
    refused = cli(tmp_path, "nonsense", "--from", "nftables")
    assert refused.exit_code == 1
    assert "line 1" in refused.output


DIFFERENTIAL = """table inet filter {
	set mgmt {
		type ipv4_addr
		flags interval
		elements = { 10.1.0.0/16, 10.2.0.7, 10.3.0.1-10.3.0.9 }
	}
	map services {
		type inet_service : verdict
		elements = { 25 : drop, 26 : accept, 27 : jump web }
	}
	chain web {
		ip saddr 10.4.0.0/16 drop
		ip6 saddr fd00:4::/32 drop
		tcp dport { 27, 80, 443 } accept
	}
	chain admin {
		ip saddr @mgmt accept
		ip6 saddr { fd00:1::/32, fd00:2::7 } accept
	}
	chain prerouting {
		type filter hook prerouting priority filter; policy drop;
		tcp dport 22 goto admin
		tcp dport vmap @services
		ip saddr != 10.0.0.0/8 udp dport 53 drop
		udp dport != 50-60 udp sport 7 accept
		meta l4proto { tcp, udp } th dport 53 accept
		jump web
		icmp type echo-request accept
		ip protocol icmp drop
		meta l4proto ipv6-icmp icmpv6 type != 128 drop
		ip6 daddr fd00:9::/64 accept
		ip daddr 10.9.0.0/24 tcp sport 1024-65535 accept
	}
}
table inet after {
	set seen4 {
		typeof ip id
		size 65535
		flags dynamic
	}
	set seen6 {
		typeof ip6 flowlabel
		size 65535
		flags dynamic
	}
	chain prerouting {
		type filter hook prerouting priority filter + 10; policy drop;
		add @seen4 { ip id }
		add @seen6 { ip6 flowlabel }
	}
}
"""


def random_frame(pick, number):
    """An IPv4 or IPv6 packet that carries its number, from the corners of the rule set."""
    macs = bytes.fromhex("020000000002020000000001")
    protocol = pick.choice([6, 6, 6, 17, 17, 1, 58])
    four = protocol != 58 and (protocol == 1 or pick.random() < 0.6)
    port = struct.pack(
        ">HH", pick.choice([7, 80, 1024, 5000]), pick.choice([22, 25, 26, 27, 50, 53, 55, 80, 99])
    )
    if protocol == 6:
        payload = port + struct.pack(">IIBBHHH", 1, 0, 0x50, 2, 100, 0, 0)
    elif protocol == 17:
        payload = port + struct.pack(">HH", 8, 0)
    else:
        payload = bytes([pick.choice([0, 8, 128, 129]), 0, 0, 0]) + bytes(4)
    if four:
        src = pick.choice(["10.1.2.3", "10.2.0.7", "10.3.0.9", "10.3.0.10", "10.4.9.9", "11.0.0.1"])
        dst = pick.choice(["10.9.0.1", "10.9.1.1"])
        ends = b"".join(ipaddress.ip_address(each).packed for each in (src, dst))
        head = struct.pack(">BBHHHBB", 0x45, 0, 20 + len(payload), number, 0, 64, protocol)
        return macs + b"\x08\x00" + head + struct.pack(">H", checksum(head + ends)) + ends + payload
    src = pick.choice(["fd00:1::5", "fd00:2::7", "fd00:2::8", "fd00:4::1"])
    dst = pick.choice(["fd00:9::1", "fd00:9:0:1::1"])
    ends = b"".join(ipaddress.ip_address(each).packed for each in (src, dst))
    first = struct.pack(">IHBB", 6 << 28 | number, len(payload), protocol, 64)
    return macs + b"\x86\xdd" + first + ends + payload


def kernel_accepts(namespace, frames):
    """Which frames pass nftables: sent into the namespace, and counted behind the rules by id."""
    namespace("ip", "link", "add", "in0", "type", "veth", "peer", "name", "out0")
    namespace("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0")
    for device in ("in0", "out0"):
        namespace(
            "ip", "link", "set", device, "address", f"02:00:00:00:00:0{'io'.index(device[0]) + 1}"
        )
    for device in ("in0", "out0"):
        namespace("ethtool", "-K", device, "tx", "off")
        namespace("ip", "link", "set", device, "up")
    with namespace.inside():
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sender.bind(("out0", 0))
    with sender:
        for frame in frames:
            sender.send(frame.replace(b"\x02\0\0\0\0\x02\x02", b"\x02\0\0\0\0\x01\x02", 1))
    found = set()
    for name in ("seen4", "seen6"):
        listed = json.loads(namespace("nft", "-j", "list", "set", "inet", "after", name))
        found |= set(
            next(each["set"] for each in listed["nftables"] if "set" in each).get("elem", [])
        )
    return found


def test_the_same_packets_fare_alike_in_nftables_and_here(namespace):
    pick = random.Random(9)
    frames = [random_frame(pick, number) for number in range(1, 1500)]
    namespace("nft", "-f", "-", text=DIFFERENTIAL)
    accepted = kernel_accepts(namespace, frames)
    text = namespace("nft", "list", "table", "inet", "filter")
    body = carry(read_nft(text), "prerouting").body()
    assert body["left_out"] == []
    settings = FirewallSettings(
        rules=[msgspec.convert(rule, FirewallRule) for rule in body["rules"]],
        default_policy=Policy(body["default_policy"]),
        anti_lockout=AntiLockout(enabled=False),
    )
    kernel = LinuxKernel()
    try:
        kernel.load([DOMAIN])
        engine = DOMAIN.engine(Tools(rules=None))
        kernel.apply(engine.plan(settings, {}, Surroundings()).actions)
        answers = kernel.run_many(DRY, Frames.of(frames))
    finally:
        kernel.detach()
    ours = {at + 1 for at in np.flatnonzero(answers.meta["action"] == 0).tolist()}
    assert 200 < len(accepted) < 1300
    assert sorted(ours ^ accepted) == []
