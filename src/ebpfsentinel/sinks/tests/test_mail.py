"""Mails to a real server: STARTTLS, TLS at once, login, refusals."""

import asyncio
import email
import json

import msgspec
import pytest
from aiosmtpd.smtp import SMTP, AuthResult

from ebpfsentinel.model.alert import as_json
from ebpfsentinel.model.alerting import Alerting
from ebpfsentinel.sinks.backlog import Item
from ebpfsentinel.sinks.formats.origin import Origin
from ebpfsentinel.sinks.sender import SendError
from ebpfsentinel.sinks.senders import mail
from ebpfsentinel.sinks.tests.receivers import alert


class Inbox:
    """What the server takes."""

    def __init__(self):
        self.mails, self.refuse = [], ""

    async def handle_DATA(self, _server, session, envelope):  # noqa: N802 -- aiosmtpd's name
        if self.refuse:
            return self.refuse
        self.mails.append((session.ssl is not None, envelope))
        return "250 OK"


class MailServer:
    def __init__(self, context, *, at_once=False, password=""):
        self.inbox, self._context, self._at_once = Inbox(), context, at_once
        self._password = password

    def _login(self, _server, _session, _envelope, _mechanism, data):
        return AuthResult(success=data.password == self._password.encode(), handled=False)

    def _protocol(self):
        starttls = None if self._at_once else self._context
        return SMTP(
            self.inbox,
            tls_context=starttls,
            require_starttls=starttls is not None,
            authenticator=self._login,
            auth_required=bool(self._password),
            auth_require_tls=not self._at_once,
        )

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        context = self._context if self._at_once else None
        self.server = await loop.create_server(self._protocol, "127.0.0.1", 0, ssl=context)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        await self.server.wait_closed()


def sender(port, ca, **smtp):
    given = {"host": "127.0.0.1", "port": port, "from_address": "agent@example.org", "ca_path": ca}
    route = {"name": "soc", "destination": "email", "email_to": ["a@example.org", "b@example.org"]}
    alerting = msgspec.convert({"routes": [route], "smtp": given | smtp}, Alerting)
    return mail.make(alerting.routes[0], alerting, Origin("host-1", "9.9"))


def item(**rest):
    return Item(1, as_json(alert(1, rule_id="no-ssh", **rest)))


def test_a_mail_goes_over_starttls_with_login(tls):
    async def body():
        async with MailServer(tls[0], password="pw") as server_:
            login = {"username": "me", "password": "pw"}
            await sender(server_.port, tls[1], **login).send([item(message="who – was it?")])
            secure, envelope = server_.inbox.mails[0]
            assert secure
            assert envelope.rcpt_tos == ["a@example.org", "b@example.org"]
            got = email.message_from_bytes(envelope.content, policy=email.policy.default)
            assert got["Subject"] == "[eBPFsentinel] High alert: no-ssh (moat)"
            assert json.loads(got.get_content())["message"] == "who – was it?"

    asyncio.run(body())


def test_port_465_means_tls_at_once(tls, monkeypatch):
    async def body():
        async with MailServer(tls[0], at_once=True) as server_:
            monkeypatch.setattr(mail, "_TLS_AT_ONCE", server_.port)
            await sender(server_.port, tls[1]).send([item()])
            assert len(server_.inbox.mails) == 1

    asyncio.run(body())


def test_a_wrong_password_is_told_of_without_it(tls):
    async def body():
        async with MailServer(tls[0], password="pw") as server_:
            login = {"username": "me", "password": "hunter2"}
            with pytest.raises(SendError, match="login refused") as caught:
                await sender(server_.port, tls[1], **login).send([item()])
            assert "hunter2" not in str(caught.value)

    asyncio.run(body())


def test_a_server_without_a_known_certificate_gets_no_mail(tls):
    async def body():
        async with MailServer(tls[0]) as server_:
            with pytest.raises((SendError, OSError)):
                await sender(server_.port, "").send([item()])
            assert not server_.inbox.mails

    asyncio.run(body())


def test_a_refusal_is_an_error_to_try_again(tls):
    async def body():
        async with MailServer(tls[0]) as server_:
            server_.inbox.refuse = "451 not now"
            with pytest.raises(SendError, match="451 not now"):
                await sender(server_.port, tls[1]).send([item()])

    asyncio.run(body())


def test_a_subject_is_one_line_whatever_a_rule_is_called(tls):
    async def body():
        async with MailServer(tls[0]) as server_:
            wild = alert(1, rule_id="a\r\nBcc: x@example.org")
            await sender(server_.port, tls[1]).send([Item(1, as_json(wild))])
            got = email.message_from_bytes(server_.inbox.mails[0][1].content)
            assert got["Bcc"] is None

    asyncio.run(body())
