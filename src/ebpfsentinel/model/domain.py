"""What a security domain is: its card, its engine, and the plan of a change.

A domain is one folder under ``domains/``. Its ``__init__.py`` holds the card, ``DOMAIN``; all the
rest of the agent (config keys, REST, CLI, store, metrics) is generic over cards, so that adding a
domain is adding a folder.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import msgspec
    from numpy.typing import NDArray

    from ebpfsentinel.model.action import Action
    from ebpfsentinel.model.alert import Alert
    from ebpfsentinel.model.conditions import RuleLanguage

    Runtime = Mapping[str, Sequence[msgspec.Struct]]
    """The runtime items of a domain, by collection."""


@dataclass(frozen=True, slots=True)
class Program:
    """What the object cannot say of a program by itself.

    ``order`` is its place in the chain of its hook (lower runs first; a hook's chain shares one
    parse of the packet). ``instead_of`` names the program that this one stands in for when that one
    does not load or attach: a step of a fallback ladder. ``optional`` programs may be missing.
    ``called_from`` is the table (a program array) and the slot from which other programs of the
    domain reach it by tail call: such a program is in no chain. One ``on_call`` is in its chain
    while it is engaged (:class:`~ebpfsentinel.model.action.Engage`).
    """

    name: str
    order: int = 0
    instead_of: str = ""
    optional: bool = False
    called_from: tuple[str, int] | None = None
    on_call: bool = False


class Deed(enum.StrEnum):
    """What the agent does now and then so that hooks see it.

    ``exec``: it executes ``true``. ``socket``: it makes a UDP socket and connects it to its own
    address, which sends nothing.
    """

    EXEC = "exec"
    SOCKET = "socket"


@dataclass(frozen=True, slots=True)
class Canary:
    """A harmless deed, and where it must show, or the domain is blind.

    ``hook`` says in words what is proven. ``ring``: there comes a record with the ``pid`` of the
    process that did it. ``count``: this field of that polled map rises. One of the two is set.
    """

    hook: str
    deed: Deed
    ring: str = ""
    count: tuple[str, str] = ("", "")


@dataclass(frozen=True, slots=True)
class Collection:
    """A list that users add to and remove from while the agent runs, such as firewall rules.

    From it come ``GET/POST /api/v1/<domain>/<name>``, ``DELETE .../{key}``, the CLI verbs
    ``<domain> list|add|delete``, the store that brings runtime items back after a restart, and the
    audit trail. ``item`` is a msgspec Struct (what POST takes); ``key`` its identifying field;
    ``singular`` the word in messages and error codes (``rule`` -> ``RULE_NOT_FOUND``).
    ``columns`` are the CLI table's ``(heading, field)`` pairs.

    Items that ``lapse`` have the fields ``ttl`` (seconds, or text such as ``10m``) and
    ``expires_at`` (RFC 3339): when an item is added, its ``ttl`` becomes an ``expires_at``; when
    that has come, the item is taken out of force and out of the store. The engine's tables must let
    it lapse in the kernel all the same, since the agent may be dead by then.
    """

    name: str
    item: type[msgspec.Struct]
    key: str = "id"
    singular: str = "rule"
    columns: tuple[tuple[str, str], ...] = ()
    lapse: bool = False


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an engine may know of the machine when it plans, handed in as plain values.

    ``interfaces`` maps names to slots 0..63, ``namespaces`` a network namespace to the interfaces
    whose peers are in it; ``files`` holds the bytes of the files that the card's ``files`` asked
    for, by path; ``addresses`` what the names resolve to that its ``hosts`` asked for, without
    those that have not been resolved yet. ``links`` has the index of every interface that is there;
    None: they do not matter, because nothing will be sent. ``own_pid`` is the agent, ``api_ports``
    its listeners. ``cpus`` is the number of possible CPUs. ``now_ns`` is wall time,
    ``boot_offset_ns`` added to a boot-clock time gives wall time, and ``utc_offset_s`` added to
    that gives local time.

    ``provided`` is what the cards of the domains that are on say they provide to others.

    ``netns`` is the inode of the agent's network namespace. ``executables`` are the files that the
    card's ``executables`` asked for, as device (major << 20 | minor) and inode, (0, 0) where there
    is none; ``cgroups`` the ids of the control groups that its ``cgroups`` asked for.

    ``secret`` is random, made for this run: nobody outside can guess what is derived from it.

    ``own_addresses`` are those that packets of this host have, by interface: the primary IPv4 one,
    and the lasting global IPv6 ones. ``surveyed`` is what the card's ``survey`` found last.

    ``anew``: what is in force may not be what was committed last; plan all of it, not only what
    differs.
    """

    interfaces: Mapping[str, int] = field(default_factory=dict)
    links: Mapping[str, int] | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    own_pid: int = 0
    api_ports: tuple[int, ...] = ()
    cpus: int = 1
    boot_offset_ns: int = 0
    namespaces: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    now_ns: int = 0
    utc_offset_s: int = 0
    provided: frozenset[str] = frozenset()
    netns: int = 0
    executables: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    cgroups: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    secret: bytes = b""
    anew: bool = False
    own_addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    surveyed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """A change worked out whole, before anything is touched.

    ``state`` is the engine's business; ``actions`` bring the kernel to it; ``memo`` (JSON-able) is
    kept by the store and handed back to :meth:`Engine.recall` at the next start. ``until_ns`` (wall
    time): plan again by then, because what depends on the time was worked out no further, or
    because a small change left something for a quiet moment. ``memo_more`` is what a small change
    adds to the memo that is kept: keys of mappings within it, with their values.
    ``links``: plan again when one of these interfaces has another index (0: is not there).
    """

    state: Any
    actions: tuple[Action, ...] = ()
    memo: dict[str, Any] | None = None
    until_ns: int | None = None
    links: Mapping[str, int] = field(default_factory=dict)
    memo_more: dict[str, dict[str, Any]] | None = None


class SeenName(NamedTuple):
    """The name by which this host was given an address, and for how long that holds."""

    address: str
    name: str
    ttl_s: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a batch led to; all may be empty.

    ``memo``, of a :meth:`Engine.tick` only, replaces the memo of the last committed plan.
    ``routed``: each alert that goes on also says where the routing tables lead its packet.
    ``wanted`` hash maps are read next and fed, as rows of ``key`` and ``value``.
    ``names`` are put into alerts from then on.
    """

    alerts: Sequence[Alert] = ()
    actions: Sequence[Action] = ()
    memo: dict[str, Any] | None = None
    routed: bool = False
    wanted: Sequence[str] = ()
    names: Sequence[SeenName] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """One Prometheus sample: ``kind`` is ``counter``, ``gauge`` or ``histogram``.

    The name has no prefix and, for counters, no ``_total``. Of a histogram, ``value`` is the sum
    and ``buckets`` are (upper bound, cumulative count) pairs, the last bound being infinity.
    """

    name: str
    kind: str
    help: str
    labels: Mapping[str, str]
    value: float
    buckets: tuple[tuple[float, int], ...] = ()


@runtime_checkable
class CountsSome(Protocol):
    """An engine that knows how much of its polled arrays is in use; no engine has to."""

    def in_use(self, source: str) -> int | None:
        """How many entries of the array, from the first on; None: all."""


class Engine(Protocol):
    """The pure half of a domain: no I/O, no clock, no randomness, no threads.

    What it knows of processes it may tell others: see :mod:`ebpfsentinel.model.processes`.

    A change is made in two steps, so that several domains change together or not at all:
    :meth:`plan` works it out and may refuse (:class:`~ebpfsentinel.model.settings.SettingsError`);
    after the kernel took the plan's actions, :meth:`commit` makes it the state.
    """

    def recall(self, memo: Mapping[str, Any]) -> None:
        """Take back the memo of the last committed plan; called once, before the first plan."""

    def plan(
        self,
        settings: Any,
        runtime: Mapping[str, Sequence[msgspec.Struct]],
        around: Surroundings,
    ) -> Plan:
        """Work out ``settings`` plus the ``runtime`` items of each collection."""

    def commit(self, plan: Plan) -> None:
        """The kernel has taken ``plan``: from now on it is what is in force."""

    def feed(self, source: str, rows: NDArray[Any], now_ns: int) -> Outcome:
        """Judge the rows of a ring, an iterator or a polled map, called ``source``.

        ``now_ns`` is wall time. Must not keep a reference to ``rows``.
        """

    def tick(self, now_ns: int) -> Outcome:
        """Time has passed (called about once a second, or as often as the card's ``pulse_ms``)."""

    def items(self, collection: str) -> Sequence[msgspec.Struct]:
        """All items in force, those of the settings and the system's own included."""

    def has(self, collection: str, key: str) -> bool:
        """Is an item of this key among :meth:`items`? Cheaper than looking through them."""

    def status(self) -> dict[str, Any]:
        """A JSON-able summary; ``rule_count`` where the domain has rules, and ``mode``."""

    def metrics(self) -> Sequence[Metric]:
        """Samples of this moment."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What every engine is made with, so that a domain need not import another station."""

    rules: RuleLanguage


@dataclass(frozen=True, slots=True)
class Domain:
    """The card of a domain: everything the rest of the agent needs to know of it.

    ``name`` is also its settings section and API path. ``object`` is the path of its BPF object
    inside the folder, its maps and rings are found there. ``polled`` maps are summed over CPUs and
    fed to the engine like a ring, about once a second and before a view; ``pulse_ms`` is for a
    domain that must be polled and ticked more often. ``files`` names the files that the settings
    refer to, ``hosts`` the DNS names, which are resolved again when their TTL is over. ``provides``
    names what others may build on while the domain is on, such as ``flows``.
    ``executables`` names files that settings and runtime items mean by where they are;
    ``cgroups`` control groups: a path of the unified hierarchy, with all below it, or a word in the
    name of one, such as the id of a container.
    ``survey`` names a function (``module:attribute``) without arguments that looks at something of
    the machine which only this domain cares for, and gives plain values; asked before each plan.
    ``spares`` says of the settings whom the domain's kills spare: executable paths, a ``*`` at the
    end makes one a prefix; None: it kills nothing, and nobody carries out a kill for it.
    ``techniques`` are pairs of a rule id, or ``*`` for all other rules, and the ATT&CK technique of
    alerts whose engine names none; a user's own are in ``alerting.techniques``.

    ``sealed`` names the maps that programs only read: what they hold was written by the agent, or
    by somebody who should not. ``canaries`` are harmless deeds that the domain's hooks must see.

    ``routes`` and ``commands`` name the functions (``module:attribute``, imported only when used)
    that give extra Litestar handlers and click commands: ``routes(engine, running)`` and
    ``commands(group)``, with
    :class:`~ebpfsentinel.model.access.Running` and, for the verbs,
    :class:`~ebpfsentinel.model.access.Desk`.
    """

    name: str
    summary: str
    settings: type[msgspec.Struct]
    engine: Callable[[Tools], Engine]
    object: str = ""
    programs: tuple[Program, ...] = ()
    polled: tuple[str, ...] = ()
    pulse_ms: int = 1000
    collections: tuple[Collection, ...] = ()
    files: Callable[[Any], Sequence[str]] = lambda _settings: ()
    hosts: Callable[[Any], Sequence[str]] = lambda _settings: ()
    executables: Callable[[Any, Runtime], Sequence[str]] = lambda _settings, _runtime: ()
    cgroups: Callable[[Any, Runtime], Sequence[str]] = lambda _settings, _runtime: ()
    survey: str = ""
    spares: Callable[[Any], Sequence[str] | None] = lambda _settings: None
    provides: tuple[str, ...] = ()
    techniques: tuple[tuple[str, str], ...] = ()
    sealed: tuple[str, ...] = ()
    canaries: tuple[Canary, ...] = ()
    routes: str = ""
    commands: str = ""
