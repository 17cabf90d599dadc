"""What works, what does not, and what to do about it: the agent looks at itself, in words.

Each check tells at least one thing, also where all is well: what was not looked at cannot be taken
for well.
"""

from __future__ import annotations

import enum
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import get

from ebpfsentinel.changes import is_enabled
from ebpfsentinel.config import is_loopback
from ebpfsentinel.kernel.confine import confinement
from ebpfsentinel.model.health import BLINDING
from ebpfsentinel.model.kernel import NOT_NEEDED, XdpMode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebpfsentinel.api.agent import Agent

_DAY_S = 86_400
_SOON_S = 14 * _DAY_S
_LATE_S = 600


class State(enum.StrEnum):
    """How it is, best first."""

    WELL = "well"
    DEGRADED = "degraded"
    BROKEN = "broken"


class Finding(msgspec.Struct):
    """One thing that was looked at. ``why`` and ``remedy`` are empty where all is well."""

    about: str
    state: State
    what: str
    why: str = ""
    remedy: str = ""


class Diagnosis(msgspec.Struct):
    """All of them; ``state`` is that of the worst."""

    state: State
    findings: list[Finding]


def diagnose(agent: Agent) -> Diagnosis:
    """Look at everything."""
    found = [finding for check in CHECKS for finding in check(agent)]
    worst = max((finding.state for finding in found), key=list(State).index)
    return Diagnosis(worst, found)


def _interfaces(agent: Agent) -> Iterator[Finding]:
    about, asked = "interfaces", agent.settings.agent.xdp_mode
    if not agent.ready:
        remedy = "ebpfsentinel-agent ebpf status says what stands in the way."
        yield Finding(about, State.BROKEN, "not all are guarded", agent.not_ready_reason, remedy)
    for place in agent.kernel.attachments():
        what = f"{place.interface}: XDP {asked.value} asked, {place.how or 'nothing'} in effect"
        if not place.how:
            remedy = "bpftool net shows what else is attached there."
            yield Finding(about, State.BROKEN, what, place.reason, remedy)
        elif place.how == "native" or asked is not XdpMode.AUTO:
            yield Finding(about, State.WELL, what)
        else:
            remedy = "Nothing needs doing: verdicts are the same, later in the path."
            yield Finding(about, State.DEGRADED, what, place.reason, remedy)


def _domains(agent: Agent) -> Iterator[Finding]:
    """The mode that is asked for, and the one in effect; the programs that are missing."""
    for name, engine in agent.engines.items():
        section, status = getattr(agent.settings, name), engine.status()
        if name in agent.missing:
            remedy = "docs/kernels.md says what each kernel can do; or switch the domain off."
            what = "enabled asked, off in effect"
            yield Finding(name, State.BROKEN, what, agent.missing[name], remedy)
            continue
        if not is_enabled(section):
            yield Finding(name, State.WELL, "off")
            continue
        effective = str(status.get("mode", ""))
        asked = str(getattr(section, "mode", None) or effective)
        what = f"mode {asked} asked, {effective} in effect" if asked else "on"
        if asked == effective:
            yield Finding(name, State.WELL, what)
        else:
            remedy = "ebpfsentinel-agent ebpf status says which program is missing."
            yield Finding(name, State.BROKEN, what, "the kernel half is not all there", remedy)
    for program in agent.kernel.programs():
        if program.reason and program.reason != NOT_NEEDED:
            state = State.DEGRADED if program.loaded else State.BROKEN
            what = f"{program.name} is {'a step down' if program.loaded else 'not loaded'}"
            remedy = "docs/kernels.md says what each kernel can do."
            yield Finding(program.domain, state, what, program.reason, remedy)


def _proofs(agent: Agent) -> Iterator[Finding]:
    """What canaries prove, and what the agent noticed of others."""
    about, health = "canaries", agent.health()
    for trouble in health.troubles:
        state = State.BROKEN if trouble.kind in BLINDING else State.DEGRADED
        remedy = trouble.remedy or "docs/health.md says what each canary proves, and what to do."
        yield Finding(about, state, trouble.text, "", remedy)
    wanted = agent.settings.agent.canary
    if not wanted.enabled:
        remedy = "Set agent.canary.enabled: without, silence cannot be told from peace."
        yield Finding(about, State.DEGRADED, "none are sent", "they are switched off", remedy)
    elif not any(proof.heard_ns for proof in health.proofs):
        what = f"the first ones go after {wanted.interval_secs} s"
        yield Finding(about, State.WELL, what)
    for kind in dict.fromkeys(proof.kind for proof in health.proofs):
        found = [proof for proof in health.proofs if proof.kind == kind]
        well = [proof for proof in found if proof.state == "well"]
        slowest = max((proof.latency_ms or 0 for proof in well), default=0)
        what = f"{len(well)} of {len(found)} {kind}s answer, the slowest in {slowest:.1f} ms"
        yield Finding(about, State.WELL, what)
    if not agent.settings.agent.tamper.enabled:
        what = "nobody looks whether others change what is the agent's"
        yield Finding("tampering", State.DEGRADED, what, "", "Set agent.tamper.enabled.")


def _records(agent: Agent) -> Iterator[Finding]:
    about, ledgers = "records", agent.kernel.ledgers()
    lost = {ledger.ring: sum(ledger.lost.values()) for ledger in ledgers}
    total = sum(ledger.seen for ledger in ledgers)
    what = f"{total - sum(lost.values())} of {total} delivered"
    if agent.losing:
        why = f"{', '.join(sorted(agent.losing))} lose records now"
        remedy = "The agent is behind: fewer rules that report, or ignore what is noisy."
        yield Finding(about, State.DEGRADED, what, why, remedy)
    else:
        yield Finding(about, State.WELL, what)
    failures = {name: count for name, count in agent.kernel.failures().items() if count}
    for name, count in failures.items():
        why = f"{count} times since the start"
        remedy = "Tell the developers, with the kernel's version: it should not."
        yield Finding("kernel", State.DEGRADED, f"{name} failed", why, remedy)


def _state(agent: Agent) -> Iterator[Finding]:
    about, store = "state", agent.store
    if store.trouble:
        remedy = f"Is {agent.settings.agent.state_dir} writable, and the disk not full?"
        what = f"{store.waiting} records wait in memory to be written"
        yield Finding(about, State.BROKEN, what, store.trouble, remedy)
    else:
        yield Finding(about, State.WELL, "rules, alerts and audit are written")
    for room, count in store.lost.items():
        why = "the disk could not be written for too long"
        yield Finding(about, State.DEGRADED, f"{count} records of {room} were given up", why)
    for note in store.notes:
        yield Finding(about, State.DEGRADED, note)


def _destinations(agent: Agent) -> Iterator[Finding]:
    about = "alerts"
    for view in agent.router.views():
        what = f"{view.name} ({view.kind}): {view.waiting} wait, {view.exported} sent"
        lost = sum(view.dropped.values())
        late = view.oldest_age_secs > _LATE_S
        if view.spool_trouble:
            remedy = "Is the disk of agent.state_dir full? Until then they wait in memory."
            yield Finding(about, State.BROKEN, what, view.spool_trouble, remedy)
        elif view.failures or late:
            why = view.last_error or f"the oldest is {view.oldest_age_secs:.0f} s old"
            remedy = f"ebpfsentinel-agent alerts test {view.name}; they wait on disk meanwhile."
            yield Finding(about, State.DEGRADED, what, why, remedy)
        elif lost:
            why = ", ".join(f"{count} {reason}" for reason, count in view.dropped.items())
            remedy = "ebpfsentinel-agent alerts destinations; raise spool_bytes where it was full."
            yield Finding(about, State.DEGRADED, f"{what}, {lost} lost", why, remedy)
        else:
            yield Finding(about, State.WELL, what)


def _doors(agent: Agent) -> Iterator[Finding]:
    about, settings = "access", agent.settings
    far = not is_loopback(settings.agent.bind_address)
    what = f"API on {settings.agent.bind_address}"
    what += f", auth {'on' if settings.auth.enabled else 'off'}"
    what += f", TLS {'on' if agent.tls.enabled else 'off'}"
    open_far = far and not (settings.auth.enabled and agent.tls.enabled)
    remedy = "Set auth.enabled and tls.enabled: docs/security.md." if open_far else ""
    why = "whoever reaches it can read along, or more" if open_far else ""
    yield Finding(about, State.DEGRADED if open_far else State.WELL, what, why, remedy)
    if agent.tls.trouble:
        what = "the newest certificate files are not in use"
        yield Finding(about, State.DEGRADED, what, agent.tls.trouble, "Mend the files.")
    expires_s = agent.tls.expires_s()
    if expires_s is not None and expires_s - time.time() < _SOON_S:
        left_s = expires_s - time.time()
        state = State.DEGRADED if left_s > 0 else State.BROKEN
        what = f"the certificate expires in {left_s / _DAY_S:.1f} days"
        remedy = "Replace the files: they are read again without a restart."
        yield Finding(about, state, what, "", remedy)


def _configuration(agent: Agent) -> Iterator[Finding]:
    about, warnings = "configuration", agent.loaded.warnings
    for warning in warnings:
        yield Finding(about, State.DEGRADED, warning)
    if not warnings:
        yield Finding(about, State.WELL, "in force as it is written")
    for change in agent.waiting.all():
        why = f"it is undone in {change.seconds_left():.0f} s, unless it is confirmed"
        remedy = f"ebpfsentinel-agent confirm {change.id}"
        yield Finding(about, State.DEGRADED, change.summary, why, remedy)


def _privileges(agent: Agent) -> Iterator[Finding]:
    """What of root is left to who parses and listens: asked, and in effect."""
    about, settings = "privileges", agent.settings
    asked = "on" if settings.agent.privilege_separation else "off"
    found = confinement()
    lacks = {
        "it is root": not found.uid,
        "it has capabilities": bool(found.capabilities),
        "its children may get privileges": not found.no_new_privs,
        "no system call is forbidden": not found.seccomp,
    }
    effective = "on" if found.whole else "off"
    what = f"separation {asked} asked, {effective} in effect, as user {found.uid}"
    if asked == "on" and agent.kernel.trouble():
        remedy = "systemctl status ebpfsentinel-keeper says why it ended."
        yield Finding(about, State.BROKEN, what, agent.kernel.trouble(), remedy)
    elif asked == "on" and not found.whole:
        why = ", ".join(text for text, is_so in lacks.items() if is_so)
        remedy = "Restart the agent; docs/privilege-separation.md says what it should be."
        yield Finding(about, State.BROKEN, what, why, remedy)
    else:
        yield Finding(about, State.WELL, what)
    container = settings.container
    folders = [container.docker.root] if container.docker.enabled else []
    for folder in [*folders, container.podman.root] if container.resolver.enabled else []:
        if _is_shut(folder):
            what = f"names go unknown: {folder} cannot be read by user {found.uid}"
            remedy = f"setfacl -m u:{settings.agent.user}:rx {folder}, and what is below it."
            yield Finding("containers", State.DEGRADED, what, "only root may read it", remedy)


def _is_shut(folder: str) -> bool:
    """Is it there, and not for us to read?"""
    try:
        next(Path(folder).iterdir(), None)
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


CHECKS = (
    _interfaces,
    _domains,
    _proofs,
    _records,
    _state,
    _destinations,
    _privileges,
    _doors,
    _configuration,
)


def doctor_route(agent: Agent) -> Any:
    """``GET /api/v1/agent/doctor``."""

    @get("/api/v1/agent/doctor", tags=["agent"], summary="What works, what does not, what to do")
    async def doctor() -> Diagnosis:
        return diagnose(agent)

    return doctor
