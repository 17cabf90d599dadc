"""nftables: the objects of ``nft -j list ruleset`` (libnftables-json(5)) to chains of rules."""

from __future__ import annotations

import ipaddress
import json
from typing import TYPE_CHECKING, Any

from ebpfsentinel.domains.firewall.imports.foreign import (
    FLAGS,
    Foreign,
    ForeignChain,
    ForeignRule,
    ImportedError,
    Wants,
    flags_of,
    networks_between,
    networks_without,
    ranges_without,
    states_of,
)
from ebpfsentinel.domains.firewall.imports.nft_text import objects_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebpfsentinel.domains.firewall.imports.foreign import Network, Range

_FAMILIES = {"ip": {4}, "ip6": {6}, "inet": {4, 6}, "netdev": {4, 6}}
_PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "ipv6-icmp": 58, "sctp": 132}
_WITH_PORTS = {"tcp": 6, "udp": 17}
_PORTS = {"sport": "src_port", "dport": "dst_port"}
_SIDES = {"saddr": "src", "daddr": "dst"}
_ICMP = {
    "echo-reply": 0,
    "destination-unreachable": 3,
    "redirect": 5,
    "echo-request": 8,
    "time-exceeded": 11,
    "parameter-problem": 12,
    "timestamp-request": 13,
    "timestamp-reply": 14,
}
_ICMPV6 = {
    "destination-unreachable": 1,
    "packet-too-big": 2,
    "time-exceeded": 3,
    "parameter-problem": 4,
    "echo-request": 128,
    "echo-reply": 129,
    "mld-listener-query": 130,
    "mld-listener-report": 131,
    "nd-router-solicit": 133,
    "nd-router-advert": 134,
    "nd-neighbor-solicit": 135,
    "nd-neighbor-advert": 136,
    "nd-redirect": 137,
}
_DSCP = {"cs0": 0, "be": 0, "lephb": 1, "ef": 46, "va": 44}
_DSCP |= {f"cs{number}": 8 * number for number in range(1, 8)}
_DSCP |= {f"af{row}{drop}": 8 * row + 2 * drop for row in range(1, 5) for drop in range(1, 4)}
_VERDICTS = ("accept", "drop", "reject", "return", "jump", "goto")


class _NotUnderstoodError(Exception):
    """A condition that has no counterpart; the text says which."""


def read_nft(text: str) -> Foreign:
    """Understand a rule set: text, or JSON (``line`` is then the number of the object).

    Raises:
        ImportedError: it is none.
    """
    found = list(_json(text) if text.lstrip().startswith("{") else objects_of(text))
    foreign, sets = Foreign(), _sets(found)
    for line, each in found:
        if "chain" in each:
            _chain(foreign, line, each["chain"])
    for line, each in found:
        if "rule" in each:
            _rule(foreign, line, each["rule"], sets)
    return foreign


def _json(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        objects = json.loads(text)["nftables"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ImportedError(
            "the JSON", "is no rule set", "Give what 'nft -j list ruleset' prints."
        ) from None
    if not isinstance(objects, list):
        raise ImportedError("nftables", "is no list", "Give what 'nft -j list ruleset' prints.")
    for number, each in enumerate(objects, 1):
        body = next(iter(each.values()), None) if isinstance(each, dict) else None
        if not isinstance(body, dict):
            raise ImportedError(f"object {number}", "is no object of nftables", "Give all of it.")
        yield number, each


def _sets(found: list[tuple[int, dict[str, Any]]]) -> dict[tuple[str, str, str], list[Any]]:
    """Elements of named sets and maps, by family, table and name."""
    sets = {}
    for _, each in found:
        about = each.get("set") or each.get("map")
        if about:
            key = (str(about.get("family")), str(about.get("table")), str(about.get("name")))
            dynamic = "dynamic" in str(about.get("flags", "")) or "timeout" in about
            sets[key] = [{"unknown": "elements that come and go"}] if dynamic else _elements(about)
    return sets


def _elements(about: dict[str, Any]) -> list[Any]:
    elements = about.get("elem", [])
    return elements if isinstance(elements, list) else [{"unknown": str(elements)}]


def _chain(foreign: Foreign, line: int, about: dict[str, Any]) -> None:
    family = str(about.get("family"))
    if family not in _FAMILIES:
        rule = ForeignRule(line, f"chain {about.get('name')}", missing=[f"is of family {family}"])
        foreign.aside.append(rule)
        return
    filters = about.get("type") == "filter"
    chain = ForeignChain(
        f"{family} {about.get('table')}",
        str(about.get("name")),
        line,
        frozenset(_FAMILIES[family]),
        str(about.get("hook", "")) if filters else "",
        str(about.get("policy", "accept")),
    )
    if about.get("hook") and not filters:
        missing = [f"is of type {about.get('type')}, which does not filter"]
        foreign.aside.append(ForeignRule(line, f"chain {chain.name}", missing=missing))
    foreign.chains.append(chain)


def _rule(
    foreign: Foreign, line: int, about: dict[str, Any], sets: dict[tuple[str, str, str], list[Any]]
) -> None:
    family, table = str(about.get("family")), str(about.get("table"))
    chain = foreign.chain(f"{family} {table}", str(about.get("chain")))
    if chain is None:
        return  # of a chain that is aside already
    text = about.get("text") or json.dumps(about.get("expr"))
    rule = ForeignRule(line, str(text), comment=str(about.get("comment", "")))
    made = [rule]
    expressions = about.get("expr")
    for each in expressions if isinstance(expressions, list) else [{"unknown": "no expressions"}]:
        try:
            _expression(rule, made, each, lambda name: sets[family, table, name])
        except _NotUnderstoodError as error:
            rule.missing.append(str(error))
        except (KeyError, TypeError, ValueError, IndexError, AttributeError):
            rule.missing.append(f"{json.dumps(each)[:200]} is not understood")
    if len(made) > 1:  # a verdict map: a rule for each of its elements, with all its conditions
        for part in made[1:]:
            part.want(rule.wants)
            part.missing, part.comment = list(rule.missing), rule.comment
        made = made[1:] if not rule.verdict else made
    chain.rules += made


def _expression(rule: ForeignRule, made: list[ForeignRule], each: Any, named: Any) -> None:
    """One statement or condition."""
    kind = next(iter(each)) if isinstance(each, dict) and each else "what is no statement"
    if kind == "match":
        rule.want(_condition(each["match"], named))
    elif kind in _VERDICTS:
        rule.verdict = kind
        rule.target = each[kind]["target"] if kind in ("jump", "goto") else ""
    elif kind == "vmap":
        for key, verdict in _elements_of(each["vmap"]["data"], named):
            part = ForeignRule(rule.line, rule.text)
            match = {"op": "==", "left": each["vmap"]["key"], "right": key}
            part.want(_condition(match, named))
            _expression(part, [], verdict, named)
            made.append(part)
    elif kind == "log":
        rule.logs = True
    elif kind not in ("counter", "continue", "comment"):
        raise _NotUnderstoodError(f"{_told(each, kind)} has no counterpart")


def _told(each: Any, kind: str) -> str:
    return str(each["unknown"]) if kind == "unknown" else kind


def _elements_of(value: Any, named: Any) -> list[Any]:
    """The alternatives that a value stands for."""
    if isinstance(value, str) and value.startswith("@"):
        found = named(value[1:])
    else:
        found = value["set"] if isinstance(value, dict) and "set" in value else [value]
    plain = [each["elem"]["val"] if _is_plain_element(each) else each for each in found]
    for each in plain:
        if isinstance(each, dict) and ("unknown" in each or "elem" in each or "concat" in each):
            raise _NotUnderstoodError(f"the element {json.dumps(each)[:80]} has no counterpart")
    return plain


def _is_plain_element(each: Any) -> bool:
    """An element with a comment or a counter, but no end."""
    return isinstance(each, dict) and set(each.get("elem", {})) in (
        {"val", "comment"},
        {"val", "counter"},
        {"val"},
    )


def _condition(match: dict[str, Any], named: Any) -> Wants:
    left = match["left"]
    if "ct" in left:
        return _connection(left["ct"]["key"], match["op"], _elements_of(match["right"], named))
    if (exact := _exact(match, left)) is not None:
        return exact
    if match["op"] not in ("==", "!="):
        raise _NotUnderstoodError(f"the operator {match['op']} has no counterpart")
    negated = match["op"] == "!="
    values = _elements_of(match["right"], named)
    if "meta" in left:
        return _meta(left["meta"]["key"], values, negated=negated)
    if "payload" not in left:
        raise _NotUnderstoodError(f"{json.dumps(left)[:80]} has no counterpart")
    header, field = left["payload"]["protocol"], left["payload"]["field"]
    if header in ("ip", "ip6") and field in _SIDES:
        version = 4 if header == "ip" else 6
        found = tuple(network for each in values for network in _networks(each, version))
        made = networks_without(found, version) if negated else found
        return Wants(families=frozenset({version}), **{_SIDES[field]: made})  # type: ignore[arg-type]
    return _header(header, field, values, negated=negated)


def _connection(key: str, operator: str, values: list[Any]) -> Wants:
    words = values[0] if len(values) == 1 and isinstance(values[0], list) else values
    wants = states_of(words) if key == "state" and operator in ("in", "==") else None
    if wants is None:
        raise _NotUnderstoodError(f"ct {key} {json.dumps(values)[:80]} has no counterpart")
    return wants


def _exact(match: dict[str, Any], left: dict[str, Any]) -> Wants | None:
    """Conditions that one field of ours says as they are; None: it is none of these."""
    masked = left.get("&", [left, None])
    payload = masked[0].get("payload", {}) if isinstance(masked[0], dict) else {}
    kind = (payload.get("protocol"), payload.get("field"))
    operator, right = match["op"], match["right"]
    if kind == ("tcp", "flags"):
        return _flags(operator, right, masked[1])
    if kind == ("ip", "frag-off") and (operator, right) == ("!=", 0) and _one(masked[1]) == 0x1FFF:
        return Wants(families=frozenset({4}), exact=(("fragment", "later"),))
    if "&" in left:
        raise _NotUnderstoodError(f"{json.dumps(left)[:80]} has no counterpart")
    if kind == ("ether", "saddr") and operator == "==" and isinstance(right, str):
        return Wants(exact=(("src_mac", right.lower()),))
    if kind in (("ip", "dscp"), ("ip6", "dscp")) and operator == "==":
        number = _number(right, _DSCP)
        return Wants(
            families=frozenset({4 if kind[0] == "ip" else 6}), exact=(("dscp_match", number),)
        )
    return None


def _one(value: Any) -> Any:
    """The only one of a list, or the value."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _flags(operator: str, right: Any, mask: Any) -> Wants:
    """``syn / syn,ack``, all of them (``== syn``), or one bit (``syn`` without an operator)."""
    wanted = right if isinstance(right, list) else [right]
    looked_at = mask if isinstance(mask, list) else [mask]
    if operator == "==":
        return flags_of(wanted, looked_at if mask is not None else FLAGS)
    if operator == "in" and len(wanted) == 1 and mask is None:
        return flags_of(wanted, wanted)
    raise _NotUnderstoodError(f"tcp flags with {operator} has no counterpart")


def _header(header: str, field: str, values: list[Any], *, negated: bool) -> Wants:
    """A field of a transport header, or the protocol."""
    if field in _PORTS and header in (*_WITH_PORTS, "th"):
        made: dict[str, Any] = {_PORTS[field]: _ranges(values, {}, 0xFFFF, negated=negated)}
        if header in _WITH_PORTS:
            made["protocol"] = ((_WITH_PORTS[header],) * 2,)
        return Wants(**made)
    if header in ("icmp", "icmpv6") and field == "type":
        number, names = (1, _ICMP) if header == "icmp" else (58, _ICMPV6)
        return Wants(
            families=frozenset({4 if number == 1 else 6}),
            protocol=((number, number),),
            icmp_type=_ranges(values, names, 255, negated=negated),
        )
    if (header, field) == ("ip", "protocol"):
        protocols = _ranges(values, _PROTOCOLS, 255, negated=negated)
        return Wants(families=frozenset({4}), protocol=protocols)
    if (header, field) == ("vlan", "id"):
        return Wants(vlan_id=_ranges(values, {}, 4095, negated=negated))
    raise _NotUnderstoodError(f"{header} {field} has no counterpart")


def _meta(key: str, values: list[Any], *, negated: bool) -> Wants:
    if key in ("iif", "iifname") and not negated and len(values) == 1:
        name = str(values[0])
        if not name.endswith("*"):
            return Wants(interface=name)
    if key == "l4proto":
        return Wants(protocol=_ranges(values, _PROTOCOLS, 255, negated=negated))
    if key in ("nfproto", "protocol") and not negated:
        known = {"ipv4": 4, "ip": 4, "ipv6": 6, "ip6": 6}
        return Wants(families=frozenset(known[each] for each in values))
    raise _NotUnderstoodError(f"meta {key}{' !=' if negated else ''} has no counterpart")


def _ranges(
    values: list[Any], names: dict[str, int], most: int, *, negated: bool
) -> tuple[Range, ...]:
    found = tuple(_range(each, names) for each in values)
    if any(not 0 <= low <= high <= most for low, high in found):
        raise ValueError(values)
    return ranges_without(found, most) if negated else found


def _range(value: Any, names: dict[str, int]) -> Range:
    if isinstance(value, dict):
        low, high = value["range"]
        return _number(low, names), _number(high, names)
    return (_number(value, names),) * 2


def _number(value: Any, names: dict[str, int]) -> int:
    return value if type(value) is int else names[value]


def _networks(value: Any, version: int) -> list[Network]:
    kind = ipaddress.IPv4Network if version == 4 else ipaddress.IPv6Network
    if isinstance(value, str):
        return [kind(value)]
    if "prefix" in value:
        return [kind(f"{value['prefix']['addr']}/{value['prefix']['len']}")]
    low, high = (kind(each).network_address for each in value["range"])
    return list(networks_between(int(low), int(high), version))
