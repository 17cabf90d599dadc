"""Build hook: compile every ``*.bpf.c``, so that an installed package carries ready objects."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).parent / "src"))


class CompileBpf(BuildHookInterface[Any]):
    """Runs ``ebpfsentinel.kernel.build`` over the source tree."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; a compiler error ends the build with its text."""
        from ebpfsentinel.kernel.build import build

        build(Path(self.root) / "src" / "ebpfsentinel")
