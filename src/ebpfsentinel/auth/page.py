"""Writes the table of roles into the documentation: ``python -m ebpfsentinel.auth.page FILE``."""

from __future__ import annotations

import sys
from pathlib import Path

from ebpfsentinel.auth.permissions import as_markdown

BEGIN, END = "<!-- roles: written by make gen -->\n", "<!-- roles end -->"


def renewed(text: str) -> str:
    """The page with the table of now between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{as_markdown()}\n\n{END}{after}"


def main(path: Path, *, check: bool) -> int:
    """Write the page, or say whether it is fresh."""
    text = path.read_text("utf-8")
    fresh = renewed(text)
    if not check:
        path.write_text(fresh, "utf-8")
    elif text != fresh:
        sys.stderr.write(f"{path} is not fresh: run 'make gen'\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), check="--check" in sys.argv))
