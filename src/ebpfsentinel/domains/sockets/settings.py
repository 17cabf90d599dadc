"""What a user may set of who uses which socket: section ``sockets``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from ebpfsentinel.model.settings import Section


class SocketsSettings(Section):
    """The ``sockets`` section."""

    enabled: Annotated[
        bool, Meta(description="Note which process connects, accepts, binds and sends.")
    ] = True
