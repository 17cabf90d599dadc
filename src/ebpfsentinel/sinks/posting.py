"""HTTP for senders: one kept connection, no redirects, no proxy from the environment."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from ebpfsentinel.sinks.addresses import check_name, chosen
from ebpfsentinel.sinks.sender import Rejected, SendError

if TYPE_CHECKING:
    from collections.abc import Mapping


def _harmless(record: logging.LogRecord) -> bool:
    """Httpx logs the URL of each request, and the URL of a chat's webhook is its secret."""
    return record.levelno >= logging.WARNING


logging.getLogger("httpx").addFilter(_harmless)

_CONTENT_REFUSED = frozenset({400, 413, 415, 422})
_RESOLVED_S = 30.0
_LONGEST_S = 120.0


def tls_context(ca_path: str, cert_path: str = "", key_path: str = "") -> ssl.SSLContext:
    """TLS 1.2 or later, certificates checked against ``ca_path`` or the system's.

    Raises:
        SendError: a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=ca_path or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if cert_path:
            context.load_cert_chain(cert_path, key_path or None)
    except OSError as error:
        path = cert_path or ca_path
        raise SendError(f"{path}: {error.strerror or 'is no PEM file'}") from None
    return context


class Post:
    """Posts to one URL. ``guarded``: only to addresses that :mod:`.addresses` lets through."""

    def __init__(
        self, url: str, ca_path: str = "", *, guarded: bool = False, allow_private: bool = False
    ) -> None:
        split = urlsplit(url)
        self._url, self._host = url, split.hostname or ""
        self._port = split.port or (443 if split.scheme == "https" else 80)
        self.place = f"{split.scheme}://{split.netloc}"
        self._netloc, self._ca_path, self._secure = split.netloc, ca_path, split.scheme == "https"
        self._guarded, self._allow_private = guarded, allow_private
        self._client: httpx.AsyncClient | None = None
        self._pinned: tuple[float, str] = (-_RESOLVED_S, "")

    async def __call__(
        self, content: bytes, content_type: str, headers: Mapping[str, str], path: str = ""
    ) -> httpx.Response:
        """The answer, if it is one of 200 to 299.

        Raises:
            SendError: there is none, or another try may get another.
            Rejected: it is about what was sent.
        """
        client = self._client = self._client or self._made()
        url = self._parsed(path)
        named = {"host": self._netloc, "content-type": content_type}
        extensions = {}
        if self._guarded:
            url = url.copy_with(host=await self._pin())
            extensions = {"sni_hostname": self._host}
        try:
            answer = await client.post(
                url, content=content, headers={**headers, **named}, extensions=extensions
            )
        except httpx.HTTPError as error:
            self._pinned = (-_RESOLVED_S, "")
            raise SendError(f"{self.place}: {_reason(error)}") from None
        return self._judged(answer)

    def _parsed(self, path: str) -> httpx.URL:
        try:
            return httpx.URL(self._url + path)
        except httpx.InvalidURL:
            raise SendError("refused: the URL names no host that could be looked at") from None

    def _judged(self, answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            return answer
        note = " (redirects are not followed)" if answer.is_redirect else ""
        text = f"{self.place} answered {answer.status_code}{note}"
        if answer.status_code in _CONTENT_REFUSED:
            raise Rejected(text)
        raise SendError(text)

    async def _pin(self) -> str:
        """An address of the host that may be connected to, looked up at most each half minute."""
        found_s, address = self._pinned
        if address and time.monotonic() - found_s < _RESOLVED_S:
            return address
        check_name(self._host, allow_private=self._allow_private)
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise SendError(f"{self._host} cannot be resolved: {error.strerror}") from None
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        address = chosen(self._host, addresses, allow_private=self._allow_private)
        self._pinned = (time.monotonic(), address)
        return address

    def _made(self) -> httpx.AsyncClient:
        verify = tls_context(self._ca_path) if self._secure else ssl.create_default_context()
        limits = httpx.Limits(max_connections=2, keepalive_expiry=60)
        return httpx.AsyncClient(
            verify=verify,
            limits=limits,
            timeout=httpx.Timeout(_LONGEST_S),  # the destination has one for the whole try
            follow_redirects=False,
            trust_env=False,
        )

    async def aclose(self) -> None:
        """Close the connection."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None


def _reason(error: httpx.HTTPError) -> str:
    """What the system or TLS said; httpx itself may have put a URL into its text."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return getattr(cause, "verify_message", "") or cause.reason or "TLS failed"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
