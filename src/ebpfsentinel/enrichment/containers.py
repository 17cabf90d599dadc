"""Names of containers, from what runtimes and kubelets leave on disk.

Docker keeps ``containers/<id>/config.v2.json``, Podman one ``containers.json``; a kubelet links
``<pod>_<namespace>_<container>-<id>.log`` for each container it runs, whatever the runtime is.
Reading a file costs microseconds and needs no socket that could hang or be taken over.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ebpfsentinel.model.enriching import Container

_ID = re.compile(r"[0-9a-f]{12,64}")
_LOG = re.compile(r"(?P<pod>[^_]+)_(?P<namespace>[^_]+)_(?P<name>.+)-(?P<id>[0-9a-f]{64})\.log")
_MOST_FILE = 4 << 20
_UNKNOWN_S = 10.0
"""A container that is just being made may not be on disk yet: ask again soon."""


class Containers:
    """What is known of containers by id, remembered for a while."""

    def __init__(self, settings: Container) -> None:
        self._settings = settings
        self._known: OrderedDict[str, tuple[float, dict[str, Any]]] = OrderedDict()

    def describe(self, container: str) -> dict[str, Any]:
        """``name``, ``image``, ``runtime``, ``pod``, ``namespace``: those that are known."""
        until_s, found = self._known.get(container, (0.0, {}))
        if until_s > time.monotonic():
            return found
        found = self._look(container) if _ID.fullmatch(container) else {"name": container}
        holds_s = self._settings.docker.cache_ttl_seconds if found else _UNKNOWN_S
        self._known[container] = (time.monotonic() + holds_s, found)
        self._known.move_to_end(container)
        while len(self._known) > self._settings.resolver.cache_size:
            self._known.popitem(last=False)
        return found

    def _look(self, container: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for each in self._sources(container):
            found |= {key: value for key, value in each.items() if value}
        return found

    def _sources(self, container: str) -> Iterator[dict[str, Any]]:
        """The later know better."""
        yield self._podman(container)
        if self._settings.docker.enabled:
            yield self._docker(container)
        if self._settings.kubernetes.enabled:
            yield self._kubelet(container)

    def _docker(self, container: str) -> dict[str, Any]:
        root = Path(self._settings.docker.root) / "containers"
        tree = _json(root / container / "config.v2.json")
        if not isinstance(tree, dict):
            return {}
        config = _block(tree, "Config")
        labels = _block(config, "Labels")
        return {
            "name": str(tree.get("Name", "")).removeprefix("/"),
            "image": config.get("Image"),
            "runtime": "docker",
            "pod": labels.get("io.kubernetes.pod.name"),
            "namespace": labels.get("io.kubernetes.pod.namespace"),
        }

    def _podman(self, container: str) -> dict[str, Any]:
        root = Path(self._settings.podman.root) / "overlay-containers"
        tree = _json(root / "containers.json")
        for each in tree if isinstance(tree, list) else []:
            if isinstance(each, dict) and each.get("id") == container:
                about = _decoded(str(each.get("metadata", "")).encode())
                names = each.get("names") or [""]
                image = about.get("image-name") if isinstance(about, dict) else None
                return {"name": names[0], "image": image, "runtime": "podman"}
        return {}

    def _kubelet(self, container: str) -> dict[str, Any]:
        folder = Path(self._settings.kubernetes.log_dir)
        for path in folder.glob(f"*-{container}.log"):
            if found := _LOG.fullmatch(path.name):
                return {key: found[key] for key in ("pod", "namespace", "name")}
        return {}


def _json(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _decoded(file.read(_MOST_FILE))
    except OSError:
        return None


def _decoded(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _block(tree: dict[str, Any], key: str) -> dict[str, Any]:
    found = tree.get(key)
    return found if isinstance(found, dict) else {}
