"""Alerts and processes meet, whichever domains know of either."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ebpfsentinel.kernel
from ebpfsentinel.kernel.declared import read_object
from ebpfsentinel.kernel.fake import FakeKernel
from ebpfsentinel.kernel.flows import Layout
from ebpfsentinel.model.action import FlowTable
from ebpfsentinel.model.alert import Alert, Severity
from ebpfsentinel.model.flows import Ends, Stage
from ebpfsentinel.model.processes import Process
from ebpfsentinel.naming import MOST_FLOWS, Naming

DISPATCH = Path(ebpfsentinel.kernel.__file__).with_name("dispatch.bpf.o")
CURL, NGINX = Process(7, 70, 1000, 5), Process(8, 80, 33, 6)
FOREVER_NS = 1 << 57


class Names:
    """An engine that knows who is at two ports."""

    def __init__(self, by_port):
        self.by_port = by_port

    def processes_of(self, ends, peek):
        return self.by_port.get(ends.source_port), self.by_port.get(ends.destination_port)


class Describes:
    def __init__(self, **known):
        self.known = known

    def describe_process(self, pid, start_ns, peek):
        return self.known if pid == CURL.pid else None


def packet(**fields):
    """An alert about a packet from 10.0.0.9:40000 to 10.0.0.2:443."""
    return Alert(
        timestamp_ns=1,
        component="x",
        severity=Severity.LOW,
        rule_id="r",
        action="drop",
        message="",
        **{"src_ip": "10.0.0.9", "dst_ip": "10.0.0.2", "src_port": 40000, "dst_port": 443}
        | {"protocol": 6}
        | fields,
    )


def named(alert, *engines, kernel=None):
    naming = Naming(kernel or FakeKernel(), {f"e{at}": each for at, each in enumerate(engines)})
    naming.name([alert])
    return alert


def test_a_packet_carries_who_sent_it_and_who_was_to_get_it():
    both = named(packet(), Names({40000: CURL, 443: NGINX}), Describes(path="/usr/bin/curl"))
    assert both.pid == CURL.pid
    assert both.context["e1"] == {"pid": 7, "start_ns": 70, "path": "/usr/bin/curl"}
    assert both.context["peer"] == {"pid": 8}
    inbound = named(packet(), Names({443: NGINX}))
    assert inbound.pid == 8
    assert "peer" not in inbound.context


def test_what_one_engine_does_not_know_another_may():
    engines = {
        "a": Names({443: NGINX}),
        "b": Names({40000: CURL}),
        "c": Describes(comm="curl", path=""),
        "d": Describes(path="/usr/bin/curl", comm=""),
    }
    naming = Naming(FakeKernel(), engines)
    alert = packet()
    naming.name([alert])
    assert (alert.pid, alert.context["peer"]["pid"]) == (7, 8)
    assert alert.context["c"]["comm"] == "curl"
    assert alert.context["d"]["path"] == "/usr/bin/curl"
    assert naming.process(7, 70) == {
        "pid": 7,
        "start_ns": 70,
        "comm": "curl",
        "path": "/usr/bin/curl",
    }
    assert naming.process(8, 80) == {"pid": 8, "start_ns": 80}


@pytest.mark.parametrize(
    "fields", [{"dst_port": 0, "src_port": 0, "protocol": 1}, {"src_ip": None}, {"src_port": 1}]
)
def test_what_cannot_be_known_is_left(fields):
    alert = packet(**fields)
    found = named(alert, Names({40000: CURL}))
    assert found.pid is None
    assert found.context == {}


@pytest.fixture
def kernel():
    """A kernel with a flow table."""
    made = FakeKernel()
    made.load([])
    layout = Layout.of(read_object(DISPATCH).btf)
    head = np.zeros(1, layout.head)
    head["version"], head["sets"] = 1, 64
    secret = head["hash_keys"]
    secret[...] = np.arange(1, secret.size + 1, dtype=np.uint64).reshape(secret.shape) * 77777777777
    made.apply([FlowTable(head[0])])
    made.layout = layout
    return made


def put(kernel, number, owner, last_ns=1):
    ends = Ends(6, "2001:db8::9", 40000 + number, "2001:db8::1", 443)
    row = np.zeros(1, kernel.layout.flow)
    row["key"] = ends.key(kernel.layout.flow["key"])
    row["lapse_ns"], row["status"] = FOREVER_NS, Stage.ESTABLISHED
    local = int(row["key"]["port"][0, 1] != 443)
    row["status"] |= local << 5
    end = row["end"][0, local]
    end["owner"]["pid"], end["owner"]["start_ns"] = owner.pid, owner.start_ns
    end["last_ns"], end["bytes"] = last_ns, 100
    assert kernel.put_flows(row) == 1
    return ends


def test_one_flow_is_found_among_many_whichever_way_it_is_asked_for(kernel):
    ends = [put(kernel, number, CURL) for number in range(40)]
    for each in ends:
        back = Ends(6, each.destination, 443, each.source, each.source_port)
        for asked in (each, back):
            (row,) = kernel.find_flow(asked)
            assert sorted(row["key"]["port"].tolist()) == [443, each.source_port]
    assert len(kernel.find_flow(Ends(6, "2001:db8::9", 39999, "2001:db8::1", 443))) == 0
    assert len(kernel.find_flow(Ends(17, "2001:db8::9", 40000, "2001:db8::1", 443))) == 0


def test_an_alert_of_a_process_carries_its_flows(kernel):
    for number in range(20):
        put(kernel, number, CURL, last_ns=number)
    put(kernel, 30, NGINX)
    alert = packet(pid=7, context={"x": {"pid": 7, "start_ns": 70}})
    flows = named(alert, kernel=kernel).context["flows"]
    assert len(flows) == MOST_FLOWS
    assert flows[0] == {
        "protocol": "tcp",
        "local_ip": "2001:db8::9",
        "local_port": 40019,
        "remote_ip": "2001:db8::1",
        "remote_port": 443,
        "opened_by": "local",
        "state": "established",
        "bytes_out": 100,
        "bytes_in": 0,
    }
    stranger = packet(pid=7, context={"x": {"pid": 7, "start_ns": 71}})
    assert "flows" not in named(stranger, kernel=kernel).context
