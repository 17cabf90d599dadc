"""The head of the flow table, from the settings."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.conntrack.events import FLOW_HEAD, FlowStage
from ebpfsentinel.model.flows import TICK_SHIFT, WAYS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ebpfsentinel.domains.conntrack.settings import ConntrackSettings
    from ebpfsentinel.model.domain import Surroundings

VERSION = 2
"""``FLOW_VERSION`` of ``flow_table.h``."""
_FILLED = WAYS - 1
"""Of the ways of a set, those that max_entries counts: so that as many flows find a place."""
_TICK_NS = 1 << TICK_SHIFT
_STAGES = {
    FlowStage.FLOW_SYN_SENT: "tcp_syn_sent",
    FlowStage.FLOW_SYN_SENT_BOTH: "tcp_syn_sent",
    FlowStage.FLOW_SYN_RECV: "tcp_syn_recv",
    FlowStage.FLOW_TCP_ESTABLISHED: "tcp_established",
    FlowStage.FLOW_FIN_WAIT: "tcp_fin_wait",
    FlowStage.FLOW_CLOSE_WAIT: "tcp_close_wait",
    FlowStage.FLOW_LAST_ACK: "tcp_last_ack",
    FlowStage.FLOW_TIME_WAIT: "tcp_time_wait",
    FlowStage.FLOW_CLOSE: "tcp_close",
    FlowStage.FLOW_PICKED_UP: "tcp_picked_up",
    FlowStage.FLOW_UDP_NEW: "udp",
    FlowStage.FLOW_UDP_REPLIED: "udp",
    FlowStage.FLOW_UDP_STREAM: "udp_stream",
    FlowStage.FLOW_ICMP_NEW: "icmp",
    FlowStage.FLOW_ICMP_REPLIED: "icmp",
    FlowStage.FLOW_OTHER_NEW: "other",
    FlowStage.FLOW_OTHER_REPLIED: "other",
}
"""By stage, the name of its timeout."""


def ticks(seconds: int) -> int:
    """As many ticks as last that long at least."""
    return -(-seconds * 1_000_000_000 // _TICK_NS) + 1


def head_of(settings: ConntrackSettings, around: Surroundings) -> NDArray[Any]:
    """``struct flow_head``, shape ``()``; ``around.secret`` keeps its hashes from being guessed."""
    made = np.zeros((), FLOW_HEAD)
    made["version"] = VERSION
    made["sets"] = -(-settings.max_entries // _FILLED)
    for stage, name in _STAGES.items():
        made["timeout"][stage] = ticks(getattr(settings.timeouts, name))
    made["pickup"], made["windows"] = settings.pickup, settings.window_checks
    made["count_sources"], made["tell"] = settings.source_counts, settings.events
    made["names"] = "owners" in around.provided
    keys = made["hash_keys"]
    raw = hashlib.shake_256(b"flows" + around.secret).digest(keys.nbytes)
    made["hash_keys"] = np.frombuffer(raw, np.uint64).reshape(keys.shape)
    return made
