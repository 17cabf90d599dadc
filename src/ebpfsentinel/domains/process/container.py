"""Container ids from cgroup paths.

Runtimes name the cgroup of a container after it: ``docker-<id>.scope``, ``crio-<id>.scope``,
``cri-containerd-<id>.scope``, ``libpod-<id>.scope``, ``/docker/<id>``,
``/kubepods/.../pod<uid>/<id>``, ``lxc.payload.<name>``, ``/lxc/<name>``,
``/machine.slice/machine-<name>.scope``.
"""

from __future__ import annotations

import re

_HEX = re.compile(
    r"(?:^|[/-])(?:docker|containerd|cri-containerd|crio|libpod|podman)[-/](?:conmon-)?([0-9a-f]{64})"
    r"|/kubepods[^/]*(?:/[^/]*)*?/(?:[a-z-]+-)?([0-9a-f]{64})(?:\.scope)?(?:/|$)"
    r"|/([0-9a-f]{64})(?:\.scope)?(?:/|$)"
    r"|/ecs/[^/]+/([0-9a-f]{32}-\d+)(?:/|$)"
)
_NAMED = re.compile(
    r"/(?:lxc\.payload[./]|lxc/)([^/]+)|/machine\.slice/machine-([^/]+)\.scope|/nspawn/([^/]+)"
)


def container_id(cgroup: str) -> str:
    """The id, or for LXC and nspawn the name, of the container of a cgroup; empty when none."""
    found = _HEX.search(cgroup) or _NAMED.search(cgroup)
    return next((group for group in found.groups() if group), "") if found else ""
