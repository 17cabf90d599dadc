"""Puts into alerts what else is known of their ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ebpfsentinel.enrichment.containers import Containers
from ebpfsentinel.enrichment.geo import Geo
from ebpfsentinel.enrichment.names import SeenNames
from ebpfsentinel.model.alert import program_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ebpfsentinel.model.alert import Alert
    from ebpfsentinel.model.domain import SeenName
    from ebpfsentinel.model.enriching import Container, GeoIp

COMPLETE, PARTIAL = "complete", "partial"


class Enricher:
    """``context.container``, ``context.src_geo``, ``context.src_name`` and those of ``dst``.

    ``context.enrichment`` is ``partial`` where something should be known and is not (a container
    without a name, a GeoIP file that cannot be read), else ``complete``; it is there only where
    there was something to look up.
    """

    def __init__(self) -> None:
        self.names = SeenNames()
        self._containers: Containers | None = None
        self._geo: Geo | None = None
        self._given: tuple[GeoIp, Container] | None = None

    def configure(self, geoip: GeoIp, container: Container) -> None:
        """Look things up as the settings say."""
        if (geoip, container) == self._given:
            return
        self.close()
        self._given = (geoip, container)
        self._containers = Containers(container) if container.resolver.enabled else None
        self._geo = Geo(geoip.source.path, geoip.source.asn_path) if geoip.enabled else None

    def learn(self, names: Sequence[SeenName]) -> None:
        """Take in names that were seen on the wire."""
        now_ns = time.time_ns()
        for address, name, ttl_s in names:
            self.names.see(address, name, ttl_s, now_ns)

    def enrich(self, alerts: Sequence[Alert]) -> None:
        """Put in what is known."""
        now_ns = time.time_ns()
        for alert in alerts:
            asked = [self._add_container(alert), *self._add_places(alert)]
            self._add_names(alert, now_ns)
            results = [each for each in asked if each is not None]
            if results:
                alert.context["enrichment"] = COMPLETE if all(results) else PARTIAL

    def _add_container(self, alert: Alert) -> bool | None:
        """Was what there is to know found? None: there is nothing to know."""
        container = program_of(alert).get("container_id")
        if not container or self._containers is None:
            return None
        found = self._containers.describe(container)
        alert.context["container"] = {"id": container, **found}
        return bool(found.get("name"))

    def _add_places(self, alert: Alert) -> list[bool]:
        if self._geo is None:
            return []
        for end, address in (("src", alert.src_ip), ("dst", alert.dst_ip)):
            if address and (place := self._geo.place(address)):
                alert.context[f"{end}_geo"] = place
        return [not self._geo.trouble] if alert.src_ip or alert.dst_ip else []

    def _add_names(self, alert: Alert, now_ns: int) -> None:
        if not len(self.names):
            return
        for end, address in (("src", alert.src_ip), ("dst", alert.dst_ip)):
            if address and (name := self.names.name_of(address, now_ns)):
                alert.context[f"{end}_name"] = name

    def close(self) -> None:
        """Let go of files."""
        if self._geo is not None:
            self._geo.close()
            self._geo = None
