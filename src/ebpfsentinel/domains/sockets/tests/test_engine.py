"""Answers to "whose packet is it": the engine with look-ups that a test makes up."""

from __future__ import annotations

import numpy as np

from ebpfsentinel.domains.sockets import DOMAIN
from ebpfsentinel.domains.sockets.events import (
    FLOW_ENTRY,
    LISTENER,
    OWNER_FACTS,
    SOCKETS_COUNT,
)
from ebpfsentinel.domains.sockets.settings import SocketsSettings
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.flows import Ends
from ebpfsentinel.model.processes import DescribesProcesses, NamesProcesses, Process

OUT = Ends(6, "10.0.0.9", 40000, "10.0.0.2", 443)
CLIENT, SERVER = Process(7, 70, 1000, 5), Process(8, 80, 33, 6)


class Looks:
    """A kernel that has one flow at most, and some entries."""

    def __init__(self, flow=None, listeners=None, owners=None):
        self.flow = np.empty(0, FLOW_ENTRY) if flow is None else flow
        self.maps = {"listeners": listeners or {}, "owners": owners or {}}

    def find_flow(self, ends):
        return self.flow

    def look_up(self, name, key):
        row = key[0]
        if name == "owners":
            return self.maps[name].get((int(row["pid"]), int(row["start_ns"])))
        found = (tuple(row["addr"].tolist()), int(row["port"]), int(row["netns"]))
        return self.maps[name].get(found)


def flow(ends, source=None, destination=None):
    """The row of a flow between these ends with these processes."""
    row = np.zeros(1, FLOW_ENTRY)
    row["key"] = ends.key(FLOW_ENTRY["key"])
    first = row["key"]["port"][0, 0] == ends.source_port
    for process, end in ((source, 0 if first else 1), (destination, 1 if first else 0)):
        if process:
            for field in ("pid", "start_ns", "uid", "cgroup_id"):
                row["end"]["owner"][field][0, end] = getattr(process, field)
    return row


def engine(netns=4):
    made = DOMAIN.engine(Tools(rules=None))
    made.commit(made.plan(SocketsSettings(), {}, Surroundings(netns=netns)))
    return made


def turned(ends):
    return Ends(
        ends.protocol, ends.destination, ends.destination_port, ends.source, ends.source_port
    )


def test_it_says_that_it_knows():
    assert isinstance(engine(), NamesProcesses)
    assert isinstance(engine(), DescribesProcesses)


def test_a_flow_names_both_ends_whichever_way_the_packet_goes():
    for ends in (OUT, Ends(17, "2001:db8::9", 5, "2001:db8::1", 53)):
        looks = Looks(flow(ends, CLIENT, SERVER))
        assert engine().processes_of(ends, looks) == (CLIENT, SERVER)
        assert engine().processes_of(turned(ends), looks) == (SERVER, CLIENT)
        assert engine().processes_of(ends, Looks(flow(ends, CLIENT))) == (CLIENT, None)


def test_without_a_flow_who_listens_there_is_named():
    entry = np.zeros(1, LISTENER)
    for field in ("pid", "start_ns", "uid", "cgroup_id"):
        entry["owner"][field] = getattr(SERVER, field)
    here = (0x0A000002, 0, 0, 0)
    for addr in (here, (0, 0, 0, 0)):
        assert engine().processes_of(OUT, Looks(listeners={(addr, 443, 4): entry})) == (
            None,
            SERVER,
        )
    assert engine(netns=5).processes_of(OUT, Looks(listeners={(here, 443, 4): entry})) == (
        None,
        None,
    )


def test_what_is_switched_off_knows_nothing():
    made = engine()
    made.commit(made.plan(SocketsSettings(enabled=False), {}, Surroundings()))
    assert made.processes_of(OUT, Looks(flow(OUT, CLIENT, SERVER))) == (None, None)


def test_a_process_is_described_by_its_pid_and_start():
    facts = np.zeros(1, OWNER_FACTS)
    facts["comm"] = b"curl"
    looks = Looks(owners={(7, 70): facts})
    assert engine().describe_process(7, 70, looks)["comm"] == "curl"
    assert engine().describe_process(7, 71, looks) is None


def test_counters_are_shown():
    counts = np.zeros(1, SOCKETS_COUNT)
    counts["accepted"] = 3
    made = engine()
    made.feed("sockets_count", counts, 0)
    assert made.status()["accepted"] == 3
    assert {each.labels["event"]: each.value for each in made.metrics()}["accepted"] == 3
