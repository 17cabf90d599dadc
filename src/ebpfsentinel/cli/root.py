"""The command, its options, and how verbs are found.

Verbs are imported when they are used: ``version`` loads no HTTP client, and cards are looked up
only for a name that is no verb of our own, or for ``--help``.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

import ebpfsentinel
from ebpfsentinel.cli.installed import DEFAULT_CONFIG, default_config, discovered
from ebpfsentinel.cli.session import Failure, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ebpfsentinel.model.domain import Domain

DEFAULT_PORT = 8080

_VERBS = {
    "version": "agent:version",
    "status": "agent:status",
    "health": "agent:health",
    "doctor": "doctor:doctor",
    "metrics": "agent:metrics",
    "ebpf": "agent:ebpf",
    "detach": "agent:detach",
    "alerts": "alerts:alerts",
    "audit": "audit:audit",
    "backup": "backup:backup",
    "changes": "changes:changes",
    "config": "config:config",
    "confirm": "changes:confirm",
    "keeper": "keeper:keeper",
    "hand-over": "upgrade:hand_over",
    "keys": "keys:keys",
    "memory": "memory:memory",
    "restore": "backup:restore",
    "tls": "tls:tls",
    "upgrade": "upgrade:upgrade",
    "whoami": "keys:whoami",
}


class Root(click.Group):
    """Our own verbs, and one group for each card."""

    cards: Callable[[], Sequence[Domain]] = staticmethod(discovered)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Our verbs first, then the cards by name."""
        return [*_VERBS, *(card.name for card in self.cards())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb or the group of a card, with the options of a connection."""
        if cmd_name in _VERBS:
            module, _, name = _VERBS[cmd_name].partition(":")
            found: click.Command = getattr(
                importlib.import_module(f"ebpfsentinel.cli.{module}"), name
            )
            return connected(found)
        card = next((card for card in self.cards() if card.name == cmd_name), None)
        if card is None:
            return None
        from ebpfsentinel.cli.cards import group_of  # noqa: PLC0415 - only for cards

        return connected(group_of(card))


def _note(ctx: click.Context, option: click.Parameter, value: Any) -> None:
    """Let an option after the verb win over the one before it."""
    if value is not None and option.name is not None:
        setattr(ctx.find_object(Session), option.name, value)


class _Port(click.IntRange):
    """A port, or what Kubernetes sets in every pod when a service is called ebpfsentinel."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The port; of a service link, the default."""
        link = isinstance(value, str) and value.startswith(("tcp://", "udp://"))
        port: int = super().convert(DEFAULT_PORT if link else value, param, ctx)
        return port


_PORT = _Port(1, 65535)
_FILE = click.Path(path_type=Path)
_OUTPUT = click.Choice(["table", "json"])
_CONNECTION: dict[str, dict[str, Any]] = {
    "--host": {"help": "Where the agent is.", "metavar": "HOST"},
    "--port": {"type": _PORT, "help": "Its API port.", "metavar": "PORT"},
    "--token": {"help": "API key or JWT.", "metavar": "TOKEN"},
    "--token-file": {"help": "A file that holds it.", "metavar": "FILE", "type": _FILE},
    "--tls": {"help": "The agent speaks TLS.", "is_flag": True, "default": None},
    "--ca": {"help": "Authority of its certificate.", "metavar": "FILE", "type": _FILE},
    "--cert": {"help": "Our certificate.", "metavar": "FILE", "type": _FILE},
    "--key": {"help": "Its key.", "metavar": "FILE", "type": _FILE},
    "-o": {"type": _OUTPUT, "help": "How answers are shown."},
}


_ALSO = {"-o": ("--output",), "--key": ("tls_key",)}
"""Further names; ``key`` alone is what verbs call their argument."""


def connected(command: click.Command) -> click.Command:
    """The command, its leaves with the options of a connection."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            connected(each)
    elif not any(isinstance(option, _Noted) for option in command.params):
        command.params += [
            _Noted(
                [name, *_ALSO.get(name, ())],
                expose_value=False,
                callback=_note,
                **settings,
            )
            for name, settings in _CONNECTION.items()
            if not any(name in option.opts for option in command.params)
        ]
    return command


class _Noted(click.Option):
    """An option that is kept in the session."""


@click.group(
    cls=Root,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"Configuration; {DEFAULT_CONFIG} where there is one.",
)
@click.option(
    "-l",
    "--log-level",
    type=click.Choice(["error", "warn", "info", "debug", "trace"], case_sensitive=False),
    help="What the agent logs at least.",
)
@click.option(
    "--log-format",
    type=click.Choice(["json", "text"], case_sensitive=False),
    help="How the agent logs.",
)
@click.option(
    "--host",
    envvar="EBPFSENTINEL_HOST",
    default="127.0.0.1",
    show_default=True,
    metavar="HOST",
    help="Where the agent is; without a verb, where it shall listen.",
)
@click.option(
    "--port",
    envvar="EBPFSENTINEL_PORT",
    type=_PORT,
    default=DEFAULT_PORT,
    show_default=True,
    metavar="PORT",
    help="Its API port.",
)
@click.option(
    "--token",
    envvar="EBPFSENTINEL_TOKEN",
    default="",
    metavar="TOKEN",
    help="API key or JWT; EBPFSENTINEL_TOKEN keeps it out of the process list.",
)
@click.option(
    "--token-file",
    envvar="EBPFSENTINEL_TOKEN_FILE",
    type=_FILE,
    metavar="FILE",
    help="A file that holds the API key or JWT.",
)
@click.option("--tls", envvar="EBPFSENTINEL_TLS", is_flag=True, help="The agent speaks TLS.")
@click.option(
    "--ca",
    envvar="EBPFSENTINEL_CA",
    type=_FILE,
    metavar="FILE",
    help="Authority of its certificate, PEM; else the system's.",
)
@click.option(
    "--cert",
    envvar="EBPFSENTINEL_CERT",
    type=_FILE,
    metavar="FILE",
    help="Our certificate, PEM, where the agent asks for one.",
)
@click.option(
    "--key",
    "tls_key",
    envvar="EBPFSENTINEL_KEY",
    type=_FILE,
    metavar="FILE",
    help="Its private key, PEM.",
)
@click.option("-o", "--output", type=_OUTPUT, default="table", help="How answers are shown.")
@click.version_option(ebpfsentinel.__version__, message="%(prog)s %(version)s")
@click.pass_context
def root(  # noqa: PLR0913, PLR0917 - one argument an option
    ctx: click.Context,
    /,
    config: Path | None,
    log_level: str | None,
    log_format: str | None,
    host: str,
    port: int,
    token: str,
    output: str,
    **secured: Any,
) -> None:
    """One Linux security agent: enforces in the kernel, explains every verdict.

    Without a verb it runs the agent; with one it asks or tells an agent that runs.
    """
    ctx.obj = Session(host, port, token, output, config, **secured)
    if ctx.invoked_subcommand is not None:
        return
    given = {
        "agent.log_level": log_level,
        "agent.log_format": log_format,
        "agent.bind_address": host if _typed(ctx, "host") else None,
        "agent.http_port": port if _typed(ctx, "port") else None,
    }
    overrides = {place: value for place, value in given.items() if value is not None}
    ctx.exit(run(config or default_config(), overrides))


def _typed(ctx: click.Context, option: str) -> bool:
    return ctx.get_parameter_source(option) is ParameterSource.COMMANDLINE


def run(config: Path | None, overrides: dict[str, Any]) -> int:
    """Run the agent until it is told to end.

    Raises:
        Failure: the configuration or the kernel refuses.
    """
    from ebpfsentinel.cli.run import run_agent  # noqa: PLC0415 - the whole agent
    from ebpfsentinel.model.kernel import KernelError  # noqa: PLC0415
    from ebpfsentinel.model.settings import SettingsError  # noqa: PLC0415

    try:
        return run_agent(config, overrides) or 0
    except (SettingsError, KernelError) as error:
        raise Failure(str(error)) from None
