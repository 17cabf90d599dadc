"""The firewall's own verbs: what explains a verdict, and what tries rules before they are used."""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ebpfsentinel.domains.firewall.replay import Judge
    from ebpfsentinel.domains.firewall.rulesets import RuleSource
    from ebpfsentinel.model.access import Desk

_PATIENCE_S = 2.0
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def commands(_: click.Group) -> Sequence[click.Command]:
    """The verbs, for the card."""
    return [why, would, shadowed, unused, replay, plan, import_rules]


def rules_in_force(desk: Desk) -> RuleSource:
    """Those of the running agent; where none answers, those of the configuration."""
    from ebpfsentinel.domains.firewall import DOMAIN  # noqa: PLC0415 - the card names us
    from ebpfsentinel.domains.firewall.rulesets import InForce, RuleSource  # noqa: PLC0415

    body = desk.get_if_running("/api/v1/firewall/ruleset")
    if body is None:
        file = desk.settings(DOMAIN, None)
        known = {"api_ports": file.api_ports, "provided": file.provided}
        where = "the configuration (no agent answers)"
        return RuleSource(file.section, (), file.interfaces, where, known)
    found = desk.understood(body, InForce)
    names = ("addresses", "namespaces", "api_ports")
    known = {name: getattr(found, name) for name in names}
    known["provided"] = frozenset(found.provided)
    where, floor = "the running agent", found.spared.floor()
    return RuleSource(found.settings, found.runtime, found.interfaces, where, known, floor)


def candidate(desk: Desk, file: Path, now: RuleSource) -> RuleSource:
    """The rules that ``file`` would put in force: rules added at run time stay."""
    from ebpfsentinel.domains.firewall import DOMAIN  # noqa: PLC0415 - the card names us
    from ebpfsentinel.domains.firewall.rulesets import RuleSource  # noqa: PLC0415

    found = desk.settings(DOMAIN, file)
    there = list(dict.fromkeys([*found.interfaces, *now.interfaces]))
    known = {**now.known, "provided": found.provided}
    return RuleSource(found.section, now.runtime, there, str(file), known, now.floor)


@contextmanager
def judges(desk: Desk, sources: Sequence[RuleSource], incoming: str) -> Iterator[list[Judge]]:
    """A judge for each rule set, each in a kernel of its own."""
    from contextlib import ExitStack  # noqa: PLC0415 - only here

    from ebpfsentinel.domains.firewall import DOMAIN  # noqa: PLC0415 - the card names us
    from ebpfsentinel.domains.firewall.replay import judge_of  # noqa: PLC0415 - numpy

    with ExitStack() as stack:
        attempts = [each.attempt(incoming) for each in sources]
        trials = [stack.enter_context(desk.trial(DOMAIN, each)) for each in attempts]
        made = [judge_of(trial) for trial in trials]
        for judge in made:
            judge.come_in_on(incoming)
        yield made


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, once it takes more than two seconds."""
    from rich.progress import Progress  # noqa: PLC0415 - 60 ms

    began = time.monotonic()
    with Progress(disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task(what, visible=False)

        def moved(at: int, size: int) -> None:
            visible = time.monotonic() - began > _PATIENCE_S
            bar.update(task, completed=at, total=size, visible=visible)

        yield moved


@click.command("why")
@click.argument("asked", nargs=-1, required=True, metavar="PACKET|ALERT")
@click.pass_obj
def why(desk: Desk, asked: tuple[str, ...]) -> None:
    """Which rule decides on a packet, and what would follow without it.

    PACKET is one line, such as 'tcp 10.0.0.1:4242 -> 10.0.0.2:22'; ALERT the id of an alert.
    """
    from ebpfsentinel.domains.firewall import views  # noqa: PLC0415

    body = desk.get("/api/v1/firewall/why", asked=" ".join(asked))
    desk.show(body, lambda shown: views.explained(shown, desk))


@click.command("would")
@click.argument("packet", nargs=-1, required=True)
@click.pass_obj
def would(desk: Desk, packet: tuple[str, ...]) -> None:
    """What would become of a packet, by the programs of the running agent.

    PACKET is one line, such as 'tcp 10.0.0.1:4242 -> 10.0.0.2:22 syn vlan 7 on eth0'. Behind the
    destination, in any order: TCP flags (syn ack fin rst psh urg ece cwr), vlan N, inner N, type N,
    code N, dscp N, fragment first|later, from MAC, to MAC, on INTERFACE. It is asked, not sent: it
    is in no counter and raises no event.
    """
    from ebpfsentinel.domains.firewall import views  # noqa: PLC0415

    body = desk.get("/api/v1/firewall/would", packet=" ".join(packet))
    desk.show(body, lambda shown: views.explained(shown, desk))


@click.command("shadowed")
@click.pass_obj
def shadowed(desk: Desk) -> None:
    """Rules that can never match, and the earlier rules that take what they would."""
    from ebpfsentinel.domains.firewall import views  # noqa: PLC0415

    body = desk.get("/api/v1/firewall/shadowed")
    desk.show(body, lambda shown: views.shadowed_text(shown, desk))


@click.command("unused")
@click.option("--days", type=click.FloatRange(0), default=30, show_default=True)
@click.pass_obj
def unused(desk: Desk, days: float) -> None:
    """Rules that were not hit for so many days."""
    from ebpfsentinel.domains.firewall import views  # noqa: PLC0415

    body = desk.get("/api/v1/firewall/unused", days=days)
    desk.show(body, lambda shown: views.unused_text(shown, desk))


@click.command("replay")
@click.argument("file", type=_FILE)
@click.option("--rules", type=_FILE, help="A configuration to compare with what is in force.")
@click.option("--interface", default="", help="Where the frames come in, for rules with a scope.")
@click.option(
    "--most", default=20, show_default=True, help="Differing frames to list; JSON lists as many."
)
@click.pass_obj
def replay(desk: Desk, file: Path, rules: Path | None, interface: str, most: int) -> None:
    """Send every frame of a capture through the programs; nothing real is touched.

    FILE is pcap or pcapng, Ethernet. With --rules, also through those of a configuration file, and
    what differs is listed. Needs root, and no running agent.
    """
    from ebpfsentinel.domains.firewall import replay as trying  # noqa: PLC0415 - numpy
    from ebpfsentinel.domains.firewall import views  # noqa: PLC0415

    now = rules_in_force(desk)
    sources = [now, *([candidate(desk, rules, now)] if rules else [])]
    with judges(desk, sources, interface) as made, progress(f"replaying {file.name}") as moved:
        began = time.monotonic()
        found = trying.replay(desk.capture(file), made, most, moved)
        took = time.monotonic() - began
        body = views.replayed(sources, made, found)
    body |= {"file": str(file), "interface": interface or None, "seconds": round(took, 3)}
    desk.show(body, lambda shown: views.replay_text(shown, desk))


@click.command("plan")
@click.argument("file", type=_FILE)
@click.option("--most", default=20, show_default=True, help="Packets with another verdict to list.")
@click.pass_obj
def plan(desk: Desk, file: Path, most: int) -> None:
    """What a reload with that configuration would change; nothing is changed.

    Rules, mode and policy; and which of the headers that the running agent has sampled lately would
    be judged otherwise. Needs root.
    """
    from ebpfsentinel.domains.firewall import planning, views  # noqa: PLC0415

    now = rules_in_force(desk)
    then = candidate(desk, file, now)
    seen = desk.get_if_running("/api/v1/firewall/samples") or {"sample_every": 0, "samples": []}
    samples = seen["samples"]
    with judges(desk, [now, then], "") as made:
        difference = planning.judge_samples(samples, (made[0], made[1]), most)
    body = {
        "in_force": now.head(),
        "candidate": then.head(),
        "changes": planning.changes(now, then),
        "sample_every": seen["sample_every"],
        "samples": len(samples),
        "from_ns": samples[0]["timestamp_ns"] if samples else None,
        "to_ns": samples[-1]["timestamp_ns"] if samples else None,
        "difference": views.differing(difference),
    }
    desk.show(body, lambda shown: views.planned(shown, desk))


@click.command("import")
@click.argument("file", type=click.File(encoding="utf-8", errors="replace"))
@click.option(
    "--from",
    "language",
    type=click.Choice(["nftables", "iptables-save", "ip6tables-save"]),
    required=True,
    help="What printed it: nft list ruleset (-j too), iptables-save, ip6tables-save.",
)
@click.option("--hook", default="input", show_default=True, help="The hook whose chains to take.")
@click.option("-o", "--output", type=click.Choice(["table", "json", "yaml"]), help="What to print.")
@click.pass_obj
def import_rules(desk: Desk, file: IO[str], language: str, hook: str, output: str | None) -> None:
    """Rules of nftables or iptables as ours, and a list of what cannot be carried over.

    With -o yaml a section for the configuration, and the list on stderr. Nothing is put in force.
    """
    from ebpfsentinel.domains.firewall.imports import carry, iptables, nft, show  # noqa: PLC0415
    from ebpfsentinel.domains.firewall.imports.foreign import ImportedError  # noqa: PLC0415

    text = file.read()
    try:
        if language == "nftables":
            foreign = nft.read_nft(text)
        else:
            foreign = iptables.read_iptables(text, 6 if language == "ip6tables-save" else 4)
    except ImportedError as error:
        raise click.ClickException(f"{file.name}: {error}") from None
    body = carry.carry(foreign, hook).body()
    if output == "yaml":
        click.echo(show.yaml_of(body))
        click.echo(show.report(body, desk), err=True)
    elif output == "json" or (output is None and desk.json):
        click.echo(json.dumps(body, indent=2))
    else:
        click.echo(show.text_of(body, desk))
