"""What becomes of an alert between engine and destination; pure, like the engines.

:class:`~ebpfsentinel.alerts.fold.Fold` names alerts, joins equal ones and throttles the rest.
"""

from ebpfsentinel.alerts.fold import Fold

__all__ = ["Fold"]
