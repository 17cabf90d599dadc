"""Fixtures of the tests across stations."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


def _lab_module() -> Any:
    """``lab.py`` beside this file; importlib mode knows no packages of tests."""
    if "lab" not in sys.modules:
        spec = importlib.util.spec_from_file_location("lab", Path(__file__).with_name("lab.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules["lab"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["lab"]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Any]:
    made = _lab_module().Lab(tmp_path)
    try:
        yield made
    finally:
        made.close()
