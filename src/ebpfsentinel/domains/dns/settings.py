"""What a user may set of DNS: section ``dns``."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, field

from ebpfsentinel.model.settings import Section

_RESERVED: dict[str, Any] = {"x-reserved": True}


class Cache(Section):
    """The names that are remembered."""

    max_entries: Annotated[
        int,
        Meta(
            ge=1000, le=1_000_000, description="Addresses with a name.", extra_json_schema=_RESERVED
        ),
    ] = 100_000
    min_ttl_secs: Annotated[
        int, Meta(ge=10, description="A name holds so long, whatever its answer says.")
    ] = 60
    purge_interval_secs: Annotated[
        int, Meta(ge=10, description="Names end by themselves.", extra_json_schema=_RESERVED)
    ] = 30


class DnsSettings(Section):
    """The ``dns`` section."""

    enabled: Annotated[
        bool, Meta(description="Read answers on the wire (UDP, port 53) for the names in alerts.")
    ] = False
    cache: Annotated[Cache, Meta(description="The names that are remembered.")] = field(
        default_factory=Cache
    )
    doh_resolvers: Annotated[
        list[str], Meta(description="Resolvers over HTTPS.", extra_json_schema=_RESERVED)
    ] = field(default_factory=list)
    blocklist: Annotated[
        dict[str, Any] | None, Meta(description="Domains to block.", extra_json_schema=_RESERVED)
    ] = None
    reputation: Annotated[
        dict[str, Any] | None, Meta(description="Scores of domains.", extra_json_schema=_RESERVED)
    ] = None
