"""Sockets: which process is at the end of a flow."""

from ebpfsentinel.domains.sockets.engine import SocketsEngine
from ebpfsentinel.domains.sockets.settings import SocketsSettings
from ebpfsentinel.model.domain import Canary, Deed, Domain, Program

_HOOKS = (
    "sockets_create",
    "sockets_connect4",
    "sockets_connect6",
    "sockets_sendmsg4",
    "sockets_sendmsg6",
    "sockets_bind4",
    "sockets_bind6",
    "sockets_release",
    "sockets_state",
    "sockets_accept",
    "sockets_accept4",
    "sockets_seed",
)

DOMAIN = Domain(
    name="sockets",
    summary="Names the process at each end of a flow, from its first packet on.",
    settings=SocketsSettings,
    engine=SocketsEngine,
    object="sockets.bpf.o",
    programs=tuple(Program(name, optional=True) for name in _HOOKS),
    polled=("sockets_count",),
    provides=("owners",),
    canaries=(Canary("connects", Deed.SOCKET, count=("sockets_count", "connected")),),
)
