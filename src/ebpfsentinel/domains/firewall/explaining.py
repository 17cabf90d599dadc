"""Why a packet fares as it does: the rule that decides, and what would decide without it.

The verdict is that of the loaded programs, asked by :data:`~ebpfsentinel.model.kernel.DRY`. What
stands behind the deciding rule is worked out from the rules' conditions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ebpfsentinel.domains.firewall.asking import PROTOCOLS, WITH_PORTS, Asked, parse
from ebpfsentinel.domains.firewall.building import build
from ebpfsentinel.domains.firewall.conditions import matches, point_of
from ebpfsentinel.domains.firewall.describe import DEFAULT_RULE, verdict
from ebpfsentinel.domains.firewall.settings import Policy
from ebpfsentinel.model.kernel import DRY, META, KernelError, LimitStatus
from ebpfsentinel.model.packets import WOULD
from ebpfsentinel.model.settings import SettingsError

if TYPE_CHECKING:
    import msgspec

    from ebpfsentinel.domains.firewall.engine import FirewallEngine
    from ebpfsentinel.domains.firewall.ranking import CheckedRule
    from ebpfsentinel.model.alert import Alert
    from ebpfsentinel.model.kernel import Kernel

_FOLLOWING = 10
_NAMES = {number: name for name, number in PROTOCOLS.items()}
_SHOWN = ("id", "origin", "priority", "action", "packets", "bytes", "last_hit_ns")
_UNTOLD = "Asked, not sent: it is in no counter and raised no event."


def explain(asked: Asked, engine: FirewallEngine, kernel: Kernel, now_ns: int) -> dict[str, Any]:
    """The body of an answer; the engine's counters are as they were polled last.

    Raises:
        KernelError: the programs cannot be asked, or there is no such interface.
    """
    meta, frame = _ask(asked, kernel)
    settings, rules = engine.in_force()
    number = int(meta["rule_id"])
    decided = engine.names().get(number, f"rule-{number}") if number else DEFAULT_RULE
    found = verdict(int(meta["action"]))
    enforced = settings.mode.value == "block"
    views = {view.id: view for view in engine.items("rules")}
    ids = [each.rule.id for each in rules]
    behind = rules[ids.index(decided) + 1 :] if decided in ids else ()
    boot_s = (now_ns - engine.surroundings().boot_offset_ns) // 1_000_000_000
    point = point_of(asked, kernel.interface_slots(), boot_s)
    following = [_brief(each) for each in behind if matches(each, point)][:_FOLLOWING]
    return {
        "packet": asked.text(),
        "bytes": len(frame),
        "verdict": found if enforced or found in ("allow", "log") else f"would_{found}",
        "mode": settings.mode.value,
        "rule": _shown(views[decided]) if decided in views else {"id": decided},
        "stage": _stage(asked, kernel),
        "behind": _behind(meta, found),
        "would_follow": following
        + ([_default(settings.default_policy)] if decided != DEFAULT_RULE else []),
        "note": _UNTOLD,
    }


def _ask(asked: Asked, kernel: Kernel) -> tuple[Any, bytes]:
    frame = build(asked)
    answer = kernel.run(DRY, frame, interface=asked.interface)
    if len(answer.meta) != META.itemsize:
        raise KernelError("the programs gave no answer: is the firewall switched off?")
    return np.frombuffer(answer.meta, META)[0], frame


def _behind(meta: Any, found: str) -> str | None:
    """What programs behind would do with a packet that the firewall lets pass; None: nothing."""
    if found not in ("allow", "log") or not int(meta["packet_flags"]) & WOULD:
        return None
    over = int(meta["limit_status"]) == LimitStatus.OVER
    return "over a rate limit: would be dropped" if over else "would be dropped as part of a flood"


def _shown(view: msgspec.Struct) -> dict[str, Any]:
    return {name: getattr(view, name) for name in _SHOWN}


def _brief(found: CheckedRule) -> dict[str, Any]:
    return {"id": found.rule.id, "action": found.rule.action.value, "origin": found.origin}


def _default(policy: Policy) -> dict[str, Any]:
    action = "deny" if policy is Policy.DROP else "allow"
    return {"id": DEFAULT_RULE, "action": action, "origin": "config"}


def _stage(asked: Asked, kernel: Kernel) -> str:
    """Which program judges packets there."""
    places = {place.interface: place.how for place in kernel.attachments()}
    if not asked.interface:
        return "xdp_firewall (no interface said: rules with a scope do not match)"
    if asked.interface not in places:
        return f"none: the agent is not attached to {asked.interface}"
    how = places[asked.interface]
    program = "tc_firewall" if how == "tc" else "xdp_firewall"
    return f"{program} on {asked.interface} ({how})"


def asked_of(alert: Alert) -> Asked:
    """The packet that an alert is about, as far as the alert says.

    Raises:
        SettingsError: it is about no packet.
    """
    if not alert.src_ip or not alert.dst_ip:
        raise SettingsError("alert", f"{alert.id} is about no packet", "Name one with addresses.")
    six = ":" in alert.src_ip
    port = [f":{number}" if alert.protocol in WITH_PORTS else "" for number in _ports(alert)]
    sides = [f"[{each}]" if six else each for each in (alert.src_ip, alert.dst_ip)]
    line = (
        f"{_NAMES.get(alert.protocol, alert.protocol)} {sides[0]}{port[0]} -> {sides[1]}{port[1]}"
    )
    if vlan := alert.context.get("vlan_id"):
        line += f" vlan {vlan}"
    if interface := alert.context.get("interface"):
        line += f" on {interface}"
    return parse(line)


def _ports(alert: Alert) -> tuple[int, int]:
    return alert.src_port, alert.dst_port
