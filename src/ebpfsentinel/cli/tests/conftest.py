"""The command against the real API app, served on a loopback port by the API's own test agent."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ebpfsentinel.cli import root as command
from ebpfsentinel.model.domain import Collection

_PATH = Path(__file__).parents[2] / "api" / "tests" / "conftest.py"


def _small_api():
    spec = importlib.util.spec_from_file_location("cli_tests_small_api", _PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


small_api = _small_api()


def extra_verbs(_group):
    @click.command("depth")
    @click.option("--unit", default="m")
    @click.pass_obj
    def depth(session, unit):
        session.show(session.get("/api/v1/moat/depth"), lambda body: f"{body['depth']} {unit}")

    return [depth]


def card():
    columns = (("ID", "id"), ("PRI", "priority"), ("SRC IP", "src_ip"), ("MODE", "mode"))
    first = Collection("bridges", small_api.Drawbridge, singular="bridge", columns=columns)
    second = Collection("old-bridges", small_api.Drawbridge, singular="old bridge")
    return replace(
        small_api.moat_card(f"{small_api.__name__}:extra_routes"),
        collections=(first, second),
        commands=f"{__name__}:extra_verbs",
    )


@pytest.fixture(scope="session")
def served(tmp_path_factory):
    made = card()
    agent = small_api.small_agent(tmp_path_factory.mktemp("state"))
    agent.domains = {"moat": made}
    server = small_api.Served(agent)
    agent.store.alerts.append([small_api.make_alert(n, message="m" * 200) for n in range(5)])
    yield server
    server.close()


@pytest.fixture(autouse=True)
def cards(monkeypatch):
    monkeypatch.setattr(command.Root, "cards", staticmethod(lambda: (card(),)))


@pytest.fixture
def bare():
    """Run the command as it is."""

    def run(*arguments, **settings):
        return CliRunner().invoke(command.root, [str(each) for each in arguments], **settings)

    return run


@pytest.fixture
def cli(served, bare):
    """Run the command against the served agent, which begins with the system's rule alone."""
    served.agent.engines["moat"].rules[1:] = []
    port = served.listeners.http_port

    def run(*arguments, **settings):
        return bare(*arguments, env={"EBPFSENTINEL_PORT": str(port)}, **settings)

    return run


@pytest.fixture
def alert():
    """Makes the alert of a number."""
    return small_api.make_alert
