"""Crowds of short-lived processes: is each flow named after the right one?"""

from __future__ import annotations

import os

import pytest

from tests.lab import GUARDED, GUARDED6, SENDER, SENDER6

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")

TCP, UDP, PORT = 6, 17, 8080


def last(made):
    """Who had a port last, and who served it: ports are used again."""
    in_turn = sorted(made, key=lambda line: int(line[3]))
    return {int(port): (int(pid), int(by)) for pid, port, by, _ in in_turn}


def served(tracked, where, host, workers=4):
    return tracked.crowd(where, "serves", host, PORT, workers)


@pytest.mark.parametrize("host", [SENDER, SENDER6])
def test_ten_thousand_connections_of_fifty_processes(tracked, lab, host):
    tracked.start()
    with served(tracked, lab.sender, host) as server:
        server.line()
        with tracked.crowd(lab.guarded, "asks", host, PORT, 50, 200) as clients:
            made = clients.lines()
    assert len(made) == 10_000
    found = tracked.owners(TCP, PORT)
    wrong = {port: pids for port, pids in last(made).items() if found.get(port) != pids}
    assert not wrong


@pytest.mark.parametrize("host", [GUARDED, GUARDED6])
def test_a_pre_forked_server_is_named_by_the_worker_that_serves(tracked, lab, host):
    tracked.start()
    with served(tracked, lab.guarded, host, 8) as server:
        server.line()
        with tracked.crowd(lab.sender, "asks", host, PORT, 10, 50) as clients:
            made = clients.lines()
    assert len(made) == 500
    assert len({line[2] for line in made}) > 1
    found = tracked.owners(TCP, PORT)
    assert last(made) == found


@pytest.mark.parametrize("connected", [0, 1])
@pytest.mark.parametrize("host", [SENDER, SENDER6])
def test_datagrams_are_named_connected_or_not(tracked, lab, host, connected):
    tracked.start()
    with tracked.crowd(lab.guarded, "tells", host, PORT, 50, 20, connected) as senders:
        made = senders.lines()
    assert len(made) == 1000
    found = tracked.owners(UDP, PORT)
    assert {port: pids[0] for port, pids in found.items()} == {
        port: pids[0] for port, pids in last(made).items()
    }


@pytest.mark.parametrize("host", [SENDER, SENDER6])
def test_a_socket_that_was_handed_over_is_of_who_sends_by_it(tracked, lab, host):
    tracked.start()
    with tracked.crowd(lab.guarded, "hands", host, PORT, 20) as senders:
        made = {int(port): int(pid) for pid, port in senders.lines()}
    assert len(set(made.values())) == 20
    found = tracked.owners(UDP, PORT)
    assert {port: pids[0] for port, pids in found.items()} == made


def test_a_connect_that_does_not_wait_is_named_alike(tracked, lab):
    tracked.start()
    with served(tracked, lab.sender, SENDER) as server:
        server.line()
        with tracked.crowd(lab.guarded, "asks", SENDER, PORT, 5, 20, 0) as clients:
            made = clients.lines()
    found = tracked.owners(TCP, PORT)
    assert last(made) == found


def test_both_ends_of_what_stays_on_this_host(tracked, lab):
    tracked.start("guard0", "lo")
    with served(tracked, lab.guarded, "127.0.0.1") as server:
        server.line()
        with tracked.crowd(lab.guarded, "asks", "127.0.0.1", PORT, 5, 20) as clients:
            made = clients.lines()
    found = tracked.owners(TCP, PORT)
    assert last(made) == found


def test_flows_from_before_the_agent(tracked, lab, tmp_path):
    go = tmp_path / "go"
    with tracked.crowd(lab.guarded, "keeps", GUARDED, PORT, 4) as server:
        assert server.line()[0] == "ready"
        with tracked.crowd(lab.sender, "holds", GUARDED, PORT, 50, 20, str(go)) as clients:
            made, accepted = {}, {}
            while len(accepted) < 1000:
                pid, port = server.line()
                accepted[int(port)] = int(pid)
            held = 0
            while held < 50:
                words = clients.line()
                if words == ["held"]:
                    held += 1
                else:
                    made[int(words[1])] = int(words[0])
            tracked.start()
            go.write_text("")
            sent = 0
            while sent < 50:
                sent += clients.line() == ["sent"]
            check_before(tracked, made, accepted)


def check_before(tracked, made, accepted):
    wanted = {port: (made[port], accepted[port]) for port in made}
    here = {port: by for port, (_, by) in tracked.owners(TCP, PORT).items()}
    assert share(here, accepted) >= 0.99, "at their first packet"
    tracked.kernel.seed("sockets_seed")
    assert share(tracked.owners(TCP, PORT), wanted) >= 0.99, "another namespace is asked again"


def share(found, wanted):
    """The part of what was wanted that was found."""
    return sum(found.get(port) == value for port, value in wanted.items()) / len(wanted)
