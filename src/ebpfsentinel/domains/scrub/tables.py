"""Settings as what the programs read: ``struct sc_head``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.scrub.events import SC_HEAD, ScChange, ScMode, ScWay
from ebpfsentinel.domains.scrub.settings import (
    Direction,
    Fragments,
    IllegalFlags,
    ScrubSettings,
    tos_of,
)
from ebpfsentinel.model.settings import Mode, SettingsError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

FIN, SYN, RST, PSH, ACK, URG = (1 << bit for bit in range(6))
DROP = 0xFF
"""``SC_FLAGS_DROP``."""
_EVERYWHERE = (1 << 64) - 1
_WAYS = {
    Direction.INGRESS: (ScWay.SC_INGRESS,),
    Direction.EGRESS: (ScWay.SC_EGRESS,),
    Direction.BOTH: (ScWay.SC_INGRESS, ScWay.SC_EGRESS),
}


def mended(flags: int) -> int:
    """The combination that one of the lower six flags is taken for; :data:`DROP`: for none.

    A reset is a reset whatever else it says; a SYN neither ends nor urges; without either, a
    segment of a flow has ACK (RFC 9293 3.10.7).
    """
    if flags & RST:
        return flags & ~(SYN | FIN)
    if flags & SYN:
        return flags & ~(FIN | (0 if flags & ACK else URG))
    return flags if flags & ACK else DROP


def flags_table(policy: IllegalFlags) -> NDArray[np.uint8]:
    """By the lower six flags, what they become; :data:`DROP`: the segment is dropped."""
    found = [mended(flags) for flags in range(64)]
    if policy is IllegalFlags.DROP:
        found = [flags if new == flags else DROP for flags, new in enumerate(found)]
    return np.array(range(64) if policy is IllegalFlags.PASS else found, np.uint8)


def changes_of(settings: ScrubSettings) -> dict[ScChange, bool]:
    """Every change, and whether it is asked for."""
    fragments = settings.fragment_policy
    return {
        ScChange.SC_TTL: settings.min_ttl > 0,
        ScChange.SC_HOP_LIMIT: settings.min_hop_limit > 0,
        ScChange.SC_TOS: tos_of(settings) is not None,
        ScChange.SC_ECN: settings.strip_ecn,
        ScChange.SC_DF: settings.clear_df,
        ScChange.SC_ID: settings.random_ip_id,
        ScChange.SC_RESERVED: settings.scrub_tcp_flags,
        ScChange.SC_ILLEGAL: settings.illegal_tcp_flags is not IllegalFlags.PASS,
        ScChange.SC_MSS: settings.max_mss is not None,
        ScChange.SC_TIMESTAMPS: settings.strip_tcp_timestamps,
        ScChange.SC_FRAGMENTS: fragments is Fragments.DROP,
        ScChange.SC_BAD_FRAGMENTS: fragments is Fragments.STRICT,
    }


def head_of(settings: ScrubSettings, interfaces: Mapping[str, int]) -> NDArray[Any]:
    """The head, shape ``(1,)``.

    Raises:
        SettingsError: an interface or a value cannot be taken.
    """
    head = np.zeros(1, SC_HEAD)
    head["interfaces"] = slots(settings, interfaces)
    wanted = sum(change for change, asked in changes_of(settings).items() if asked)
    for way in _WAYS[settings.direction]:
        head["changes"][0, way] = wanted
    head["max_mss"] = settings.max_mss if isinstance(settings.max_mss, int) else 0
    head["min_ttl"], head["min_hop_limit"] = settings.min_ttl, settings.min_hop_limit
    head["tos"] = tos_of(settings) or 0
    block = settings.mode is Mode.BLOCK
    head["mode"] = ScMode.SC_MODE_BLOCK if block else ScMode.SC_MODE_ALERT
    head["tcp_flags"] = flags_table(settings.illegal_tcp_flags)
    return head


def slots(settings: ScrubSettings, known: Mapping[str, int]) -> int:
    """Bits of the interfaces that are named; all of them where none is."""
    found = 0
    for at, name in enumerate(settings.interfaces):
        if name not in known:
            remedy = nearest(name, known, "The agent guards")
            raise SettingsError(f"scrub.interfaces[{at}]", f"no interface {name!r}", remedy)
        found |= 1 << known[name]
    return found or _EVERYWHERE
