"""Rows name their processes, by whatever knows them."""

from __future__ import annotations

import numpy as np

from ebpfsentinel.domains.conntrack.events import FLOW_OWNER
from ebpfsentinel.domains.conntrack.owners import describe, owners


def ends(*pids):
    made = np.zeros(2, FLOW_OWNER)
    made["pid"], made["start_ns"] = pids, [pid * 10 for pid in pids]
    return made


def test_who_opened_a_flow_comes_first_and_who_answers_is_the_peer():
    assert owners(ends(0, 0), 0) == {"pid": None}
    assert owners(ends(7, 0), 1)["pid"] == 7
    both = owners(ends(7, 8), 1)
    assert (both["pid"], both["peer"]["pid"], both["peer"]["pid_start_ns"]) == (8, 7, 70)


def test_a_process_is_asked_for_once_and_what_nobody_knows_is_empty():
    asked = []

    def ask(pid, start_ns):
        asked.append((pid, start_ns))
        return {"pid": pid, "path": "/usr/bin/curl", "container_id": "c1"} if pid == 7 else {}

    rows = [owners(ends(7, 8), 0), owners(ends(7, 0), 0), owners(ends(0, 0), 0)]
    describe(rows, ask)
    assert asked == [(7, 70), (8, 80)]
    assert (rows[0]["exe"], rows[0]["container"], rows[0]["cgroup"]) == ("/usr/bin/curl", "c1", "")
    assert rows[0]["peer"]["exe"] == ""
    assert rows[1]["exe"] == "/usr/bin/curl"
    assert rows[2] == {"pid": None}
