"""What a reload would change, and the sampler that gives it packets to try."""

import msgspec
import numpy as np
import pytest

from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.planning import changes
from ebpfsentinel.domains.firewall.rulesets import RuleSource
from ebpfsentinel.domains.firewall.samples import KEPT, Samples, frame_of
from ebpfsentinel.domains.firewall.settings import FirewallRule, FirewallSettings
from ebpfsentinel.domains.firewall.tests import packets
from ebpfsentinel.domains.firewall.tests.judge import Judge
from ebpfsentinel.kernel.load import LinuxKernel
from ebpfsentinel.model.domain import Surroundings


def source(*rules, **settings):
    written = [
        {"id": name, "priority": priority, "action": "deny", **fields}
        for name, priority, fields in rules
    ]
    made = msgspec.convert({"rules": written, **settings}, FirewallSettings)
    return RuleSource(made, [], [], "here")


def test_rules_and_settings_that_change_are_told():
    now = source(("a", 1, {}), ("b", 2, {"dst_port": 80}), ("c", 3, {}), ("gone", 4, {}))
    then = source(
        ("c", 1, {}),
        ("a", 2, {}),
        ("b", 2, {"dst_port": 81, "protocol": "tcp"}),
        ("new", 9, {}),
        mode="block",
    )
    found = changes(now, then)
    assert (found["added"], found["removed"], found["moved"]) == (["new"], ["gone"], ["c"])
    assert found["changed"]["b"] == {"dst_port": [80, 81], "protocol": ["any", "tcp"]}
    assert found["settings"] == {"mode": ["alert", "block"]}
    same = changes(now, now)
    assert not any(same.values())


def test_runtime_rules_stay():
    rule = FirewallRule(id="late", priority=1, action="deny")
    now = RuleSource(FirewallSettings(), [rule], [], "")
    found = changes(now, RuleSource(FirewallSettings(), [rule], [], ""))
    assert not any(found.values())


@pytest.fixture(scope="module")
def judge():
    kernel = LinuxKernel()
    kernel.load([DOMAIN])
    yield Judge(kernel)
    kernel.detach()


def sample(judge, frames, every):
    settings = FirewallSettings(sample_every=every)
    plan = judge.engine.plan(settings, {}, Surroundings(anew=True))
    judge.kernel.apply(plan.actions)
    judge.engine.commit(plan)
    judge.kernel.drain("fw_samples")
    for frame in frames:
        judge.kernel.run("xdp_root", frame)
    return judge.kernel.drain("fw_samples")


FRAMES = [
    packets.tcp4(),
    packets.tcp6(tags=(packets.Dot1Q(vlan=7),)),
    packets.udp4(data=b"secret" * 50),
    packets.ether(packets.IP(src="1.1.1.1", dst="2.2.2.2", frag=9, proto=17) / b"secret"),
    packets.ether(packets.ARP()),
]


def test_headers_are_taken_whole_and_nothing_behind_them(judge):
    rows = sample(judge, FRAMES, 1)
    assert len(rows) == len(FRAMES)
    for row, frame in zip(rows, FRAMES, strict=True):
        assert frame.startswith(frame_of(row))
        assert row["bytes"] == len(frame)
        assert b"secret" not in frame_of(row)
    assert [len(frame_of(row)) for row in rows] == [54, 78, 42, 34, 22]


def test_one_in_so_many_is_taken_and_none_where_that_is_off(judge):
    cpus_may_differ = 8
    counted = len(sample(judge, FRAMES * 64, 16))
    assert 320 // 16 - cpus_may_differ <= counted <= 320 // 16 + cpus_may_differ
    assert len(sample(judge, FRAMES, 0)) == 0


def test_a_question_is_not_sampled(judge):
    sample(judge, [], 1)
    judge.kernel.run("xdp_dry", FRAMES[0])
    assert len(judge.kernel.drain("fw_samples")) == 0


def test_the_newest_are_kept_and_a_tag_that_was_taken_out_is_put_back(judge):
    rows = np.repeat(sample(judge, FRAMES[:1], 1), KEPT + 5)
    rows["timestamp_ns"] = np.arange(len(rows))
    rows["flags"] |= 2
    rows["vlan_id"], rows["interface"] = 9, 3
    kept = Samples()
    kept.take(rows[:10], 1000)
    kept.take(rows[10:], 1000)
    body = kept.body(16, {"eth0": 3})
    assert len(body["samples"]) == KEPT
    last = body["samples"][-1]
    assert (last["timestamp_ns"], last["interface"]) == (len(rows) - 1 + 1000, "eth0")
    assert bytes.fromhex(last["frame"])[12:18] == b"\x81\x00\x00\x09\x08\x00"
