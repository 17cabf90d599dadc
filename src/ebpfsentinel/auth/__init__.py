"""Who calls, and what they may do: keys, tokens, certificates, roles, and how often.

:class:`~ebpfsentinel.auth.gatekeeper.Gatekeeper` tells who calls,
:mod:`ebpfsentinel.auth.permissions` what each role may, and
:class:`~ebpfsentinel.auth.tls.TlsFiles` keeps the certificates. :mod:`ebpfsentinel.api` asks before
every request, REST and gRPC alike.
"""

from ebpfsentinel.auth.gatekeeper import NOBODY_ASKED, Gatekeeper
from ebpfsentinel.auth.tls import TlsFiles

__all__ = ["NOBODY_ASKED", "Gatekeeper", "TlsFiles"]
