"""What a user may set of what alerts are enriched with: sections ``geoip`` and ``container``."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, field

from ebpfsentinel.model.settings import Section, SettingsError, Spelling

_RESERVED: dict[str, Any] = {"x-reserved": True}


class GeoMode(Spelling):
    """Where the files come from."""

    FILE = "file"
    URL = "url"
    MAXMIND_ACCOUNT = "maxmind_account"


class GeoSource(Section):
    """MaxMind files (MMDB): countries or cities, and autonomous systems."""

    mode: Annotated[
        GeoMode, Meta(description="Only file: something else keeps the files fresh.")
    ] = GeoMode.FILE
    path: Annotated[str, Meta(description="A City or Country file; empty: none.")] = ""
    asn_path: Annotated[str, Meta(description="An ASN file; empty: none.")] = ""


class GeoIp(Section):
    """Countries and autonomous systems of addresses in alerts."""

    enabled: Annotated[bool, Meta(description="Look addresses up.")] = False
    source: Annotated[GeoSource, Meta(description="The files.")] = field(default_factory=GeoSource)
    refresh_interval_hours: Annotated[
        int,
        Meta(
            ge=1,
            description="A file that was replaced is noticed at once.",
            extra_json_schema=_RESERVED,
        ),
    ] = 24
    database_dir: Annotated[
        str, Meta(description="For files that are fetched.", extra_json_schema=_RESERVED)
    ] = "/var/lib/ebpfsentinel/geoip"

    def __post_init__(self) -> None:
        """Check that there is a file.

        Raises:
            SettingsError: there is none, or it would have to be fetched.
        """
        if not self.enabled:
            return
        if self.source.mode is not GeoMode.FILE:
            remedy = "Fetch it with geoipupdate, and write mode: file and its path."
            problem = f"{self.source.mode.value} is not in this version"
            raise SettingsError("source.mode", problem, remedy)
        if not self.source.path and not self.source.asn_path:
            remedy = "Write path or asn_path, such as /var/lib/GeoIP/GeoLite2-City.mmdb."
            raise SettingsError("source", "names no file", remedy)


class Resolver(Section):
    """Containers of processes."""

    enabled: Annotated[bool, Meta(description="Find the names of containers.")] = True
    cache_size: Annotated[int, Meta(ge=1, le=1_000_000, description="Containers remembered.")] = (
        4096
    )
    proc_path: Annotated[str, Meta(description="procfs.", extra_json_schema=_RESERVED)] = "/proc"
    cgroup_root: Annotated[str, Meta(description="cgroupfs.", extra_json_schema=_RESERVED)] = (
        "/sys/fs/cgroup"
    )


class Docker(Section):
    """Names and images from what Docker keeps in its folder; its socket is not asked."""

    enabled: Annotated[bool, Meta(description="Read them.")] = True
    root: Annotated[str, Meta(description="Docker's folder.")] = "/var/lib/docker"
    cache_ttl_seconds: Annotated[
        int, Meta(ge=1, le=86400, description="How long what was found holds.")
    ] = 300
    socket: Annotated[str, Meta(description="Its socket.", extra_json_schema=_RESERVED)] = (
        "/var/run/docker.sock"
    )
    cache_size: Annotated[int, Meta(ge=1, description="Entries.", extra_json_schema=_RESERVED)] = (
        1024
    )
    timeout_ms: Annotated[int, Meta(ge=1, description="Patience.", extra_json_schema=_RESERVED)] = (
        2000
    )


class Podman(Section):
    """Names and images from what Podman keeps in its folder."""

    root: Annotated[str, Meta(description="The storage folder of containers.")] = (
        "/var/lib/containers/storage"
    )


class Kubernetes(Section):
    """Pods and namespaces from the log links that every kubelet makes."""

    enabled: Annotated[bool, Meta(description="Read them.")] = True
    log_dir: Annotated[str, Meta(description="Folder of the links.")] = "/var/log/containers"
    node_name: Annotated[str | None, Meta(description="The node.", extra_json_schema=_RESERVED)] = (
        None
    )
    label_filter: Annotated[
        list[str], Meta(description="Only these pods.", extra_json_schema=_RESERVED)
    ] = field(default_factory=list)


class Container(Section):
    """Names of containers and pods in alerts."""

    resolver: Annotated[Resolver, Meta(description="Whether at all.")] = field(
        default_factory=Resolver
    )
    docker: Annotated[Docker, Meta(description="Docker.")] = field(default_factory=Docker)
    podman: Annotated[Podman, Meta(description="Podman.")] = field(default_factory=Podman)
    kubernetes: Annotated[Kubernetes, Meta(description="Kubernetes.")] = field(
        default_factory=Kubernetes
    )
