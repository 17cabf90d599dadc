"""Changes, all or nothing: settings and runtime items become plans, plans become what is in force.

Every engine concerned works out its plan first; only when none refuses is anything touched. Should
the kernel refuse a plan half way, the domains that had already changed are planned back to what was
in force, so that a failed reload leaves no mixture behind.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.config import convert
from ebpfsentinel.kernel.owners import cgroups
from ebpfsentinel.model.kernel import KernelError
from ebpfsentinel.model.refusal import DuplicateItem, SystemItem, UnknownItem
from ebpfsentinel.model.settings import (
    SettingsError,
    moment_text,
    parse_duration,
    parse_moment,
)
from ebpfsentinel.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ebpfsentinel.config import CoreSettings
    from ebpfsentinel.model.domain import Domain, Engine, Plan, Surroundings
    from ebpfsentinel.model.kernel import Kernel
    from ebpfsentinel.store import Store

logger = logging.getLogger(__name__)

Runtime = dict[str, list[msgspec.Struct]]


def is_enabled(section: Any) -> bool:
    """A domain is on unless its section says ``enabled: false``."""
    return bool(getattr(section, "enabled", True))


def _started(item: Any, now_ns: int) -> Any:
    """``ttl``, which counts from now, as ``expires_at``."""
    if item.ttl is None:
        return item
    if item.expires_at is not None:
        raise SettingsError("ttl", "there is expires_at too", "Keep one.")
    over_ns = now_ns + parse_duration("ttl", item.ttl) * 1_000_000_000
    return msgspec.structs.replace(item, ttl=None, expires_at=moment_text(over_ns))


def _is_over(item: Any, now_ns: int) -> bool:
    over = item.expires_at
    return over is not None and parse_moment("expires_at", over) <= now_ns


def _read(path: str, name: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(
            name, f"{path} cannot be read: {error.strerror}", "Name a file that the agent may read."
        ) from None


@dataclass(frozen=True, slots=True)
class _Inputs:
    """All that a plan is made of."""

    section: Any
    runtime: Runtime
    around: Surroundings

    def says_more_than(self, other: _Inputs | None) -> bool:
        """Is anything another than in ``other``, but the time?"""
        return other is None or not (
            self.section == other.section
            and self.runtime == other.runtime
            and replace(self.around, now_ns=0) == replace(other.around, now_ns=0)
        )


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, and what it was made of."""

    plan: Plan
    inputs: _Inputs


class Changes:
    """Keeps the runtime items, and is the only way to change what is in force.

    ``surroundings`` gives the machine as it is now, without files.
    """

    def __init__(
        self,
        domains: Mapping[str, Domain],
        engines: Mapping[str, Engine],
        kernel: Kernel,
        store: Store,
        surroundings: Callable[[], Surroundings],
    ) -> None:
        self._domains, self._engines = domains, engines
        self._kernel, self._store = kernel, store
        self._surroundings = surroundings
        self._runtime: dict[str, Runtime] = defaultdict(dict)
        self._settings: CoreSettings | None = None
        self._until_ns: dict[str, int | None] = {}
        self._inputs: dict[str, _Inputs] = {}
        self._links: dict[str, Mapping[str, int]] = {}

    def prepare(self, settings: CoreSettings) -> dict[str, Planned]:
        """Plan the first settings of a run, together with what the store kept.

        Stored items that cannot be taken any more are left out, loudly, and stay in the store.

        Raises:
            SettingsError: an engine refuses the settings.
        """
        for name, domain in self._domains.items():
            try:
                self._engines[name].recall(self._store.memos.get(name) or {})
                for collection in domain.collections:
                    self._restore(name, collection.name, collection.item, settings)
            except StoreError as error:
                logger.error("what was stored for %s is not in force: %s", name, error)  # noqa: TRY400
        return {
            name: self._plan(name, self._look(name, settings, self._runtime[name]))
            for name in self._domains
        }

    def _restore(self, name: str, collection: str, item: type[Any], settings: CoreSettings) -> None:
        """Take back stored items: all in one plan; one by one only where that is refused."""
        runtime = self._runtime[name]
        kept = runtime.setdefault(collection, [])
        stored = self._store.items.query(name, collection)
        if not stored:
            return
        try:
            found = [convert(body, item, f"stored {collection}") for body in stored]
            self._plan(name, self._look(name, settings, runtime | {collection: found}))
        except SettingsError:
            self._restore_singly(name, collection, item, settings, stored)
        else:
            kept += found

    def _restore_singly(
        self,
        name: str,
        collection: str,
        item: type[Any],
        settings: CoreSettings,
        stored: Sequence[Any],
    ) -> None:
        kept = self._runtime[name][collection]
        for body in stored:
            try:
                found = convert(body, item, f"stored {collection}")
                runtime = self._runtime[name] | {collection: [*kept, found]}
                self._plan(name, self._look(name, settings, runtime))
            except SettingsError as error:
                logger.warning("a stored item of %s is not in force: %s", name, error)
            else:
                kept.append(found)

    def apply(self, settings: CoreSettings, names: Sequence[str]) -> None:
        """Put ``settings`` in force for the domains ``names``, or nothing at all.

        A domain for which nothing is new, also around it, is not planned again.

        Raises:
            SettingsError: an engine refuses; nothing has been touched.
            KernelError: the kernel refuses; what had changed has been changed back.
        """
        inputs = {n: self._look(n, settings, self._runtime[n]) for n in names}
        new = [name for name in names if inputs[name].says_more_than(self._inputs.get(name))]
        self.put(settings, {name: self._plan(name, inputs[name]) for name in new})

    def put(self, settings: CoreSettings, plans: Mapping[str, Planned]) -> None:
        """Put plans for ``settings`` in force, all or none.

        Raises:
            KernelError: as :meth:`apply`.
        """
        done: list[str] = []
        try:
            for name, plan in plans.items():
                if is_enabled(getattr(settings, name)):
                    self._kernel.apply(plan.plan.actions)
                done.append(name)
        except KernelError:
            self._undo(list(plans)[: len(done) + 1])
            raise
        for name, plan in plans.items():
            self._commit(name, plan)
        self._settings = settings

    def again(self, names: Sequence[str]) -> None:
        """Put in force once more what is: somebody else has changed it in the kernel.

        Raises:
            SettingsError, KernelError: not all of it is.
        """
        self._undo(names)

    def _undo(self, names: Sequence[str]) -> None:
        if self._settings is None:
            return
        for name in names:
            inputs = self._look(name, self._settings, self._runtime[name], anew=True)
            plan = self._plan(name, inputs)
            if is_enabled(getattr(self._settings, name)):
                self._kernel.apply(plan.plan.actions)
            self._commit(name, plan)

    def _look(
        self, name: str, settings: CoreSettings, runtime: Runtime, *, anew: bool = False
    ) -> _Inputs:
        section = getattr(settings, name)
        paths = self._domains[name].files(section)
        files = {path: _read(path, name) for path in paths}
        found = self._kernel.survey(self._domains[name]) if is_enabled(section) else {}
        on = (d for n, d in self._domains.items() if is_enabled(getattr(settings, n)))
        provided = frozenset(chain.from_iterable(domain.provides for domain in on))
        card = self._domains[name]
        around = replace(
            self._surroundings(),
            files=files,
            surveyed=found,
            provided=provided,
            executables=self._kernel.locate(card.executables(section, runtime)),
            cgroups=cgroups(card.cgroups(section, runtime)),
            anew=anew,
        )
        return _Inputs(section, runtime, around)

    def _plan(self, name: str, inputs: _Inputs) -> Planned:
        plan = self._engines[name].plan(inputs.section, inputs.runtime, inputs.around)
        return Planned(plan, inputs)

    def _commit(self, name: str, planned: Planned) -> None:
        plan = planned.plan
        self._engines[name].commit(plan)
        self._inputs[name] = planned.inputs
        self._until_ns[name] = plan.until_ns
        self._links[name] = plan.links
        if plan.memo is not None:
            self._store.memos.put(name, plan.memo)
        if plan.memo_more is not None:
            self._store.memos.add(name, plan.memo_more)

    def relink(self, links: Mapping[str, int]) -> None:
        """Plan again for the domains whose plan names an interface that came, went or came back.

        Raises:
            SettingsError, KernelError: as :meth:`apply`.
        """
        moved = [
            name
            for name, known in self._links.items()
            if any(links.get(link, 0) != index for link, index in known.items())
        ]
        if moved and self._settings is not None:
            self.apply(self._settings, moved)

    def renew(self, now_ns: int) -> None:
        """Plan again for the domains whose plan was not meant to last until now (wall time).

        Raises:
            SettingsError, KernelError: as :meth:`apply`.
        """
        due = [name for name, until_ns in self._until_ns.items() if until_ns and until_ns <= now_ns]
        if due and self._settings is not None:
            for name in due:
                self._inputs.pop(name, None)
            self.apply(self._settings, due)

    def expire(self, now_ns: int) -> list[tuple[str, str, msgspec.Struct]]:
        """Take out items whose time is over; returns each with its domain and key.

        Raises:
            KernelError: nothing has changed.
        """
        gone = []
        for name, domain in self._domains.items():
            for collection in (found for found in domain.collections if found.lapse):
                items = self._runtime[name].get(collection.name, [])
                over = [item for item in items if _is_over(item, now_ns)]
                if over:
                    left = [item for item in items if item not in over]
                    self._try(name, self._runtime[name] | {collection.name: left})
                for item in over:
                    key = self.key_of(name, collection.name, item)
                    self._store.items.remove(name, collection.name, key)
                    gone.append((name, key, item))
        return gone

    def add(self, name: str, collection: str, item: msgspec.Struct) -> msgspec.Struct:
        """Put one more item in force and keep it; returns it, with its time to live started.

        Raises:
            DuplicateItem, SettingsError, KernelError: nothing has changed.
        """
        if any(
            found.lapse for found in self._domains[name].collections if found.name == collection
        ):
            item = _started(item, self._surroundings().now_ns)
        value = self.key_of(name, collection, item)
        if self._engines[name].has(collection, value):
            raise DuplicateItem(value)
        items = self._runtime[name].get(collection, [])
        self._try(name, self._runtime[name] | {collection: [*items, item]})
        self._store.items.put(name, collection, value, item)
        return item

    def remove(self, name: str, collection: str, value: str) -> msgspec.Struct:
        """Take a runtime item out of force; returns it.

        Raises:
            UnknownItem, SystemItem, KernelError: nothing has changed.
        """
        key = self._key(name, collection)
        items = self._runtime[name].get(collection, [])
        gone = next((found for found in items if getattr(found, key) == value), None)
        if gone is None:
            exists = self._engines[name].has(collection, value)
            raise SystemItem(value) if exists else UnknownItem(value)
        rest = [found for found in items if found is not gone]
        self._try(name, self._runtime[name] | {collection: rest})
        self._store.items.remove(name, collection, value)
        return gone

    def find(self, name: str, collection: str, value: str) -> msgspec.Struct | None:
        """The runtime item with this key."""
        key = self._key(name, collection)
        items = self._runtime[name].get(collection, [])
        return next((found for found in items if getattr(found, key) == value), None)

    def item_type(self, name: str, collection: str) -> type[msgspec.Struct]:
        """What the items of a collection are."""
        return next(c.item for c in self._domains[name].collections if c.name == collection)

    def key_of(self, name: str, collection: str, item: msgspec.Struct) -> str:
        """The value of the item's identifying field."""
        return str(getattr(item, self._key(name, collection)))

    def _key(self, name: str, collection: str) -> str:
        return next(c.key for c in self._domains[name].collections if c.name == collection)

    def _try(self, name: str, runtime: Runtime) -> None:
        """Put other runtime items in force for one domain, or leave all as it is."""
        if self._settings is None:
            raise KernelError("the agent is still starting: try again in a moment")
        inputs = self._look(name, self._settings, runtime)
        self.put(self._settings, {name: self._plan(name, inputs)})
        self._runtime[name] = runtime
