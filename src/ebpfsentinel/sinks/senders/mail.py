"""Mails: one an alert, its JSON as the body. Port 465 is TLS at once, all others STARTTLS."""

from __future__ import annotations

import datetime as dt
import json
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid
from typing import TYPE_CHECKING

import aiosmtplib

from ebpfsentinel.model.destinations import Format
from ebpfsentinel.sinks.formats import chat, write
from ebpfsentinel.sinks.posting import tls_context
from ebpfsentinel.sinks.sender import SendError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.model.alerting import Alerting, Route
    from ebpfsentinel.model.destinations import Smtp
    from ebpfsentinel.sinks.backlog import Item
    from ebpfsentinel.sinks.formats.origin import Origin

_TLS_AT_ONCE = 465


def make(route: Route, alerting: Alerting, origin: Origin) -> Mail:
    """The sender of a route."""
    if alerting.smtp is None:
        raise SendError("alerting.smtp is not set")
    return Mail(route, alerting.smtp, origin)


class Mail:
    """See :class:`~ebpfsentinel.sinks.sender.Sender`."""

    def __init__(self, route: Route, smtp: Smtp, origin: Origin) -> None:
        self._route, self._smtp, self._origin = route, smtp, origin
        self.place = f"smtp://{smtp.host}:{smtp.port}"

    async def send(self, batch: Sequence[Item]) -> None:
        """One connection, one mail an alert."""
        smtp = self._smtp
        at_once = smtp.tls and smtp.port == _TLS_AT_ONCE
        client = aiosmtplib.SMTP(
            hostname=smtp.host,
            port=smtp.port,
            use_tls=at_once,
            start_tls=smtp.tls and not at_once,
            tls_context=tls_context(smtp.ca_path) if smtp.tls else None,
            timeout=self._route.timeout_ms / 1000,
        )
        try:
            async with client:
                if smtp.username:
                    await client.login(smtp.username, smtp.password or "")
                for item in batch:
                    await client.send_message(self._message(item))
        except aiosmtplib.SMTPException as error:
            raise SendError(f"{self.place}: {_reason(error)}") from None

    def _message(self, item: Item) -> EmailMessage:
        message = EmailMessage()
        message["From"] = self._smtp.from_address
        message["To"] = ", ".join(self._route.receivers)
        message["Subject"] = chat.subject(item.alert)
        message["Date"] = format_datetime(dt.datetime.now(dt.UTC))
        message["Message-ID"] = make_msgid(domain="ebpfsentinel.invalid")
        message["X-eBPFsentinel-Alert"] = "".join(c for c in item.alert.id if c.isprintable())[:512]
        body = write(item, self._route.written, self._origin).decode()
        if self._route.written is not Format.CEF:
            body = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
        message.set_content(body, cte="quoted-printable")
        return message

    async def aclose(self) -> None:
        """Nothing is held open."""


def _reason(error: aiosmtplib.SMTPException) -> str:
    """The server's answer, but never what was said to it."""
    if isinstance(error, aiosmtplib.SMTPAuthenticationError):
        return f"login refused ({error.code})"
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"{error.code} {error.message}"
    cause = error.__cause__
    said = cause.strerror if isinstance(cause, OSError) else ""
    return said or str(error) or type(error).__name__
