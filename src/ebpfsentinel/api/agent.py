"""What the API needs of the agent: :mod:`ebpfsentinel.flow` has it, tests bring a small one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import msgspec

    from ebpfsentinel.auth import Gatekeeper, TlsFiles
    from ebpfsentinel.config import CoreSettings, Loaded
    from ebpfsentinel.exemptions import Exemptions
    from ebpfsentinel.model.alert import Alert
    from ebpfsentinel.model.domain import Domain, Engine, Metric
    from ebpfsentinel.model.health import Health
    from ebpfsentinel.model.kernel import Kernel
    from ebpfsentinel.model.keys import KeyRecord, NewKey
    from ebpfsentinel.model.missed import Missed
    from ebpfsentinel.sinks import Router
    from ebpfsentinel.store import Store
    from ebpfsentinel.unconfirmed import Change, Waiting


class Subscription(Protocol):
    """Alerts in order; a listener that was too slow is told how many it lost, and where."""

    def __aiter__(self) -> Subscription:
        """Itself."""

    async def __anext__(self) -> Alert | Missed:
        """The next one; may be cancelled without loss."""

    def close(self) -> None:
        """End after what waits already."""

    async def aclose(self) -> None:
        """Listen no more."""


class AlertFeed(Protocol):
    """Alerts as they happen, for any number of listeners."""

    def subscribe(
        self, last_event_id: str | None, takes: Callable[[Alert], bool] | None = None
    ) -> Subscription:
        """Alerts from now on; with the id of the last one seen, those after it first.

        ``takes`` says which of them. The iterator ends when the agent does.
        """


class Agent(Protocol):
    """The running agent."""

    @property
    def settings(self) -> CoreSettings:
        """What is in force."""

    @property
    def loaded(self) -> Loaded:
        """Where it came from, and what to warn of."""

    @property
    def domains(self) -> Mapping[str, Domain]:
        """The cards, by name."""

    @property
    def engines(self) -> Mapping[str, Engine]:
        """Their engines, by the cards' names."""

    @property
    def store(self) -> Store:
        """What survives a restart."""

    @property
    def version(self) -> str:
        """Of the agent."""

    @property
    def started_ns(self) -> int:
        """Since when it runs, wall nanoseconds."""

    @property
    def ready(self) -> bool:
        """Is everything that was asked for attached?"""

    @property
    def not_ready_reason(self) -> str:
        """What is missing; empty when ready."""

    @property
    def kernel(self) -> Kernel:
        """The door to privilege."""

    @property
    def losing(self) -> frozenset[str]:
        """Rings that have lost records within the last second."""

    @property
    def gatekeeper(self) -> Gatekeeper:
        """Who calls, and how often."""

    @property
    def tls(self) -> TlsFiles:
        """The certificates of the listeners."""

    @property
    def alerts(self) -> AlertFeed:
        """The live alerts."""

    @property
    def router(self) -> Router:
        """Where alerts go."""

    @property
    def exemptions(self) -> Exemptions:
        """Alerts that nobody wants to hear of."""

    @property
    def waiting(self) -> Waiting:
        """Changes that wait to be confirmed."""

    async def confirm(self, key: str, actor: str, connected_ns: int) -> Change:
        """Keep a change for good; the connection was accepted at ``connected_ns`` (monotonic).

        Raises:
            UnknownChange, OldConnection: it is not confirmed.
        """

    async def add(
        self, domain: str, collection: str, item: msgspec.Struct, actor: str, confirm: int = 0
    ) -> Change | None:
        """Put ``item`` in force, store and audit it.

        Raises:
            DuplicateItem: its key is taken.
            SettingsError: the engine refuses it.
            KernelError: the kernel does.
        """

    async def remove(
        self, domain: str, collection: str, key: str, actor: str, confirm: int = 0
    ) -> Change | None:
        """Take an item out of force, store and audit that.

        Raises:
            UnknownItem: there is none of this key.
            SystemItem: it cannot be removed here.
            KernelError: the kernel refuses.
        """

    def create_key(self, wanted: NewKey, actor: str) -> tuple[KeyRecord, str]:
        """Make an API key, keep its hash, audit that; the record and the key.

        Raises:
            DuplicateItem: there is a key of this name.
            SettingsError: its end is no time to come.
        """

    def rotate_key(self, key_id: str, grace_seconds: int, actor: str) -> tuple[KeyRecord, str]:
        """Put another in its place; the old one stays good for ``grace_seconds``.

        Raises:
            UnknownItem: there is none.
        """

    def revoke_key(self, key_id: str, actor: str) -> KeyRecord:
        """It is good no more.

        Raises:
            UnknownItem: there is none.
        """

    async def reload(self, actor: str, confirm: int = 0) -> tuple[Mapping[str, str], Change | None]:
        """Read the configuration again; section to ``ok``, ``unchanged`` or a message.

        Raises:
            SettingsError: refused whole, nothing has changed.
        """

    @property
    def missing(self) -> Mapping[str, str]:
        """Domains that are enabled and cannot be had here, and why."""

    @property
    def blind(self) -> str:
        """Why the agent may not see what it should, by its canaries; empty: it sees."""

    def health(self) -> Health:
        """What canaries prove, and what is wrong."""

    def process(self, pid: int, start_ns: int) -> Mapping[str, Any]:
        """All that is known of a process, at least its ``pid`` and ``start_ns``."""

    def refresh(self, domain: str) -> None:
        """Poll the domain's maps, so that its counters are fresh."""

    def metrics(self) -> Sequence[Metric]:
        """Samples of the domains and of the agent's own counters."""
