"""What root hands over to the user of the agent, and what not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ebpfsentinel.kernel.confine import User
from ebpfsentinel.privileges import _hand_over

if TYPE_CHECKING:
    from pathlib import Path


def test_the_state_becomes_the_users_and_nothing_beyond_it_does(tmp_path: Path) -> None:
    state, secret = tmp_path / "state", tmp_path / "secret"
    secret.write_text("root's")
    (state / "spool").mkdir(parents=True)
    (state / "spool" / "segment").write_text("")
    (state / "link").symlink_to(secret)
    (state / "folder").symlink_to(tmp_path)
    (state / "name").hardlink_to(secret)
    _hand_over(state, User("64321", 64321, 64321))
    ours = [state, state / "spool", state / "spool" / "segment"]
    assert {each.stat().st_uid for each in ours} == {64321}
    assert {secret.stat().st_uid, tmp_path.stat().st_uid} == {os.geteuid()}
