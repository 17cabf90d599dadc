"""What becomes of an alert between engine and destination; pure, like the engines.

:class:`~ebpfsentinel.alerts.fold.Fold` names alerts, joins equal ones and throttles the rest;
:class:`~ebpfsentinel.alerts.exceptions.Exceptions` holds back what nobody wants to hear of.
"""

from ebpfsentinel.alerts.exceptions import AlertException, Exceptions, Scope, made_from
from ebpfsentinel.alerts.fold import Fold

__all__ = ["AlertException", "Exceptions", "Fold", "Scope", "made_from"]
