"""The verbs about the agent as a whole."""

from __future__ import annotations

from typing import Any

import click

import ebpfsentinel
from ebpfsentinel.cli import tables
from ebpfsentinel.cli.session import REFUSED, Failure, Session, path


@click.command("version")
@click.pass_obj
def version(session: Session) -> None:
    """The version of this program."""
    body = {"version": ebpfsentinel.__version__}
    session.show(body, lambda body: f"ebpfsentinel-agent {body['version']}")


@click.command("status")
@click.pass_obj
def status(session: Session) -> None:
    """What the agent is doing."""
    session.show(session.get(path("agent", "status")), _status_text)


def _status_text(body: dict[str, Any]) -> str:
    """The modes, asked and in effect, are a table at the end."""
    rest = {name: value for name, value in body.items() if name != "modes"}
    rows = [
        (
            "" if mode["as_asked"] else "!",
            mode["what"],
            mode["asked"],
            mode["effective"],
            mode["why"],
        )
        for mode in body.get("modes", ())
    ]
    heads = ("", "What", "Asked", "In effect", "Why")
    return f"{tables.pairs(rest)}\n\n{tables.table(heads, rows)}"


@click.command("health")
@click.pass_context
def health(ctx: click.Context) -> None:
    """Is the agent alive and ready? Exit code 1 where it is not."""
    session: Session = ctx.obj
    live, ready = session.ask("GET", "/healthz"), session.ask("GET", "/readyz")
    body = {
        "live": live.status_code == 200,
        "ready": ready.status_code == 200,
        "healthz": _json(live),
        "readyz": _json(ready),
    }
    session.show(body, _health_text)
    ctx.exit(0 if body["live"] and body["ready"] else REFUSED)


def _json(answer: Any) -> Any:
    try:
        return answer.json()
    except ValueError:
        return answer.text[:200]


def _health_text(body: dict[str, Any]) -> str:
    shown = {"live": body["live"], "ready": body["ready"]}
    told = body["readyz"] if isinstance(body["readyz"], dict) else {"answer": body["readyz"]}
    return tables.pairs(shown | {key: value for key, value in told.items() if key != "status"})


@click.command("metrics")
@click.pass_obj
def metrics(session: Session) -> None:
    """The agent's metrics, as Prometheus reads them."""
    click.echo(session.get("/metrics"), nl=False)


@click.group("ebpf")
def ebpf() -> None:
    """The kernel half."""


@ebpf.command("status")
@click.pass_obj
def ebpf_status(session: Session) -> None:
    """Programs, interfaces, rings and what they lost."""
    session.show(session.get(path("ebpf", "status")), _ebpf_text)


def _ebpf_text(body: dict[str, Any]) -> str:
    parts = [_programs(body.get("programs", []))]
    if found := body.get("interfaces"):
        rows = [[each.get(name) for name in ("interface", "how", "reason")] for each in found]
        parts.append(tables.table(["INTERFACE", "HOW", "REASON"], rows))
    if found := body.get("ledgers"):
        rows = [
            [each.get(name) for name in ("ring", "seen", "sent", "delivered")]
            + [sum(each.get("lost", {}).values())]
            for each in found
        ]
        parts.append(tables.table(["RING", "SEEN", "SENT", "DELIVERED", "LOST"], rows))
    if failures := body.get("failures"):
        parts.append(tables.table(["FAILED HELPER", "TIMES"], list(failures.items())))
    return "\n\n".join(parts)


def _programs(programs: list[dict[str, Any]]) -> str:
    if not programs:
        return "No programs loaded."
    rows = [
        [each.get(name) for name in ("name", "domain", "hook", "loaded", "attached")]
        + [_ns_per_run(each), each.get("reason")]
        for each in programs
    ]
    headings = ["PROGRAM", "DOMAIN", "HOOK", "LOADED", "ATTACHED", "NS/RUN", "REASON"]
    return f"{tables.table(headings, rows)}\n{tables.total(len(programs), 'program')}"


def _ns_per_run(program: dict[str, Any]) -> int | None:
    runs = program.get("run_count") or 0
    return round(program.get("run_ns", 0) / runs) if runs else None


@click.command("detach")
@click.option("--all", "everything", is_flag=True, help="All that this agent left in the kernel.")
@click.pass_obj
def detach(session: Session, everything: bool) -> None:
    """Remove what an ended agent kept in the kernel (agent.on_exit: keep)."""
    if not everything:
        raise click.UsageError("Say --all: enforcement that was kept in the kernel ends with it.")
    from ebpfsentinel.kernel.pins import detach_all  # noqa: PLC0415 - only here
    from ebpfsentinel.model.kernel import KernelError  # noqa: PLC0415

    try:
        removed = list(detach_all())
    except (OSError, KernelError) as error:
        raise Failure(f"Cannot detach: {error}. It needs root.") from None
    session.show({"removed": removed}, lambda _: _removed_text(removed))


def _removed_text(removed: list[str]) -> str:
    if not removed:
        return "Nothing was kept in the kernel."
    return "\n".join([*map(tables.printable, removed), tables.total(len(removed), "pin")])
