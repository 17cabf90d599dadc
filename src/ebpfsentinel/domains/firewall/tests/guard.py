"""The loaded firewall on one side of a network."""

from __future__ import annotations

from ebpfsentinel.domains.firewall import DOMAIN
from ebpfsentinel.domains.firewall.tests.judge import Judge
from ebpfsentinel.kernel.load import LinuxKernel


class Guard:
    """The loaded kernel on the agent's side of the network."""

    def __init__(self, network, mode):
        self.network = network
        self.kernel = network.agent.call(LinuxKernel, xdp_mode=mode)
        network.agent.call(self.kernel.load, [DOMAIN])
        self.judge = Judge(self.kernel)
        self.judge.rules()

    def attach(self):
        self.network.agent.call(self.kernel.attach, [self.network.agent.device])
        (found,) = self.kernel.attachments()
        return found.how

    def close(self):
        self.network.agent.call(self.kernel.detach)
