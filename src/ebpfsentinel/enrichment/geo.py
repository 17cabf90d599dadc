"""Countries, cities and autonomous systems of addresses, from the user's MaxMind files."""

from __future__ import annotations

import ipaddress
import logging
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maxminddb import Reader

logger = logging.getLogger(__name__)

_LOOK_S = 5.0
_REMEMBERED = 8192


class GeoFile:
    """One MMDB file, opened when it is first needed and again when it was replaced."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._reader: Reader | None = None
        self._mark: tuple[int, int] | None = None
        self._found: dict[str, dict[str, Any]] = {}
        self._looked_s = -_LOOK_S
        self.trouble = ""

    def get(self, address: str) -> dict[str, Any]:
        """What the file has of an address; empty where it has nothing or cannot be read."""
        self._follow()
        if self._reader is None:
            return {}
        if address not in self._found:
            if len(self._found) >= _REMEMBERED:
                self._found.clear()
            self._found[address] = self._look_up(self._reader, address)
        return self._found[address]

    def _look_up(self, reader: Reader, address: str) -> dict[str, Any]:
        try:
            found = reader.get(address)
        except Exception as error:  # noqa: BLE001 -- whatever a file that is being written gives
            self._fail(f"{self._path}: {error}")
            return {}
        return found if isinstance(found, dict) else {}

    def _follow(self) -> None:
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_S:
            return
        self._looked_s = now_s
        try:
            status = self._path.stat()
            mark = (status.st_ino, status.st_mtime_ns)
            if mark != self._mark:
                self._open()
                self._mark = mark
        except (OSError, ValueError) as error:
            self._fail(str(error))

    def _open(self) -> None:
        """The old one goes on where the new one is no database.

        It is read, not mapped: a mapped file that somebody cuts short would end the agent.
        """
        import maxminddb  # noqa: PLC0415 -- only where it is on

        try:
            reader = maxminddb.open_database(self._path, maxminddb.MODE_FILE)
        except maxminddb.InvalidDatabaseError as error:
            raise ValueError(f"{self._path}: {error}") from None
        self.close()
        self._reader, self.trouble = reader, ""
        self._found.clear()

    def _fail(self, why: str) -> None:
        if why != self.trouble:
            logger.warning("addresses are not placed: %s", why)
        self.trouble = why

    def close(self) -> None:
        """Let go of the file."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None


class Geo:
    """Places of addresses: ``country``, ``country_name``, ``city``, ``asn``, ``organization``."""

    def __init__(self, path: str, asn_path: str) -> None:
        self._places = GeoFile(path) if path else None
        self._systems = GeoFile(asn_path) if asn_path else None

    def place(self, address: str) -> dict[str, Any]:
        """What is known of a public address; empty for all others."""
        if not _is_public(address):
            return {}
        found = _place(self._places.get(address)) if self._places else {}
        if self._systems:
            system = self._systems.get(address)
            found["asn"] = system.get("autonomous_system_number")
            found["organization"] = system.get("autonomous_system_organization")
        return {key: value for key, value in found.items() if value is not None}

    @property
    def trouble(self) -> str:
        """Why a file cannot be used; empty while all can."""
        files = (self._places, self._systems)
        return "; ".join(each.trouble for each in files if each and each.trouble)

    def close(self) -> None:
        """Let go of the files."""
        for each in (self._places, self._systems):
            if each:
                each.close()


@lru_cache(maxsize=_REMEMBERED)
def _is_public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


def _place(found: dict[str, Any]) -> dict[str, Any]:
    country = found.get("country") or found.get("registered_country") or {}
    return {
        "country": country.get("iso_code"),
        "country_name": (country.get("names") or {}).get("en"),
        "city": ((found.get("city") or {}).get("names") or {}).get("en"),
    }
