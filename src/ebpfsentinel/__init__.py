"""eBPFsentinel: one Linux security agent that enforces in the kernel and explains every verdict.

The folders are the stations of one journey; ``ARCHITECTURE.md`` walks a packet and an exec
through them, and ``flow.py`` is that journey as code.
"""

__version__ = "0.1.0"
