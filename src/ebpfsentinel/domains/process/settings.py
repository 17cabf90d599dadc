"""What a user may set of the process domain: section ``process``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from ebpfsentinel.model.settings import Mode, Section

NEVER_KILL = [
    "/usr/sbin/sshd",
    "/usr/lib/openssh/*",
    "/bin/login",
    "/usr/bin/login",
    "/lib/systemd/*",
    "/usr/lib/systemd/*",
    "/sbin/init",
    "/usr/sbin/init",
    "/usr/bin/dbus-daemon",
    "/usr/bin/containerd",
    "/usr/bin/dockerd",
]
"""Executables that losing would lock the operator out of the machine."""


class ProcessSettings(Section):
    """Processes: what they execute, whom they trace, which ids they take on."""

    enabled: Annotated[bool, Meta(description="Watch processes.")] = True
    mode: Annotated[
        Mode | None,
        Meta(
            description="alert: report what a kill rule would have killed. block: kill it, "
            "where enable_kill allows. Default: block when enable_kill is set, else alert."
        ),
    ] = None
    rules_file: Annotated[
        str,
        Meta(
            description='JSON file of rules: {"rules": [{"name", "condition", "risk_score", '
            '"action"}]}. Empty: the rules that come with the product.'
        ),
    ] = ""
    ignored: Annotated[
        list[Annotated[str, Meta(min_length=1, max_length=127)]],
        Meta(
            description="Processes that no rule judges: a name as the kernel has it (15 "
            "characters), or an executable path; a '*' at the end makes it a prefix. A name is "
            "chosen by the process itself, so prefer paths.",
            max_length=256,
        ),
    ] = field(default_factory=list)
    enable_kill: Annotated[bool, Meta(description="Let rules with action kill send SIGKILL.")] = (
        False
    )
    never_kill: Annotated[
        list[Annotated[str, Meta(min_length=2, pattern="^/")]],
        Meta(
            description="Executable paths that are never killed ('*' at the end: prefix). Process "
            "1, kernel threads, the agent and its ancestors are always on this list."
        ),
    ] = field(default_factory=lambda: list(NEVER_KILL))
    capture_args: Annotated[
        bool,
        Meta(
            description="Collect the arguments of every exec. Off: only when a rule reads them. "
            "Arguments can hold passwords."
        ),
    ] = True
    capture_cwd: Annotated[
        bool,
        Meta(
            description="Collect the working directory of every exec. Off: only when a rule "
            "reads it."
        ),
    ] = True
    history: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="How many exited processes the tree still remembers."),
    ] = 4096

    @property
    def effective_mode(self) -> Mode:
        """The mode, or what it is where none is set."""
        return self.mode or (Mode.BLOCK if self.enable_kill else Mode.ALERT)


def spared(settings: ProcessSettings) -> list[str] | None:
    """Whom kills spare; None: nothing is killed."""
    kills = settings.enable_kill and settings.effective_mode is Mode.BLOCK
    return settings.never_kill if kills else None
