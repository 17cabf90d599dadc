"""What a card's own routes and verbs may reach: contracts, kept by the API and the command line.

A domain imports no other station. Its ``api.py`` is handed a :class:`Running`, the verbs of its
``cli.py`` get a :class:`Desk` with ``@click.pass_obj``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ebpfsentinel.model.floor import Floor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import msgspec

    from ebpfsentinel.model.alert import Alert
    from ebpfsentinel.model.domain import Domain, Engine
    from ebpfsentinel.model.kernel import Frames, Kernel


class Running(Protocol):
    """The running agent, as far as a card's routes may use it."""

    @property
    def kernel(self) -> Kernel:
        """The door to privilege."""

    def refresh(self) -> None:
        """Poll the domain's maps, so that its counters are fresh."""

    def alert(self, alert_id: str) -> Alert | None:
        """A stored alert."""

    def audit(self, action: str, detail: str) -> None:
        """Write down that the domain did something for a user."""

    def process(self, pid: int, start_ns: int) -> Mapping[str, Any]:
        """All that is known of a process, whichever domain knows it; at least these two."""


@dataclass(frozen=True, slots=True)
class Configured:
    """A domain's section of a configuration, and what else of it a rule set depends on.

    ``provided`` is as in :class:`~ebpfsentinel.model.domain.Surroundings`.
    """

    section: Any
    interfaces: Sequence[str]
    api_ports: tuple[int, ...]
    provided: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Attempt:
    """A rule set to try: settings of a domain, runtime items, and the interfaces there are.

    ``known`` has fields of
    :class:`~ebpfsentinel.model.domain.Surroundings` that the running agent found out, ``floor`` is
    its never-block floor. Domains that provide what is ``provided`` among these are there, too.
    """

    settings: Any
    runtime: Mapping[str, Sequence[msgspec.Struct]]
    interfaces: Sequence[str]
    known: Mapping[str, Any] = field(default_factory=dict)
    floor: Floor = field(default_factory=Floor)


class Trial(Protocol):
    """A rule set in a kernel of its own: unattached, unpinned, unseen by the running agent."""

    @property
    def kernel(self) -> Kernel:
        """Where it is loaded."""

    @property
    def engine(self) -> Engine:
        """Its engine, with the rule set committed."""

    def come_in_on(self, interface: str) -> None:
        """Let frames come in there from now on; empty, or not among the attempt's: nowhere."""


class Piece(Protocol):
    """Some frames of a capture file; reading has come to byte ``at`` of ``size``."""

    @property
    def frames(self) -> Frames:
        """The frames, in order."""

    @property
    def at(self) -> int:
        """Bytes read."""

    @property
    def size(self) -> int:
        """Bytes there are."""

    @property
    def cut(self) -> int:
        """Frames of which the file holds only the beginning."""


class Desk(Protocol):
    """One run of the command line. Everything raises a ``click.ClickException`` with the remedy."""

    @property
    def json(self) -> bool:
        """Was JSON asked for?"""

    def get(self, path: str, **query: Any) -> Any:
        """The body of an API path of the running agent."""

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: str | None = None,
    ) -> Any:
        """The body of the answer, decoded where it is JSON; None where it has none."""

    def follow(self, path: str, **query: Any) -> AbstractContextManager[Iterator[Any]]:
        """What a live stream of the agent tells, decoded, as it comes; Ctrl-C ends the run."""

    def show(self, body: Any, as_text: Callable[[Any], str]) -> None:
        """Print the body: as JSON where that was asked for, else what ``as_text`` makes of it."""

    def table(
        self, headings: Sequence[str], rows: Sequence[Sequence[Any]], whole: Sequence[str] = ()
    ) -> str:
        """Rows under headings, within the terminal's width; ``whole`` columns are never cut."""

    def get_if_running(self, path: str) -> Any:
        """As :meth:`get`; None where no agent answers."""

    def settings(self, domain: Domain, file: Path | None) -> Configured:
        """What a configuration file says of the domain.

        None is the file that ``--config`` names, or that of the usual place.
        """

    def understood(self, tree: Any, kind: type[Any]) -> Any:
        """A decoded body as the type, checked as a configuration is."""

    def trial(self, domain: Domain, attempt: Attempt) -> AbstractContextManager[Trial]:
        """Put a rule set in force in a kernel of its own."""

    def capture(self, file: Path) -> Iterator[Piece]:
        """The frames of a capture file."""
