"""The REST views of the tree."""

import pytest
from litestar import Litestar
from litestar.testing import TestClient
from process_records import NOW, bare, record, rows

from ebpfsentinel.domains.process.api import routes


@pytest.fixture
def client():
    made = bare()
    made.feed(
        "process_tasks",
        rows(
            record("task", 1, 1, (0, 0), path=b"/sbin/init"),
            record("task", 20, 200, (1, 1), path=b"/usr/sbin/sshd"),
        ),
        NOW,
    )
    made.feed("execs", record("exec", 30, 300, (20, 200), path=b"/bin/bash", argv=["bash"]), NOW)
    made.feed("execs", record("exec", 40, 400, (30, 300), path=b"/bin/ls"), NOW)
    made.feed("exits", record("exit", 40, 400, (30, 300), code=2), NOW)
    with TestClient(Litestar(routes(made, None))) as found:
        yield found


def test_the_tree_nested(client):
    body = client.get("/api/v1/process/tree").json()
    assert body["total"] == 3
    (init,) = body["processes"]
    assert init["children"][0]["children"][0]["argv"] == ["bash"]


def test_the_tree_flat_and_limited(client):
    found = client.get("/api/v1/process/tree", params={"view": "flat", "limit": 2}).json()
    assert [each["pid"] for each in found["processes"]] == [1, 20]
    assert "children" not in found["processes"][0]


@pytest.mark.parametrize("view", ["nested", "flat"])
def test_a_part_of_the_tree(client, view):
    found = client.get("/api/v1/process/tree", params={"view": view, "pid": 20}).json()
    top = found["processes"][0]
    assert top["path"] == "/usr/sbin/sshd"
    below = top["children"] if view == "nested" else found["processes"][1:]
    assert [each["pid"] for each in below] == [30]


def test_one_process_with_its_ancestors(client):
    found = client.get("/api/v1/process/30").json()
    assert [each["name"] for each in found["ancestors"]] == ["sshd", "init"]
    assert found["exit"] is None


def test_one_that_has_exited(client):
    assert client.get("/api/v1/process/40").json()["exit"]["code"] == 2


def test_a_pid_that_nobody_has(client):
    assert client.get("/api/v1/process/99").status_code == 404


@pytest.mark.parametrize("query", [{"limit": 0}, {"view": "round"}, {"limit": "x"}])
def test_a_query_that_makes_no_sense(client, query):
    assert client.get("/api/v1/process/tree", params=query).status_code == 400
