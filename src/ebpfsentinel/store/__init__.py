"""What survives a restart: runtime items, memos, alerts, audit entries and rule history.

One SQLite file (WAL) in the state folder, one :class:`~ebpfsentinel.store.store.Store`, one small
room per kind. The verbs are ``append`` and ``query`` (``put``, ``remove`` and ``get`` where there
is one value a key).
"""

from ebpfsentinel.store.alerts import AlertQuery
from ebpfsentinel.store.archive import ArchiveError, Manifest
from ebpfsentinel.store.audit import AuditEntry, AuditQuery, RuleChange
from ebpfsentinel.store.chain import Verification, verify_export
from ebpfsentinel.store.database import StoreError
from ebpfsentinel.store.store import Store

__all__ = [
    "AlertQuery",
    "ArchiveError",
    "AuditEntry",
    "AuditQuery",
    "Manifest",
    "RuleChange",
    "Store",
    "StoreError",
    "Verification",
    "verify_export",
]
