"""The examples of the documentation, in the kernel: every packet fares as the page says."""

import os
import re
import time
from pathlib import Path

import pytest
import yaml

from ebpfsentinel.config import convert
from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.asking import parse
from ebpfsentinel.domains.firewall.building import build
from ebpfsentinel.domains.firewall.engine import DEFAULT_RULE
from ebpfsentinel.domains.firewall.settings import FirewallSettings
from ebpfsentinel.domains.firewall.tests.judge import DROP, PASS, Judge
from ebpfsentinel.domains.firewall.tests.property_run import place_interface
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.domain import Surroundings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

PAGE = (Path(__file__).parents[5] / "docs" / "firewall-examples.md").read_text()
EXAMPLE = re.compile(r"## (\d+\. [^\n]*)\n.*?```yaml\n(.*?)```.*?```\n(.*?)```", re.DOTALL)
EXAMPLES = {title: (written, packets) for title, written, packets in EXAMPLE.findall(PAGE)}


@pytest.fixture(scope="module")
def judge():
    kernel = LinuxKernel()
    kernel.load([DOMAIN])
    place_interface(kernel, 0)
    yield Judge(kernel)
    kernel.detach()


def test_there_are_ten():
    assert len(EXAMPLES) == 10


@pytest.mark.parametrize("title", EXAMPLES)
def test_every_packet_fares_as_the_page_says(judge, title):
    written, packets = EXAMPLES[title]
    settings = convert(yaml.safe_load(written)["firewall"], FirewallSettings, "firewall")
    boot_offset_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    around = Surroundings(boot_offset_ns=boot_offset_ns, now_ns=time.time_ns(), anew=True)
    plan = judge.engine.plan(settings, {}, around)
    judge.kernel.apply(plan.actions)
    judge.engine.commit(plan)
    judge.kernel.drain("fw_events")
    for line in packets.strip().splitlines():
        verdict, rule_id, packet = re.fullmatch(r"(\w+) by (\S+) +(.*)", line).groups()
        frame = build(parse(packet))
        found = judge.judge(frame)
        assert found.code == (DROP if verdict == "deny" else PASS), line
        assert (found.event is not None) == (verdict != "allow"), line
        assert (judge.by(frame) or DEFAULT_RULE) == rule_id, line
