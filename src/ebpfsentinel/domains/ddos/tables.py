"""Settings and attacks as what the programs read: ``struct ddos_head`` and the ports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.ddos.attacks import Status
from ebpfsentinel.domains.ddos.events import DDOS_HEAD, DDOS_LIMIT, DdosMode
from ebpfsentinel.domains.ddos.rates import SECOND_NS
from ebpfsentinel.domains.ddos.settings import STRAY, AttackType, Mitigation, Per
from ebpfsentinel.model.action import MapReplace, Swap
from ebpfsentinel.model.settings import Mode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.domains.ddos.attacks import Watch
    from ebpfsentinel.domains.ddos.settings import DdosSettings
    from ebpfsentinel.model.action import Action

THROTTLE_NS = 10 * SECOND_NS
"""How long a throttle holds; it is renewed long before, while there is an agent and an attack."""
_SUB_NS = 256
"""Of a nanosecond, as ``gcra.h`` has it."""
_BURST_S = 0.1
_SAMPLES_PER_S = 20_000
"""About so many while a type is under attack: enough to rank sources by, few enough to be cheap."""


def limit(pps: float, burst: float | None = None) -> tuple[int, int]:
    """Interval and tolerance of ``pps``; without ``burst``, of a second's worth."""
    interval = round(SECOND_NS * _SUB_NS / pps)
    return interval, round(interval * (max(burst or pps, 1) - 1))


def head_of(
    settings: DdosSettings, watches: Sequence[Watch], boot_ns: int, *, blocking: bool
) -> Swap:
    """All of it, in force from one packet to the next. ``boot_ns`` is now, on the boot clock."""
    head = np.zeros(1, DDOS_HEAD)
    _put_guards(head, settings)
    for kind in (AttackType.VOLUMETRIC, *STRAY):
        head["sample_every"][0, kind.number] = settings.sample_every
    for watch in watches:
        if watch.policy.per is not Per.HOST:
            head["sample_every"][0, watch.policy.attack_type.number] = settings.sample_every
    for watch in watches:
        if watch.attack is not None:
            _put_measures(head, watch, boot_ns)
    head["known_ns"] = settings.known_secs * SECOND_NS
    block = settings.mode is Mode.BLOCK
    head["mode"] = DdosMode.DDOS_MODE_BLOCK if block else DdosMode.DDOS_MODE_ALERT
    head["blocking"] = blocking
    return Swap("ddos_head", 0, head)


def _put_guards(head: Any, settings: DdosSettings) -> None:
    syn, icmp = settings.syn_protection, settings.icmp_protection
    tcp = settings.connection_tracking
    if syn.enabled:
        head["cookies"] = 1
        if syn.threshold_mode:
            _put(
                head,
                "guard",
                AttackType.SYN_FLOOD,
                limit(syn.threshold_pps, 1 + syn.threshold_pps * _BURST_S),
            )
    if icmp.enabled:
        _put(head, "guard", AttackType.ICMP_FLOOD, limit(icmp.max_pps))
        head["icmp_payload_bytes"] = icmp.max_payload_size
    if tcp.enabled:
        head["half_open"] = tcp.half_open_threshold
        _put(head, "guard", AttackType.RST_FLOOD, limit(tcp.rst_threshold))
        _put(head, "guard", AttackType.FIN_FLOOD, limit(tcp.fin_threshold))
        _put(head, "guard", AttackType.ACK_FLOOD, limit(tcp.ack_threshold))
    for kind in AttackType:
        _put(head, "share", kind, limit(settings.source_share_pps))
    if settings.amplification_protection.enabled:
        bits = {each.port % 64 for each in settings.amplification_protection.ports}
        head["port_filter"] = sum(1 << bit for bit in bits)


def _put(head: Any, field: str, kind: AttackType, value: tuple[int, int]) -> None:
    head[field]["interval"][0, kind.number], head[field]["tolerance"][0, kind.number] = value


def _put_measures(head: Any, watch: Watch, boot_ns: int) -> None:
    """What an attack changes: its packets are looked at more closely, and throttled."""
    policy = watch.policy
    kind = policy.attack_type
    head["sample_every"][0, kind.number] = every_of(watch)
    head["every_ack"] |= kind is AttackType.ACK_FLOOD
    if not throttles(watch):
        return
    pps = policy.detection_threshold_pps
    before = int(head["throttle"]["interval"][0, kind.number])
    wanted = limit(pps, 1 + pps * _BURST_S)
    if wanted[0] > before:  # of several policies, the strictest
        _put(head, "throttle", kind, wanted)
    head["throttle_until_ns"][0, kind.number] = boot_ns + THROTTLE_NS


def every_of(watch: Watch) -> int:
    """Packets per sampled one of the watch's attack; a power of two, so that it seldom changes."""
    pps = watch.attack.current_pps if watch.attack else 0
    return 1 << max(int(pps / _SAMPLES_PER_S).bit_length(), 3)


def throttles(watch: Watch) -> bool:
    """Is the watch's attack one that packets are throttled for, now?

    What one source or prefix sends is no reason to hold up the others.
    """
    policy = watch.policy
    if watch.status is not Status.ACTIVE or policy.per in (Per.SOURCE, Per.PREFIX):
        return False
    return policy.mitigation_action is not Mitigation.ALERT


def ports_of(settings: DdosSettings) -> Action:
    """The amplifiers' ports, with the limit of one source."""
    wanted = settings.amplification_protection
    ports = wanted.ports if wanted.enabled else []
    keys = np.array([each.port for each in ports], np.uint16)
    values = np.array([limit(each.max_pps) for each in ports], DDOS_LIMIT)
    return MapReplace("ddos_ports", keys, values)
