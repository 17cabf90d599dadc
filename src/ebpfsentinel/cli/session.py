"""What a verb works with: the agent's API, and where answers go."""

from __future__ import annotations

import json
import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from ebpfsentinel.cli import tables
from ebpfsentinel.cli.secured import context, is_secured, token, untrusted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    import httpx

    from ebpfsentinel.model.access import Attempt, Configured, Desk, Piece, Trial
    from ebpfsentinel.model.domain import Domain

REFUSED, NO_AGENT = 1, 3
_TIMEOUT_S = 30.0


class Failure(click.ClickException):
    """The agent refuses, or is not well: one line on stderr, exit code 1."""

    exit_code = REFUSED

    def __init__(self, message: str) -> None:
        super().__init__(tables.printable(message))


class NoAgent(Failure):
    """No agent is there, or none any more: exit code 3."""

    exit_code = NO_AGENT


@dataclass(slots=True)
class Session:
    """One run of the command. Verbs, those of cards too, get it with ``@click.pass_obj``.

    ``output`` is ``table`` or ``json``; ``config`` is None where no file was named.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str = ""
    output: str = "table"
    config: Path | None = None
    token_file: Path | None = None
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    tls_key: Path | None = None

    @property
    def url(self) -> str:
        """Where the agent is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if is_secured(self) else 'http'}://{host}:{self.port}"

    @property
    def json(self) -> bool:
        """Was JSON asked for?"""
        return self.output == "json"

    def get(self, path: str, **query: Any) -> Any:
        """The body of an API path; parameters that are None are not sent.

        Raises:
            Failure: it refuses.
        NoAgent: there is none.
        """
        return self.call("GET", path, query=query)

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: str | None = None,
    ) -> Any:
        """The body of the answer, decoded where it is JSON; None where it has none.

        Raises:
            Failure: it refuses.
        NoAgent: there is none.
        """
        answer = self.ask(method, path, query=query, body=body)
        if answer.status_code >= 400:
            raise self._refused(answer)
        return self._body(answer)

    def change(
        self, method: str, path: str, *, confirm: int | None, body: str | None = None
    ) -> tuple[Any, str]:
        """As :meth:`call`, for a change; and the id to confirm it by, where it waits for that."""
        answer = self.ask(method, path, query={"confirm": confirm}, body=body)
        if answer.status_code >= 400:
            raise self._refused(answer)
        return self._body(answer), answer.headers.get("x-change-id", "")

    def show_change(
        self, body: Any, change: str, confirm: int | None, as_text: Callable[[Any], str]
    ) -> None:
        """Show a change, and how to keep it; ``body`` gets ``change_id``."""
        found = body | {"change_id": change} if change and isinstance(body, dict) else body
        hint = f"\nIt is undone in {confirm} s unless you say, over a new connection:\n"
        hint += f"  ebpfsentinel-agent confirm {change}"
        self.show(found, lambda one: as_text(one) + (hint if change else ""))

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: str | None = None,
    ) -> httpx.Response:
        """The answer as it came, refusals too.

        Raises:
            NoAgent: there is none.
        """
        given = {name: value for name, value in (query or {}).items() if value is not None}
        headers = {"content-type": "application/json"} if body is not None else None
        with self._client(_TIMEOUT_S) as client:
            return client.request(method, path, params=given, content=body, headers=headers)

    @contextmanager
    def stream(self, path: str, **query: Any) -> Iterator[Iterator[str]]:
        """The lines of an answer that does not end; silence of a minute is a failure."""
        given = {name: value for name, value in query.items() if value is not None}
        with self._client(60.0) as client, client.stream("GET", path, params=given) as answer:
            if answer.status_code >= 400:
                answer.read()
                raise self._refused(answer)
            yield answer.iter_lines()

    @contextmanager
    def follow(self, path: str, **query: Any) -> Iterator[Iterator[Any]]:
        """What a live stream tells, until Ctrl-C."""
        with ctrl_c_ends():
            yield self._told(path, query)

    def _told(self, path: str, query: Mapping[str, Any]) -> Iterator[Any]:
        """The events of it.

        Raises:
            NoAgent: the stream ended.
        """
        with self.stream(path, **query) as lines:
            yield from events(lines)
        raise NoAgent(f"The agent at {self.url} ended the stream: is it shutting down?")

    def show(self, body: Any, as_text: Callable[[Any], str]) -> None:
        """Print the body: as JSON where that was asked for, else what ``as_text`` makes of it."""
        text = json.dumps(body, indent=2, ensure_ascii=True) if self.json else as_text(body)
        click.echo(text)

    def table(
        self, headings: Sequence[str], rows: Sequence[Sequence[Any]], whole: Sequence[str] = ()
    ) -> str:
        """Rows under headings, within the terminal's width."""
        return tables.table(headings, rows, whole=whole)

    def get_if_running(self, path: str) -> Any:
        """As :meth:`get`; None where no agent answers."""
        try:
            return self.get(path)
        except NoAgent:
            return None

    def settings(self, domain: Domain, file: Path | None) -> Configured:
        """What a configuration file says of the domain.

        Raises:
            Failure: it is not valid.
        """
        from ebpfsentinel.cli.installed import default_config, discovered  # noqa: PLC0415
        from ebpfsentinel.cli.trial import section  # noqa: PLC0415 - the kernel's half

        with _as_failure():
            return section(domain, file or self.config or default_config(), discovered())

    def understood(self, tree: Any, kind: type[Any]) -> Any:
        """A decoded body as the type, checked as a configuration is.

        Raises:
            Failure: it does not fit.
        """
        from ebpfsentinel.config import convert  # noqa: PLC0415 - not for `version`

        with _as_failure():
            return convert(tree, kind)

    @contextmanager
    def trial(self, domain: Domain, attempt: Attempt) -> Iterator[Trial]:
        """A rule set in a kernel of its own; see :class:`ebpfsentinel.model.access.Desk`.

        Raises:
            Failure: it is refused, or this is not root.
        """
        from ebpfsentinel.cli.trial import trial  # noqa: PLC0415 - the kernel's half

        with _as_failure(), trial(domain, attempt) as tried:
            yield tried

    def capture(self, file: Path) -> Iterator[Piece]:
        """The frames of a capture file.

        Raises:
            Failure: it cannot be used; raised where that is met.
        """
        from ebpfsentinel.cli.trial import read_capture  # noqa: PLC0415 - the kernel's half

        with _as_failure():
            yield from read_capture(file)

    @contextmanager
    def _client(self, timeout_s: float) -> Iterator[httpx.Client]:
        import httpx  # noqa: PLC0415 - 80 ms that `version` and `--help` need not pay

        try:
            with httpx.Client(
                base_url=self.url,
                headers=self._credentials(),
                timeout=timeout_s,
                trust_env=False,
                verify=context(self) if is_secured(self) else False,
            ) as client:
                yield client
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            if problem := untrusted(error):
                raise Failure(f"{self.url}: {problem}") from None
            raise NoAgent(
                f"No agent answers at {self.url}: start one with `ebpfsentinel-agent --config "
                "FILE`, or name another with --host and --port."
            ) from None
        except httpx.TimeoutException:
            problem = f"The agent at {self.url} did not answer within {timeout_s:g} s: see its log."
            raise NoAgent(problem) from None
        except (httpx.TransportError, httpx.InvalidURL) as error:
            problem = f"What is at {self.url} is no agent ({error}): check --host and --port, "
            problem += "and that --tls is said where it speaks TLS."
            raise NoAgent(problem) from None

    def _credentials(self) -> dict[str, str]:
        """A JWT has two dots and goes as Bearer; any other token is an API key."""
        shown = token(self)
        if not shown:
            return {}
        if shown.count(".") == 2:
            return {"authorization": f"Bearer {shown}"}
        return {"x-api-key": shown}

    def _refused(self, answer: httpx.Response) -> Failure:
        try:
            error = answer.json()["error"]
            told = f"{error['message']} ({error['code']})"
        except (ValueError, KeyError, TypeError):
            told = f"HTTP {answer.status_code}: {answer.text[:200].strip() or 'no explanation'}"
        remedy = ""
        if answer.status_code == 401:
            remedy = " Give one with --token-file or EBPFSENTINEL_TOKEN."
        return Failure(f"{self.url}{answer.request.url.path}: {' '.join(told.split())}{remedy}")

    def _body(self, answer: httpx.Response) -> Any:
        if not answer.content:
            return None
        if "json" not in answer.headers.get("content-type", ""):
            return answer.text
        try:
            return answer.json()
        except ValueError:
            problem = f"What is at {self.url} is no agent (not JSON): check --host and --port."
            raise NoAgent(problem) from None


@contextmanager
def _as_failure() -> Iterator[None]:
    """What settings, kernel and captures refuse, as a line for the user."""
    from ebpfsentinel.model.kernel import CaptureError, KernelError  # noqa: PLC0415 - numpy
    from ebpfsentinel.model.settings import SettingsError  # noqa: PLC0415

    try:
        yield
    except (SettingsError, KernelError, CaptureError) as error:
        raise Failure(str(error)) from None


def path(*parts: str) -> str:
    """An API path; each part is escaped."""
    return "/api/v1/" + "/".join(quote(part, safe="") for part in parts)


if TYPE_CHECKING:
    _DESK: Desk = Session()


@contextmanager
def ctrl_c_ends() -> Iterator[None]:
    """End at once and quietly on Ctrl-C.

    Not by KeyboardInterrupt: one that is raised while something is finalised is lost, and the watch
    would go on. Every line is flushed already.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def events(lines: Iterator[str]) -> Iterator[Any]:
    """What a server-sent event stream tells (WHATWG HTML, 9.2), decoded."""
    data: list[str] = []
    for line in lines:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            yield json.loads("\n".join(data))
            data.clear()
