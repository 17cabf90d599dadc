"""The command line, ``ebpfsentinel-agent``: runs the agent, or asks and tells one that runs.

* :mod:`~ebpfsentinel.cli.root`: the command, its options, and how verbs are found.
* :mod:`~ebpfsentinel.cli.session`: what a verb works with: the agent's API and the output.
* :mod:`~ebpfsentinel.cli.tables`: values as plain text for a terminal.
* :mod:`~ebpfsentinel.cli.agent`, ``alerts``, ``audit``, ``config``, ``cards``: the verbs.
* ``run``: no verb at all: the agent itself.

Exit codes: 0 done; 1 refused by the agent, or the agent is not well; 2 wrong usage; 3 no agent.
"""


def main() -> None:
    """The entry point of ``ebpfsentinel-agent``."""
    from ebpfsentinel.cli.root import root  # noqa: PLC0415 - `import ebpfsentinel.cli` stays free

    root(prog_name="ebpfsentinel-agent")
