"""Hostile frames through the loaded program; ``fuzz_run.py`` sends a million."""

from __future__ import annotations

import os
import random

import numpy as np
import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether

from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.settings import FirewallRule
from ebpfsentinel.domains.firewall.tests import fuzz_run, oracle
from ebpfsentinel.domains.firewall.tests.fuzz_frames import Fuzz
from ebpfsentinel.domains.firewall.tests.judge import Judge
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.kernel import Frames

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")


@pytest.fixture(scope="module")
def kernel():
    made = LinuxKernel()
    made.load([DOMAIN])
    yield made
    made.detach()


@as_root
def test_hostile_frames_are_judged_as_the_oracle_judges_them(kernel):
    done, wrong = fuzz_run.fuzz(kernel, 10_000, seed=1_000_000)
    assert done >= 10_000
    assert wrong == []
    assert set(kernel.failures().values()) == {0}


@as_root
def test_a_wrong_verdict_is_noticed(kernel):
    judge, frame = Judge(kernel), bytes.fromhex("0200000000ff0200000000010800") + bytes(60)
    judge.rules(policy="drop")
    assert fuzz_run.compare(judge, ([], "drop", None), [frame]) == []
    lie = FirewallRule(id="lie", priority=1, action="allow")
    whole = bytes(Ether() / IP() / TCP())
    assert fuzz_run.compare(judge, ([lie], "drop", None), [whole])


@as_root
def test_a_frame_without_an_ethernet_header_is_not_run(kernel):
    assert kernel.run_many("xdp_root", Frames.of([bytes(13)])).refused.tolist() == [True]


def test_every_kind_of_frame_comes_and_every_ether_type():
    fuzz, seen = Fuzz(random.Random(1)), np.zeros(65536, bool)
    for _ in range(1024):
        kinds = {int.from_bytes(ether_type(frame), "big") for frame in fuzz.ethertypes()}
        seen[list(kinds)] = True
    seen[[0x8100, 0x88A8]] = True  # taken for one more tag by ether_type
    assert seen.all()
    lengths = sorted(len(frame) for frame in fuzz.cut())
    assert lengths == list(range(14, lengths[-1] + 1))


def ether_type(frame):
    """The bytes of the ether type that a frame was given: behind the tags put before it."""
    at = 12
    while frame[at : at + 2] in {b"\x81\x00", b"\x88\xa8"} and at < 20:
        at += 4
    return frame[at : at + 2]


@pytest.mark.parametrize("seed", range(5))
def test_the_oracle_reads_what_scapy_wrote(seed):
    for frame in [bytes(each) for each in Fuzz(random.Random(seed)).plain()]:
        theirs, ours = Ether(frame), oracle.parse(frame)
        if IP in theirs:
            head = theirs[IP]
            assert (ours.family, ours.protocol, ours.tos) == (4, head.proto, head.tos)
            assert ours.src == int.from_bytes(bytes(map(int, head.src.split("."))), "big")
        elif IPv6 in theirs:
            assert (ours.family, ours.protocol) == (6, theirs[IPv6].nh)
            assert ours.tos == theirs[IPv6].tc
        for layer in (TCP, UDP):
            first = theirs[IP if IP in theirs else IPv6].payload if ours.family else None
            if isinstance(first, layer):
                assert (ours.src_port, ours.dst_port) == (first.sport, first.dport)


def test_the_oracle_reads_the_tags_scapy_wrote():
    frame = bytes(Ether() / Dot1Q(vlan=5, prio=3) / Dot1Q(vlan=7) / IP() / UDP())
    found = oracle.parse(frame)
    assert (found.vlan, found.inner_vlan, found.l3) == (5, 7, 22)
