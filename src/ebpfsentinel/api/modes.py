"""What was asked for and what is in effect, side by side, for status, metrics and banner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ebpfsentinel.changes import is_enabled
from ebpfsentinel.kernel.confine import confinement
from ebpfsentinel.model.domain import Metric
from ebpfsentinel.model.kernel import XdpMode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebpfsentinel.api.agent import Agent

_OFF, _ON = "off", "on"


class Mode(msgspec.Struct):
    """One thing that has a mode. ``as_asked``: what is in effect is what was asked for."""

    what: str
    asked: str
    effective: str
    as_asked: bool
    why: str = ""


def modes(agent: Agent) -> list[Mode]:
    """Of interfaces, domains, privileges, destinations and rings."""
    found = [*_interfaces(agent), *_domains(agent), _privileges(agent)]
    return [*found, *_sinks(agent), *_rings(agent)]


def _interfaces(agent: Agent) -> Iterator[Mode]:
    asked = agent.settings.agent.xdp_mode
    places = {place.asked or place.interface: place for place in agent.kernel.attachments()}
    for name, place in places.items():
        as_asked = place.how == asked or (asked is XdpMode.AUTO and place.how == XdpMode.NATIVE)
        how = place.how or "nothing"
        yield Mode(f"interface {name}", asked.value, how, as_asked, place.reason)
    for name in agent.settings.agent.interfaces:
        if name not in places and name != XdpMode.AUTO:
            yield Mode(f"interface {name}", asked.value, "nothing", False, agent.not_ready_reason)


def _domains(agent: Agent) -> Iterator[Mode]:
    for name, engine in agent.engines.items():
        section = getattr(agent.settings, name)
        if name in agent.missing:
            yield Mode(f"domain {name}", _ON, _OFF, False, agent.missing[name])
        elif is_enabled(section):
            effective = str(engine.status().get("mode", _ON))
            asked = str(getattr(section, "mode", None) or effective)
            yield Mode(f"domain {name}", asked, effective, asked == effective)


def _privileges(agent: Agent) -> Mode:
    asked, found = agent.settings.agent.privilege_separation, confinement()
    wanted, effective = (_ON if on else _OFF for on in (asked, found.whole))
    why = agent.kernel.trouble() if asked else ""
    return Mode(
        "privilege separation", wanted, effective, (found.whole and not why) or not asked, why
    )


def _sinks(agent: Agent) -> Iterator[Mode]:
    for view in agent.router.views():
        fails = bool(view.failures or view.spool_trouble)
        effective = "alerts wait" if fails else "delivers"
        why = view.spool_trouble or view.last_error if fails else ""
        yield Mode(f"sink {view.name}", "delivers", effective, not fails, why)


def _rings(agent: Agent) -> Iterator[Mode]:
    proofs = {each.name: each for each in agent.health().proofs if each.kind == "ring"}
    for ring in agent.kernel.ledgers():
        proof = proofs.get(ring.ring)
        silent = proof is not None and proof.state == "silent"
        loses = ring.ring in agent.losing
        effective = "silent" if silent else "loses records" if loses else "read"
        yield Mode(f"ring {ring.ring}", "read", effective, effective == "read")


def mode_metrics(agent: Agent) -> Iterator[Metric]:
    """1 where what is in effect is what was asked for."""
    text = "1: in effect is what was asked for"
    for mode in modes(agent):
        labels = {"what": mode.what, "asked": mode.asked, "effective": mode.effective}
        yield Metric("mode_as_asked", "gauge", text, labels, float(mode.as_asked))
