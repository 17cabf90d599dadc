"""Whatever stands in a ring: no crash, and alerts that are JSON."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from process_records import NOW, engine

from ebpfsentinel.domains.process.container import container_id
from ebpfsentinel.domains.process.engine import _TYPES
from ebpfsentinel.domains.process.events import (
    PROCESS_EXEC,
    PROCESS_EXEC_FAILED,
    PROCESS_EXEC_LARGE,
    PROCESS_EXIT,
    PROCESS_FORK,
    PROCESS_PTRACE,
    PROCESS_SETUID,
    PROCESS_TASK,
)
from ebpfsentinel.domains.process.fields import FIELDS
from ebpfsentinel.domains.process.image import Texts
from ebpfsentinel.domains.process.views import flat, nested
from ebpfsentinel.model.conditions import FieldType

RECORDS = {
    "execs": PROCESS_EXEC,
    "execs_large": PROCESS_EXEC_LARGE,
    "exec_fails": PROCESS_EXEC_FAILED,
    "forks": PROCESS_FORK,
    "exits": PROCESS_EXIT,
    "ptraces": PROCESS_PTRACE,
    "setuids": PROCESS_SETUID,
    "process_tasks": PROCESS_TASK,
}
_TRUE = {
    FieldType.STRING: "{0} == {0}",
    FieldType.STRINGS: "{0}.size() >= 0",
    FieldType.INT: "{0} < 9223372036854775807",
    FieldType.BOOL: "({0} || !{0})",
}
READS_ALL = " && ".join(_TRUE[field.type].format(field.name) for field in FIELDS)
RULES = json.dumps(
    {"rules": [{"name": "all", "condition": READS_ALL, "risk_score": 1, "action": "kill"}]}
)


@pytest.fixture(scope="module")
def judge():
    return engine(RULES, enable_kill=True)


@given(st.sampled_from(list(RECORDS)), st.binary(max_size=7000), st.integers(1, 3), st.booleans())
@settings(max_examples=300, deadline=None)
def test_any_bytes_as_records(judge, source, noise, count, ours):
    dtype = RECORDS[source]
    size = dtype.itemsize * count
    raw = (noise * (size // max(len(noise), 1) + 1))[:size].ljust(size, b"\xff")
    rows = np.frombuffer(raw, dtype).copy()
    if ours:
        rows["version"], rows["type"] = 1, _TYPES[source]
    outcome = judge.feed(source, rows, NOW)
    msgspec.json.encode(outcome.alerts)
    if ours and source != "process_tasks":
        assert sum(alert.count for alert in outcome.alerts) <= count
    msgspec.json.encode([flat(judge.tree, 10), nested(judge.tree, None, 10)])
    judge.tick(NOW)


def test_the_text_of_a_field_ends_with_the_field(judge):
    rows = np.zeros(1, PROCESS_EXEC)
    rows["version"], rows["type"], rows["pid"] = 1, 1, 9
    rows["path"], rows["cwd"] = b"/" + b"p" * 127, b"/" + b"c" * 127
    rows["argv"] = b"a" * 256
    (alert,) = judge.feed("execs", rows, NOW).alerts
    process = alert.context["process"]
    assert process["path"] == "/" + "p" * 127
    assert process["args"] == "a" * 256


@given(st.text(alphabet="/-.abcdef0123456789kubepodsdocker", max_size=200))
def test_any_cgroup_path_has_at_most_one_container(path):
    assert isinstance(container_id(path), str)


ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (f"/docker/{ID}", ID),
        (f"/system.slice/docker-{ID}.scope", ID),
        (f"/system.slice/docker-{ID}.scope/init.scope", ID),
        (f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", ID),
        (f"/kubepods/burstable/pod12-34/{ID}", ID),
        (f"/kubepods.slice/kubepods-burstable.slice/x.slice/crio-{ID}.scope", ID),
        (f"/machine.slice/libpod-{ID}.scope/container", ID),
        (f"/user.slice/user-1000.slice/libpod-{ID}.scope", ID),
        ("/lxc.payload.web", "web"),
        ("/lxc/db/system.slice", "db"),
        ("/machine.slice/machine-fedora.scope", "fedora"),
        ("/ecs/task/" + "0" * 32 + "-123", "0" * 32 + "-123"),
        ("/system.slice/ssh.service", ""),
        ("/user.slice/user-1000.slice/session-2.scope", ""),
        ("/", ""),
        ("", ""),
    ],
)
def test_container_ids(path, found):
    assert container_id(path) == found


@pytest.mark.parametrize("size", [8, 4096])
def test_texts_that_never_come_again_take_no_more_and_no_more_memory(size):
    """Who executes chooses them: a cache by number would hold a hundred megabytes of argv."""
    texts = Texts(lambda raw: tuple(raw.decode().split(" ")))
    largest = 0
    for number in range(20_000):
        raw = f"{number} ".encode().ljust(size, b"x")
        assert texts(raw)[0] == str(number)
        largest = max(largest, sum(map(len, texts._cache)) if number % 500 == 0 else 0)
    assert 0 < largest <= 1 << 21
    assert len(texts._cache) <= (1 << 21) // 400
