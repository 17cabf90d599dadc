"""What was asked for and refused, for the audit trail: what was done, the agent itself keeps.

Every write that is not carried out is an entry, with the reason that the caller was given. Logins
that fail are entries, too; but since strangers can make any number of them, those of one address
are told once a minute, with their count.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from ebpfsentinel.auth.permissions import READ, parts_of
from ebpfsentinel.store import AuditEntry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ebpfsentinel.api.agent import Agent

WINDOW_S = 60.0
_MOST_ADDRESSES = 1000
_MOST_BYTES = 8192
_STRANGERS = "many addresses"


def note(agent: Agent, component: str, action: str, **more: Any) -> None:
    """Keep one entry, now, where an audit trail is kept; ``more`` as in :class:`AuditEntry`."""
    if agent.settings.audit.enabled:
        now_ns = time.time_ns()
        entry = AuditEntry(timestamp_ns=now_ns, component=component, action=action, **more)
        agent.store.audit.append([entry])


class Trail:
    """Keeps refusals of one door of ``agent``."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._more: Counter[tuple[str, str]] = Counter()

    def watching(self, send: Any, scope: Mapping[str, Any]) -> Any:
        """``send`` for the answer to a write, which is kept where it is an error."""
        if scope["type"] != "http" or scope["method"] in (*READ, "OPTIONS"):
            return send
        status, body = 0, b""

        async def sending(message: dict[str, Any]) -> None:
            nonlocal status, body
            if message["type"] == "http.response.start":
                status = message["status"]
            elif status >= 400:
                body = (body + message.get("body", b""))[:_MOST_BYTES]
                if not message.get("more_body"):
                    self._refused(scope, status, body)
            await send(message)

        return sending

    def _refused(self, scope: Mapping[str, Any], status: int, body: bytes) -> None:
        if status in (401, 429):
            return  # told as logins and floods
        parts = parts_of(scope["path"])
        identity = scope.get("state", {}).get("identity")
        note(
            self._agent,
            (parts[2] if parts[:2] == ("api", "v1") and parts[2:] else "api")[:64],
            "request_refused",
            actor=identity.name if identity else "",
            rule_id=parts[4][:256] if parts[4:] else "",
            detail=f"{scope['method']} {scope['path'][:200]}: {status} {_reason(body)}",
            src_ip=_address(scope),
            result="failed" if status >= 500 else "refused",
        )

    def stopped(self, address: str, actor: str, status: int, reason: str) -> None:
        """Somebody did not get in (401), or came too often (429)."""
        action = "login_failed" if status == 401 else "too_many_requests"
        key = (address, action)
        if key not in self._more and len(self._more) >= _MOST_ADDRESSES:
            key = (_STRANGERS, action)
        known = key in self._more
        self._more[key] += 1
        if not known:
            self._tell(key, actor, reason)
            asyncio.get_running_loop().call_later(WINDOW_S, self._sum_up, key)

    def _sum_up(self, key: tuple[str, str]) -> None:
        if more := self._more.pop(key) - 1:
            self._tell(key, "", f"{more} more within {WINDOW_S:.0f} s")

    def _tell(self, key: tuple[str, str], actor: str, detail: str) -> None:
        address, action = key
        note(
            self._agent, "auth", action,
            actor=actor, src_ip=address, detail=detail, result="refused",
        )  # fmt: skip


def _address(scope: Mapping[str, Any]) -> str:
    return str(scope["client"][0]) if scope.get("client") else ""


def _reason(body: bytes) -> str:
    try:
        error = msgspec.json.decode(body)["error"]
        return f"{error['code']}: {error['message']}"
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""
