"""What the host translates by itself: nftables, and iptables of the older kind."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_TRANSLATES = ("masquerade", "snat", "dnat", "redirect")
_XT = ("MASQUERADE", "SNAT", "DNAT", "REDIRECT", "NETMAP", "SNPT", "DNPT")
_SECONDS = 5
_LEGACY = {"iptables-legacy-save": "ip_tables_names", "ip6tables-legacy-save": "ip6_tables_names"}
"""Commands by which the older kind is read, and the file that names its tables."""
_PROC = Path("/proc/thread-self/net")


def survey() -> dict[str, Any]:
    """``rules``: each rule of the host that translates, in words."""
    return {"rules": [*_nftables(), *_iptables()]}


def _nftables() -> Iterator[str]:
    text = _output("nft", "-j", "list", "ruleset")
    try:
        objects = json.loads(text or "{}").get("nftables", [])
    except ValueError:
        return
    yield from nft_rules(objects)


def nft_rules(objects: list[dict[str, Any]]) -> Iterator[str]:
    """Those of ``nft -j list ruleset`` that translate; rules of iptables-nft are among them."""
    for each in objects:
        rule = each.get("rule")
        if rule and (words := list(_words(rule.get("expr", ())))):
            where = f"nftables {rule['family']} {rule['table']} {rule['chain']}"
            yield f"{where}: {', '.join(words)} (handle {rule.get('handle')})"


def _words(expressions: list[Any]) -> Iterator[str]:
    for expression in expressions:
        if not isinstance(expression, dict):
            continue
        yield from (word for word in _TRANSLATES if word in expression)
        xt = expression.get("xt")
        if isinstance(xt, dict) and xt.get("name") in _XT:
            yield str(xt["name"])


def _iptables() -> Iterator[str]:
    """Rules of the older kind, which nft does not see.

    A table that is not there is not asked for: the command would make it, and with it hooks that
    every packet passes from then on.
    """
    for command, tables in _LEGACY.items():
        if "nat" in _lines(_PROC / tables):
            yield from legacy_rules(command, _output(command, "-t", "nat"))


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []


def legacy_rules(command: str, text: str) -> Iterator[str]:
    """Those of ``iptables-save -t nat`` that translate."""
    for line in text.splitlines():
        target = line.partition(" -j ")[2].split(" ")[0]
        if line.startswith("-A ") and target in _XT:
            yield f"{command.removesuffix('-save')}: {line}"


def _output(command: str, *arguments: str) -> str:
    """What the command prints; empty where it is not there or fails."""
    path = shutil.which(command)
    if path is None:
        return ""
    try:
        found = subprocess.run(  # noqa: S603 (fixed words)
            [path, *arguments], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout if not found.returncode else ""
