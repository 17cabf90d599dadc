"""Where rules come from: the system's own, the configuration's, those added while running."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebpfsentinel.domains.firewall.settings import (
    AntiLockout,
    FirewallRule,
    FirewallSettings,
    Protocol,
    RuleAction,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import msgspec

    from ebpfsentinel.model.domain import Surroundings


def sources(
    settings: FirewallSettings, runtime: Sequence[msgspec.Struct], around: Surroundings
) -> Iterator[tuple[FirewallRule, str, str]]:
    """Every rule with its place and origin: the system's, the configuration's, the API's."""
    for rule in _anti_lockout(settings.anti_lockout, around.api_ports):
        yield rule, "firewall.anti_lockout", "system"
    for index, rule in enumerate(settings.rules):
        yield rule, f"firewall.rules[{index}]", "config"
    yield from added(runtime)


def added(runtime: Sequence[msgspec.Struct]) -> Iterator[tuple[FirewallRule, str, str]]:
    """The API's rules, as :func:`sources` has them."""
    for item in runtime:
        assert isinstance(item, FirewallRule)  # noqa: S101 (the collection's item type)
        yield item, f"rule {item.id}", "runtime"


def _anti_lockout(wanted: AntiLockout, api_ports: Sequence[int]) -> Iterator[FirewallRule]:
    if not wanted.enabled:
        return
    ports = dict.fromkeys([*wanted.ports, *filter(None, api_ports)])
    for interface in wanted.interfaces or ["global"]:
        for port in ports:
            middle = "" if interface == "global" else f"{interface.replace('.', '_')}-"
            yield FirewallRule(
                id=f"anti-lockout-{middle}{port}",
                priority=1,
                action=RuleAction.ALLOW,
                protocol=Protocol.TCP,
                dst_port=port,
                scope=interface,
            )
