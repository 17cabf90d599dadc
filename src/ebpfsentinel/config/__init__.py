"""Settings: read, check, explain, publish.

:func:`load` is the whole journey; :func:`~ebpfsentinel.config.cards.discover` finds the cards whose
settings it reads. Depends on the model alone.
"""

from ebpfsentinel.config.cards import discover
from ebpfsentinel.config.example import example, schema
from ebpfsentinel.config.guarded import is_loopback
from ebpfsentinel.config.load import Loaded, load, settings_type
from ebpfsentinel.config.masking import masked
from ebpfsentinel.config.sections import CoreSettings
from ebpfsentinel.config.shape import convert, nearest

__all__ = [
    "CoreSettings",
    "Loaded",
    "convert",
    "discover",
    "example",
    "is_loopback",
    "load",
    "masked",
    "nearest",
    "schema",
    "settings_type",
]
