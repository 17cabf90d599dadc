"""The REST, SSE and WebSocket face of the agent: one app, generic over the domain cards.

:func:`~ebpfsentinel.api.app.create_app` takes an :class:`~ebpfsentinel.api.agent.Agent`;
:class:`~ebpfsentinel.api.serve.Listeners` serves it. Reads never change anything; writes go
through the agent, which plans, applies, stores and audits.
"""

from ebpfsentinel.api.agent import Agent, AlertFeed
from ebpfsentinel.api.app import create_app, create_metrics_app
from ebpfsentinel.api.serve import Listeners

__all__ = ["Agent", "AlertFeed", "Listeners", "create_app", "create_metrics_app"]
