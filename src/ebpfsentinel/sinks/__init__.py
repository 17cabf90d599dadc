"""Where alerts go: one file per destination, all with the verb ``deliver``.

:mod:`~ebpfsentinel.sinks.log` is the destination every agent has, and sets up logging as well.
"""

from ebpfsentinel.sinks.live import LiveFeed
from ebpfsentinel.sinks.log import LogSink, announce, configure
from ebpfsentinel.sinks.sink import Sink

__all__ = ["LiveFeed", "LogSink", "Sink", "announce", "configure"]
