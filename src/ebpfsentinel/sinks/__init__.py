"""Where alerts go, all with the verb ``deliver``, none of which waits for a network.

:class:`~ebpfsentinel.sinks.live.LiveFeed` fans out to whoever listens;
:class:`~ebpfsentinel.sinks.router.Router` queues at the destinations of the routes, each of which
has a spool on disk, tries again, and a sender (one file each in ``senders/``) for its last metres.
:mod:`~ebpfsentinel.sinks.log` sets up logging as well.
"""

from ebpfsentinel.sinks.live import LiveFeed
from ebpfsentinel.sinks.log import LogSink, announce, configure
from ebpfsentinel.sinks.router import DestinationView, Router
from ebpfsentinel.sinks.sink import Sink

__all__ = [
    "DestinationView",
    "LiveFeed",
    "LogSink",
    "Router",
    "Sink",
    "announce",
    "configure",
]
