"""How an alert is written: one pure file a format, all shared by every sender.

A writer takes an alert and where it comes from, and gives bytes without a line break in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebpfsentinel.model.destinations import Format
from ebpfsentinel.sinks.formats import cef, ecs, ocsf

if TYPE_CHECKING:
    from collections.abc import Callable

    from ebpfsentinel.model.alert import Alert
    from ebpfsentinel.sinks.backlog import Item
    from ebpfsentinel.sinks.formats.origin import Origin

_WRITERS: dict[Format, Callable[[Alert, Origin], bytes]] = {
    Format.OCSF: ocsf.write,
    Format.ECS: ecs.write,
    Format.CEF: cef.write,
}


def write(item: Item, form: Format, origin: Origin) -> bytes:
    """The alert in this format; ``json`` is the alert as the API has it."""
    writer = _WRITERS.get(form)
    return writer(item.alert, origin) if writer else item.body
