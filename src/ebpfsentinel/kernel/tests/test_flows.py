"""The flow table from user space, the same in memory and in the kernel."""

import ipaddress
import time

import numpy as np
import pytest

from ebpfsentinel.kernel.btf import Btf
from ebpfsentinel.kernel.fake import FakeKernel
from ebpfsentinel.kernel.flows import Layout
from ebpfsentinel.kernel.libbpf import raw_btf
from ebpfsentinel.kernel.load import _HERE, LinuxKernel
from ebpfsentinel.model.action import FlowTable
from ebpfsentinel.model.flows import STATES, FlowFilter, Stage, opened_by, replied, sides

BTF = Btf(raw_btf(str(_HERE / "dispatch.bpf.o")))
LAYOUT = Layout.of(BTF)


@pytest.fixture(params=["fake", "linux"])
def kernel(request, tmp_path):
    made = FakeKernel() if request.param == "fake" else LinuxKernel(pin_root=tmp_path)
    made.load(())
    yield made
    made.detach()


def head(sets, seed=1):
    made = np.zeros((), LAYOUT.head)
    made["version"], made["sets"] = 1, sets
    secret = np.random.default_rng(seed).integers(1 << 63, size=11, dtype=np.uint64)
    made["hash_keys"] = secret
    return made


def some_flows(count, lapse_s=60):
    rows = np.zeros(count, LAYOUT.flow)
    rows["lapse_ns"] = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + lapse_s * 1_000_000_000
    rows["key"]["addr"][:, 0, 0] = 0x0A000001
    rows["key"]["addr"][:, 1, 0] = 0x0A000002 + np.arange(count) // 50000
    rows["key"]["port"][:, 0] = 443
    rows["key"]["port"][:, 1] = 1024 + np.arange(count) % 50000
    rows["key"]["protocol"], rows["key"]["family"] = 6, 4
    rows["status"] = Stage.ESTABLISHED | 1 << 5 | 3 << 6
    rows["end"]["packets"] = [[7, 5]]
    return rows


def test_without_a_table_there_are_no_flows(kernel):
    assert len(kernel.flows()) == 0


def test_what_is_put_in_comes_out(kernel):
    kernel.apply([FlowTable(head(64))])
    wanted = some_flows(300)
    assert kernel._flows().put_rows(wanted) == 300
    found = kernel.flows()
    assert len(found) == 300
    order = np.argsort(found["key"]["port"][:, 1])
    for name in ("key", "status", "end"):
        assert np.array_equal(found[name][order], wanted[name]), name


def test_single_sets_are_a_part_of_it(kernel):
    kernel.apply([FlowTable(head(64))])
    kernel._flows().put_rows(some_flows(300))
    parts = [kernel.flows(first, 16) for first in range(0, 64, 16)]
    assert sum(map(len, parts)) == 300
    assert all(len(part) for part in parts)


def test_a_lapsed_flow_is_not_there(kernel):
    kernel.apply([FlowTable(head(8))])
    kernel._flows().put_rows(some_flows(10, lapse_s=-5))
    assert len(kernel.flows()) == 0


def test_a_table_of_the_same_size_keeps_flows_and_secret_and_takes_the_rest(kernel):
    kernel.apply([FlowTable(head(64))])
    kernel._flows().put_rows(some_flows(20))
    other = head(64, seed=2)
    other["timeout"] = 77
    kernel.apply([FlowTable(other)])
    now = kernel._flows().head()
    assert len(kernel.flows()) == 20
    assert (now["timeout"] == 77).all()
    assert np.array_equal(now["hash_keys"][0], head(64)["hash_keys"])


def test_none_leaves_no_table(kernel):
    kernel.apply([FlowTable(head(64))])
    kernel._flows().put_rows(some_flows(20))
    kernel.apply([FlowTable(None)])
    assert len(kernel.flows()) == 0
    assert kernel._flows().head() is None


def test_a_large_table_is_read_whole(tmp_path):
    kernel = LinuxKernel(pin_root=tmp_path)
    kernel.load(())
    try:
        kernel.apply([FlowTable(head(32768))])
        assert kernel._flows().put_rows(some_flows(20000)) == 20000
        assert len(kernel.flows()) == 20000
    finally:
        kernel.detach()


def test_the_stages_are_those_of_the_header():
    stages = dict(BTF.enums())["flow_stage"]
    words = {"SYN_SENT_BOTH", "TCP_ESTABLISHED"}
    named = {
        name.removeprefix("FLOW_").replace("TCP_", ""): number
        for name, number in stages.items()
        if name != "FLOW_STAGE_MAX"
    }
    assert named == {stage.name: stage.value for stage in Stage}
    assert words & {name.removeprefix("FLOW_") for name in stages}
    assert {"established", "unreplied", "stream"} <= set(STATES)


def test_who_opened_a_flow_is_told_from_its_status():
    rows = some_flows(3)
    assert opened_by(rows).tolist() == [1, 1, 1]
    assert replied(rows).all()
    source, destination = sides(rows, rows["key"]["port"])
    assert destination.tolist() == [443] * 3
    assert source.tolist() == [1024, 1025, 1026]
    assert sides(rows, rows["end"]["packets"])[0].tolist() == [5] * 3


@pytest.mark.parametrize(
    ("found", "count"),
    [
        (FlowFilter(), 100),
        (FlowFilter(port=1030), 1),
        (FlowFilter(ports=(443, 443)), 100),
        (FlowFilter(ports=(1024, 2000)), 0),
        (FlowFilter(source_ports=(1024, 1033)), 10),
        (FlowFilter(protocol=17), 0),
        (FlowFilter(state="established"), 100),
        (FlowFilter(state="time_wait"), 0),
        (FlowFilter(address=ipaddress.ip_network("10.0.0.0/30")), 100),
        (FlowFilter(source=ipaddress.ip_network("10.0.0.1/32")), 0),
        (FlowFilter(destination=ipaddress.ip_network("10.0.0.1/32")), 100),
        (FlowFilter(address=ipaddress.ip_network("::/0")), 0),
        (FlowFilter(family=6), 0),
    ],
)
def test_a_filter_means_what_it_says(found, count):
    assert int(found.mask(some_flows(100)).sum()) == count
