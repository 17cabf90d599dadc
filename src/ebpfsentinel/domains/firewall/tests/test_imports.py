"""Rule sets of others: what real tools print, carried over exactly or listed."""

import contextlib
import json
import os
import shutil
import subprocess
import uuid

import msgspec
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ebpfsentinel.cli.root import root
from ebpfsentinel.domains.firewall.imports.carry import carry
from ebpfsentinel.domains.firewall.imports.foreign import ImportedError
from ebpfsentinel.domains.firewall.imports.iptables import read_iptables
from ebpfsentinel.domains.firewall.imports.nft import read_nft
from ebpfsentinel.domains.firewall.ranking import Checker
from ebpfsentinel.domains.firewall.settings import FirewallRule, FirewallSettings
from ebpfsentinel.model.domain import Surroundings

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
    "-A INPUT -p tcp -m tcp --dport 22 -j SSH",
    "-A INPUT -p tcp -m multiport --dports 80,8000:8010 -m comment --comment web -j ACCEPT",
    "-A INPUT ! -s 128.0.0.0/1 -p udp --sport 53 -j ACCEPT",
    "-A INPUT -m mac --mac-source 00:11:22:33:44:55 -j DROP",
    "-A INPUT -m limit --limit 3/min -j LOG",
    "-A INPUT -m iprange --src-range 10.0.0.2-10.0.0.5 -j DROP",
    "-A INPUT -i eth+ -j ACCEPT",
    "-A INPUT -p gre -j ACCEPT",
    "-A INPUT -j REJECT",
    "-t nat -A PREROUTING -p tcp --dport 1 -j REDIRECT --to-ports 2",
]

SIX = "-A INPUT -s fd00::/8 -p tcp --dport 9 -j DROP"


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

    yield run
    subprocess.run(["ip", "netns", "del", name], check=True)


def slim(body):
    """Rules without what depends on where they stood."""
    return [
        {key: value for key, value in rule.items() if key not in ("id", "priority")}
        for rule in body["rules"]
    ]


def valid(body):
    """Every rule can be loaded."""
    rules = [(msgspec.convert(rule, FirewallRule), "r", "config") for rule in body["rules"]]
    around = Surroundings(interfaces={"lo": 1, "eth0": 2})
    return Checker(FirewallSettings(), around).check_all(rules)


def left_out(body):
    return {row["text"]: row for row in body["left_out"]}


WANTED = [
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
    state = rows["ct state established, related accept"]
    assert state["reason"] == "there is no state of connections here"
    assert "default-policy" in state["changes"]
    assert any(name.startswith("input-") for name in state["changes"])
    assert "limit" in rows["limit rate 5/second accept"]["reason"]
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
    assert slim(body)[:9] == [
        {"action": "allow", "src_ip": v4, "scope": "lo"},
        {"action": "allow", "src_ip": "10.0.0.0/8", "protocol": "tcp", "dst_port": 22},
        {"action": "deny", "src_ip": v4, "protocol": "tcp", "dst_port": 22},
        {"action": "allow", "src_ip": v4, "protocol": "tcp", "dst_port": 80},
        {"action": "allow", "src_ip": v4, "protocol": "tcp", "dst_port": "8000-8010"},
        {"action": "allow", "src_ip": "0.0.0.0/1", "protocol": "udp", "src_port": 53},
        {"action": "deny", "src_ip": "10.0.0.2/31"},
        {"action": "deny", "src_ip": "10.0.0.4/31"},
        {"action": slim(body)[8]["action"], "src_ip": v4},
    ]
    assert slim(body)[9:] == [
        {"action": "deny", "src_ip": v4},  # the policy of IPv4 alone
        {"action": "deny", "src_ip": "fd00::/8", "protocol": "tcp", "dst_port": 9},
    ]
    assert body["default_policy"] == "pass"
    reasons = " | ".join(row["reason"] for row in body["left_out"])
    for told in (
        "no state of connections",
        "match 'mac'",
        "match 'limit'",
        "-i has no counterpart",
        "-p gre",
        "table nat",
    ):
        assert told in reasons


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
    assert "Without line 22 its packets are judged by" in table
    assert max(map(len, table.splitlines())) <= 80
    assert json.loads(cli(tmp_path, NFT, "--from", "nftables", "-o", "json").output)["rules"]
    refused = cli(tmp_path, "nonsense", "--from", "nftables")
    assert refused.exit_code == 1
    assert "line 1" in refused.output
