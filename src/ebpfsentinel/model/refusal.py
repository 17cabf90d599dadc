"""Why a change to a collection is refused, whichever domain it belongs to."""

from __future__ import annotations


class DuplicateItem(Exception):  # noqa: N818 -- the word says it
    """There is an item of this key already."""


class UnknownItem(Exception):  # noqa: N818
    """There is no item of this key."""


class SystemItem(Exception):  # noqa: N818
    """The item belongs to the system or to the configuration file: it cannot be changed here."""


class UnknownChange(KeyError):  # noqa: N818 (a refusal, as above)
    """No change of this id waits to be confirmed."""


class OldConnection(ValueError):  # noqa: N818
    """A change must be confirmed over a connection that was opened after it was put in force."""
