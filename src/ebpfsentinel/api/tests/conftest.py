"""A small agent around the real store and configuration, served over real sockets."""

import asyncio
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Annotated, Any

import httpx
import msgspec
import pytest
from litestar import get, post
from msgspec import Meta

from ebpfsentinel.api import Listeners
from ebpfsentinel.auth import Gatekeeper, TlsFiles, gatekeeper
from ebpfsentinel.config import load
from ebpfsentinel.exemptions import Exemptions
from ebpfsentinel.model.alert import Alert, Severity
from ebpfsentinel.model.domain import Collection, Domain, Metric
from ebpfsentinel.model.durations import Durations
from ebpfsentinel.model.health import Health, Proof, Trouble
from ebpfsentinel.model.kernel import (
    Attachment,
    InterfaceCounters,
    KernelError,
    Ledger,
    ProgramStatus,
)
from ebpfsentinel.model.refusal import DuplicateItem, SystemItem, UnknownItem
from ebpfsentinel.model.settings import Mode, Section, SettingsError
from ebpfsentinel.sinks import LiveFeed, Router
from ebpfsentinel.store import AuditEntry, RuleChange, Store


class Drawbridge(Section):
    id: Annotated[str, Meta(min_length=1, max_length=256, description="Its name.")]
    priority: Annotated[int, Meta(ge=1, le=65535, description="Lower first.")]
    src_ip: Annotated[str | None, Meta(description="Who.")] = None
    mode: Mode = Mode.ALERT


class Where(Section):
    namespace: str | None = None


class Gate(Section):
    id: str
    priority: int
    src_ip: str | None = None
    scope: str | Where = "global"


class MoatSettings(Section):
    mode: Mode = Mode.ALERT
    password: Annotated[str, Meta(extra_json_schema={"x-secret": True})] = ""


class MoatEngine:
    def __init__(self) -> None:
        self.rules = [Drawbridge(id="system", priority=1)]

    def items(self, _collection: str):
        return self.rules

    def has(self, _collection: str, key: str):
        return any(rule.id == key for rule in self.rules)

    def status(self):
        return {"enabled": True, "mode": Mode.ALERT, "rule_count": len(self.rules)}


def extra_routes(engine: MoatEngine, running):
    @get("/depth")
    async def depth() -> dict[str, int]:
        return {"depth": len(engine.rules)}

    @get("/api/v1/moat/width")
    async def width() -> dict[str, int]:
        return {"width": 3}

    @post("/drain")
    async def drain() -> dict[str, int]:
        running.audit("drain", "all of it")
        return {"drained": 1}

    @get("/broken")
    async def broken() -> None:
        raise RuntimeError("the secret reason")

    return [depth, width, drain, broken]


def moat_card(routes: str = "") -> Domain:
    rules = Collection("bridges", Drawbridge, singular="bridge")
    gates = Collection("gates", Gate, singular="gate")
    return Domain(
        name="moat",
        summary="A moat.",
        settings=MoatSettings,
        engine=lambda _tools: MoatEngine(),
        collections=(rules, gates),
        routes=routes,
    )


class Castle:
    """The kernel, as far as the API asks."""

    def programs(self):
        return [
            ProgramStatus("moat_xdp", "moat", "xdp", True, ("eth0",), 900, 9),
            ProgramStatus("moat_lsm", "moat", "lsm", False, reason="BPF LSM is off"),
        ]

    def attachments(self):
        return [Attachment("eth0", 2, "generic", "driver has no XDP")]

    def ledgers(self):
        return [Ledger("moat_events", 10, 8, 8, {"full": 2})]

    def failures(self):
        return {"map_update": 3}

    def interface_counters(self):
        return [InterfaceCounters("eth0", {"pass": 7, "drop": 5}, 1200)]


class Feed(LiveFeed):
    """Alerts to any number of listeners, the last 50 again for who comes back."""

    def __init__(self) -> None:
        super().__init__(self._kept_after)
        self.replay: deque[Alert] = deque(maxlen=50)

    def _kept_after(self, last):
        ids = [alert.id for alert in self.replay]
        return list(self.replay)[ids.index(last) + 1 :] if last in ids else []

    def publish(self, alert: Alert | None) -> None:
        if alert is None:  # every stream ends; new ones may begin
            for listener in self._listeners:
                listener.close()
            self._listeners.clear()
            return
        self.replay.append(alert)
        for listener in self._listeners:
            listener.put(alert)

    @property
    def listeners(self) -> int:
        return len(self._listeners)


@dataclass
class SmallAgent:
    loaded: Any
    store: Store
    domains: dict[str, Domain]
    engines: dict[str, Any]
    kernel: Castle = field(default_factory=Castle)
    tls: TlsFiles = field(default_factory=TlsFiles)
    alerts: Feed = field(default_factory=Feed)
    version: str = "9.9.9"
    started_ns: int = field(default_factory=time.time_ns)
    ready: bool = True
    not_ready_reason: str = ""
    losing: frozenset[str] = frozenset()
    blind: str = ""
    missing: dict[str, str] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)
    refreshed: int = 0
    reload_answer: Any = field(default_factory=lambda: {"moat": "ok", "agent": "unchanged"})

    def __post_init__(self):
        self.router = Router(self.store.folder / "spool", self.version)
        self.router.configure(self.settings.alerting)
        self.exemptions = Exemptions(self.store)
        self.gatekeeper = Gatekeeper(self.store.keys)
        self.let_in()

    def let_in(self):
        settings = self.settings
        self.gatekeeper.adopt(self.gatekeeper.prepare(settings.auth, settings.agent.api_rate_limit))
        self.tls.adopt(self.tls.prepare(settings.effective_tls, "tls"))

    @property
    def settings(self):
        return self.loaded.settings

    def health(self):
        return Health.of(self.troubles, self.proofs, {})

    def create_key(self, wanted, actor):
        now = time.time_ns()
        ends = wanted.expires_ns(now)
        return self.gatekeeper.keys.create(wanted.name, wanted.role, wanted.namespaces, now, ends)

    def rotate_key(self, key_id, grace_seconds, actor):
        return self.gatekeeper.keys.rotate(key_id, time.time_ns(), grace_seconds * 10**9)

    def revoke_key(self, key_id, actor):
        return self.gatekeeper.keys.revoke(key_id)

    async def add(self, domain, collection, item, actor, confirm=0):
        rules = self.engines[domain].rules
        if any(rule.id == item.id for rule in rules):
            raise DuplicateItem(item.id)
        if item.src_ip == "kernel":
            raise KernelError("map is full")
        if item.src_ip == "bad":
            raise SettingsError("bridge.src_ip", "'bad' is no address", "Write an address.")
        rules.append(item)
        now = time.time_ns()
        self.store.items.put(domain, collection, item.id, item)
        self.store.audit.append(
            [AuditEntry(timestamp_ns=now, component=domain, action="rule_added", rule_id=item.id)]
        )
        self.store.audit.append_change(
            RuleChange(
                timestamp_ns=now,
                component=domain,
                action="rule_added",
                actor=actor,
                rule_id=item.id,
                after=msgspec.to_builtins(item),
            )
        )

    async def remove(self, domain, collection, key, actor, confirm=0):
        if key == "system":
            raise SystemItem
        rules = self.engines[domain].rules
        found = next((rule for rule in rules if rule.id == key), None)
        if found is None:
            raise UnknownItem(key)
        rules.remove(found)
        self.store.items.remove(domain, collection, key)

    async def reload(self, actor, confirm=0):
        if isinstance(self.reload_answer, Exception):
            raise self.reload_answer
        return self.reload_answer, None

    def refresh(self, domain):
        self.refreshed += 1

    def metrics(self):
        took = Durations()
        took.observe(0.00002)
        yield Metric("alerts", "counter", "h", {"component": "moat", "severity": "low"}, 4)
        yield Metric("alerts_dropped", "counter", "h", {"reason": "dedup"}, 1)
        yield Metric("config_reloads", "counter", "h", {"status": "ok"}, 2)
        yield took.metric("processing_duration_seconds", "h", {"domain": "moat"})


def make_alert(number: int, **changes) -> Alert:
    known = {
        "id": f"{number}-r-{number}",
        "timestamp_ns": number * 10**9,
        "component": "moat" if number % 2 else "gate",
        "severity": list(Severity)[number % 4],
        "rule_id": f"r{number % 3}",
        "action": "alert",
        "message": "m",
    }
    return Alert(**(known | changes))


class Served:
    """An agent behind its listeners, in a thread of its own."""

    def __init__(self, agent: SmallAgent) -> None:
        self.agent = agent
        try:
            self.listeners = Listeners(agent)
        except BaseException:
            agent.store.close()
            raise
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.run(self.listeners.start())
        self.url = f"http://127.0.0.1:{self.listeners.http_port}"
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def call(self, function, *arguments):
        async def calling():
            return function(*arguments)

        return self.run(calling())

    def close(self):
        self.client.close()
        self.run(self.listeners.stop())
        self.run(self.loop.shutdown_asyncgens())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()
        self.agent.store.close()


def small_agent(folder, routes: str = "", **agent) -> SmallAgent:
    card = moat_card(routes)
    flags = {
        "agent.interfaces": ["lo"],
        "agent.http_port": 0,
        "agent.metrics_port": 0,
        "agent.grpc_port": 0,
        "agent.state_dir": str(folder),
        "moat.password": "hush",
    }
    whole = ("auth", "tls")
    flags |= {name if name in whole else f"agent.{name}": value for name, value in agent.items()}
    loaded = load(None, {}, flags, [card])
    return SmallAgent(loaded, Store(folder), {"moat": card}, {"moat": MoatEngine()})


@pytest.fixture
def still(monkeypatch):
    """The clock of the limits stands still."""
    clock = SimpleNamespace(monotonic=lambda: 1000.0, time_ns=time.time_ns)
    monkeypatch.setattr(gatekeeper, "time", clock)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """One server for a module."""
    made = Served(small_agent(tmp_path_factory.mktemp("state"), f"{__name__}:extra_routes"))
    yield made
    made.close()


@pytest.fixture
def client(served):
    """An HTTP client of the served agent, which begins with the system's rule alone."""
    served.agent.engines["moat"].rules[1:] = []
    return served.client


@pytest.fixture
def serve(tmp_path):
    """Serve an agent with other settings."""
    made = []

    def start(before=None, **settings):
        agent = small_agent(tmp_path, **settings)
        if before is not None:
            before(agent)
        made.append(Served(agent))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture(scope="module")
def serve_module(tmp_path_factory):
    """As :func:`serve`, for a module; the domain has routes of its own."""
    made = []

    def start(**settings):
        folder = tmp_path_factory.mktemp("state")
        made.append(Served(small_agent(folder, f"{__name__}:extra_routes", **settings)))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture
def alert():
    """Makes the alert of a number; odd ones are the moat's."""
    return make_alert
