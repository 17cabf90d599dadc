"""``doctor``: what works, what does not, what to do. Of the host itself where no agent answers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ebpfsentinel.cli import tables
from ebpfsentinel.cli.session import REFUSED, Session, path

if TYPE_CHECKING:
    from collections.abc import Iterator

BTF = Path("/sys/kernel/btf/vmlinux")
LOCKDOWN = Path("/sys/kernel/security/lockdown")
MOUNTS = Path("/proc/mounts")
_NEEDED = {"bpf": "/sys/fs/bpf", "tracefs": "/sys/kernel/tracing"}
_MARKS = {"well": "ok", "degraded": "DEGRADED", "broken": "BROKEN"}


@click.command("doctor")
@click.pass_context
def doctor(ctx: click.Context) -> None:
    """What works, what does not, and what to do. Exit code 1 where something is broken."""
    session: Session = ctx.obj
    body = session.get_if_running(path("agent", "doctor"))
    if body is None:
        body = {"state": "broken", "findings": list(_without_agent(session))}
    session.show(body, _text)
    ctx.exit(REFUSED if body["state"] == "broken" else 0)


def _text(body: dict[str, Any]) -> str:
    found = body["findings"]
    width = max(len(each["about"]) for each in found)
    lines = []
    for each in found:
        lines.append(f"{_MARKS[each['state']]:<9} {each['about']:<{width}}  {each['what']}")
        more = [each["why"] and f"because {each['why']}", each["remedy"]]
        lines += [" " * (12 + width) + line for line in filter(None, more)]
    words = {
        "well": "All is well.",
        "degraded": "It works, but not as it could.",
        "broken": "Something is broken.",
    }
    return "\n".join([*map(tables.printable, lines), "", words[body["state"]]])


def _without_agent(session: Session) -> Iterator[dict[str, str]]:
    """No agent answers: can one run here?"""
    remedy = "systemctl status ebpfsentinel, or start it: ebpfsentinel-agent --config FILE"
    yield _told("agent", "broken", f"no agent answers at {session.url}", remedy=remedy)
    yield _root()
    yield _btf()
    mounted = {line.split()[1]: line.split()[2] for line in MOUNTS.read_text().splitlines()}
    for kind, place in _NEEDED.items():
        if mounted.get(place) == kind:
            yield _told("kernel", "well", f"{kind} is mounted at {place}")
        else:
            yield _told("kernel", "degraded", f"{kind} is not mounted at {place}",
                        remedy=f"mount -t {kind} {kind} {place}")  # fmt: skip
    if LOCKDOWN.exists() and "[confidentiality]" in LOCKDOWN.read_text():
        yield _told("kernel", "broken", "locked down to confidentiality: no programs are loaded",
                    remedy="Boot with lockdown=integrity.")  # fmt: skip


def _root() -> dict[str, str]:
    if os.geteuid() == 0:
        return _told("kernel", "well", "we are root")
    why = "programs are loaded by root, or by who has CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"
    return _told("kernel", "degraded", "we are not root", why, "sudo ebpfsentinel-agent doctor")


def _btf() -> dict[str, str]:
    release = os.uname().release
    if BTF.exists():
        return _told("kernel", "well", f"Linux {release} has BTF")
    remedy = "Take a kernel with CONFIG_DEBUG_INFO_BTF=y: all distributions' have it since 2021."
    return _told("kernel", "broken", f"Linux {release} has no BTF", f"{BTF} is missing", remedy)


def _told(about: str, state: str, what: str, why: str = "", remedy: str = "") -> dict[str, str]:
    return {"about": about, "state": state, "what": what, "why": why, "remedy": remedy}
