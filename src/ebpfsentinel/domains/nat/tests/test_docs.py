"""The page says what the code does: its keys are those of a rule, and its example is in force."""

import os
import re
from pathlib import Path

import msgspec
import pytest
import yaml
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from ebpfsentinel.config import convert
from ebpfsentinel.domains.nat.settings import NatRule, NatSettings
from ebpfsentinel.domains.nat.tests.judge import true

PAGE = (Path(__file__).parents[1] / "README.md").read_text()
FIELDS = re.search(r"<!-- rule fields -->(.*?)<!-- /rule fields -->", PAGE, re.DOTALL)[1]
EXAMPLE = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1]
LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
PEER, PEER6 = "198.51.100.200", "2001:db8:9::9"


def test_every_key_of_a_rule_is_on_the_page_and_no_other():
    rows = re.findall(r"^\| (`.*?) \|", FIELDS, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(NatRule.__struct_fields__)


@pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")
def test_the_pages_example_translates_as_it_says(judge):
    written = yaml.safe_load(EXAMPLE)["nat"]
    settings = convert(written, NatSettings, "nat")
    judge.rules(**msgspec.to_builtins(settings))
    for frame, way, wanted in (
        (IP(src="10.0.0.3", dst="192.0.2.8") / TCP(sport=9, dport=80), judge.leaves,
         ("198.51.100.5", 9, "192.0.2.8", 80)),
        (IP(src=PEER, dst="203.0.113.1") / TCP(sport=9, dport=443), judge.comes,
         (PEER, 9, "10.0.0.7", 8443)),
        (IP(src=PEER, dst="203.0.113.1") / UDP(sport=9, dport=7004), judge.comes,
         (PEER, 9, "10.0.0.8", 7004)),
        (IP(src=PEER, dst="203.0.113.25") / TCP(sport=9, dport=25), judge.comes,
         (PEER, 9, "10.0.0.25", 25)),
        (IP(src="10.0.0.25", dst=PEER) / TCP(sport=10, dport=25), judge.leaves,
         ("203.0.113.25", 10, PEER, 25)),
        (IP(src="10.0.0.3", dst=PEER) / TCP(sport=9, dport=80), judge.leaves,
         ("10.0.0.3", 9, PEER, 80)),
    ):  # fmt: skip
        found = way(LINK / frame)
        packet = found[IP]
        assert (packet.src, packet.sport, packet.dst, packet.dport) == wanted
        assert bytes(found) == bytes(true(found))
    call = judge.leaves(LINK / IP(src="10.0.0.9", dst=PEER) / UDP(sport=9, dport=5060))
    assert call[IP].src == "198.51.100.6"
    assert 20000 <= call[UDP].sport <= 20099
    site = judge.leaves(LINK / IPv6(src="fd01:203:405:1::1234", dst=PEER6) / UDP())
    assert site[IPv6].src == "2001:db8:1:d550::1234"
    home = judge.comes(
        LINK / IP(src="10.0.0.3", dst="203.0.113.1") / TCP(sport=8, dport=443), "lan"
    )
    assert judge.leaves(home, "lan")[IP].src == "10.0.0.1"
