"""Real traffic between two namespaces past a whole agent: what it says of flows, what it keeps."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import threading
import time

import pytest

from tests.lab import AGENT, GUARDED, GUARDED6, SENDER, SENDER6, Lab, ip
from tests.waiting import until

ENDS = {4: (SENDER, GUARDED), 6: (SENDER6, GUARDED6)}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
BOTH = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture
def lab(tmp_path):
    made = Lab(tmp_path)
    yield made
    made.close()


def sections(**fields):
    return {
        "conntrack": {"enabled": True, "max_entries": 4096} | fields,
        "process": {"enabled": False},
        "firewall": {"anti_lockout": {"enabled": False}},
    }


@contextlib.contextmanager
def connection(lab, family=4, port=7000):
    """A connected client and the server's end of it."""
    with lab.inside(lab.guarded):
        listener = socket.create_server((ENDS[family][1], port), family=FAMILY[family])
    with lab.inside(lab.sender):
        client = socket.socket(FAMILY[family])
    with listener, client:
        client.settimeout(60)
        client.connect((ENDS[family][1], port))
        server, _ = listener.accept()
        with server:
            server.settimeout(60)
            yield client, server


def talk(client, server, count=1):
    for _ in range(count):
        client.sendall(b"hello")
        assert server.recv(64) == b"hello"
        server.sendall(b"well")
        assert client.recv(64) == b"well"


def listed(agent, *filters):
    return agent.cli("conntrack", "list", *filters)["connections"]


def flow_of(agent, *filters, **wanted):
    """The flow that the filters name, once it is as wanted."""

    def look():
        found = listed(agent, *filters)
        return len(found) == 1 and wanted.items() <= found[0].items() and found[0]

    return until(look)


@BOTH
def test_a_real_connection_is_followed_to_its_end(lab, family):
    agent = lab.agent(**sections())
    with connection(lab, family) as (client, server):
        talk(client, server, 3)
        flow = flow_of(agent, "--port", "7000", state="established")
        assert (flow["src_ip"], flow["dst_ip"]) == ENDS[family]
        assert flow["dst_port"] == 7000
        assert flow["src_port"] == client.getsockname()[1]
        assert flow["packets_fwd"] >= 4
        assert flow["packets_rev"] >= 4
        assert abs(flow["start_ns"] - time.time_ns()) < 60e9
    flow = flow_of(agent, "--port", "7000", state="time_wait")
    assert flow["bytes_fwd"] >= flow["packets_fwd"] * 54 + 15
    assert agent.cli("conntrack", "status")["invalid"] == 0


@BOTH
def test_window_checks_find_nothing_wrong_with_a_real_transfer(lab, family):
    agent = lab.agent(**sections(window_checks=True))
    with connection(lab, family) as (client, server):
        sending = threading.Thread(target=client.sendall, args=(bytes(4_000_000),))
        sending.start()
        left = 4_000_000
        while left:
            left -= len(server.recv(1 << 20))
        sending.join()
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""
    flow = flow_of(agent, "--port", "7000", state="time_wait")
    assert flow["bytes_fwd"] > 4_000_000
    assert agent.cli("conntrack", "status")["invalid"] == 0


@BOTH
def test_pings_are_flows_and_refused_datagrams_are_related(lab, family):
    agent = lab.agent(**sections())
    there = ENDS[family][1]
    assert lab.run(lab.sender, "ping", "-c", "3", "-i", "0.2", there).returncode == 0
    flow = flow_of(agent, "--protocol", "icmp" if family == 4 else "icmpv6", state="replied")
    assert (flow["packets_fwd"], flow["packets_rev"]) == (3, 3)
    with lab.inside(lab.sender):
        client = socket.socket(FAMILY[family], socket.SOCK_DGRAM)
    with client:
        client.connect((there, 4321))
        client.send(b"anybody?")
        client.settimeout(60)
        with pytest.raises(ConnectionRefusedError):
            client.recv(1)
    flow_of(agent, "--dst-port", "4321", state="unreplied")
    assert agent.cli("conntrack", "status")["related"] == 1


@BOTH
def test_fragments_of_a_real_datagram_belong_to_its_flow(lab, family):
    agent = lab.agent(**sections())
    with lab.inside(lab.guarded):
        server = socket.socket(FAMILY[family], socket.SOCK_DGRAM)
    with lab.inside(lab.sender):
        client = socket.socket(FAMILY[family], socket.SOCK_DGRAM)
    with server, client:
        server.bind((ENDS[family][1], 5555))
        server.settimeout(60)
        client.sendto(bytes(6000), (ENDS[family][1], 5555))
        assert len(server.recv(8000)) == 6000
    flow = flow_of(agent, "--port", "5555", packets_fwd=5)
    assert flow["bytes_fwd"] > 6000
    assert agent.cli("conntrack", "status")["fragments_lost"] == 0


def test_a_connection_from_before_the_agent_is_picked_up(lab):
    with connection(lab) as (client, server):
        talk(client, server)
        agent = lab.agent(**sections())
        talk(client, server, 2)
        flow = flow_of(agent, "--port", "7000", state="established")
        assert flow["dst_port"] == 7000


def test_flows_ended_by_hand_are_gone_and_it_is_audited(lab):
    agent = lab.agent(**sections())
    with connection(lab) as (client, server), connection(lab, port=7001) as (other, its_server):
        talk(client, server)
        talk(other, its_server)
        assert agent.cli("conntrack", "flush", "--dst-port", "7000") == {"flushed": 1}
        assert [flow["dst_port"] for flow in listed(agent)] == [7001]
        talk(client, server)
        flow_of(agent, "--port", "7000", state="established")
        assert agent.cli("conntrack", "flush", "--all") == {"flushed": 2}
        assert listed(agent) == []
    trail = agent.cli("audit", "logs")["entries"]
    told = [(each["component"], each["action"], each["detail"]) for each in trail]
    assert ("conntrack", "flush", "1 flows: dst_port 7000") in told
    assert ("conntrack", "flush", "2 flows: all") in told


def test_a_filter_that_cannot_be_understood_is_refused_with_its_remedy(lab):
    agent = lab.agent(**sections())
    told = lab.run(lab.guarded, str(AGENT), "conntrack", "list", "--state", "establishd")
    assert told.returncode == 1
    assert "Did you mean 'established'?" in told.stderr
    agent.cli("conntrack", "flush", code=2)


def test_what_becomes_of_flows_is_told_while_somebody_listens(lab):
    lab.agent(**sections())
    with connection(lab, port=6999):
        pass
    watch = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{lab.guarded}", AGENT, "-o", "json", "conntrack", "watch"],
        stdout=subprocess.PIPE,
        bufsize=0,  # what select() does not see is not there
    )
    told = []
    try:
        while "new" not in told:
            with connection(lab) as (client, server):
                talk(client, server)
            told += drained(watch)
        told = told[told.index("new") :]  # before it: of a connection that was there already
        while "closed" not in told:
            told += drained(watch)
    finally:
        watch.terminate()
        watch.wait(60)
        watch.stdout.close()
    assert told.index("new") < told.index("established") < told.index("closed")


def drained(watch):
    """The events told in the next half second about port 7000."""
    import select  # noqa: PLC0415

    found, deadline = [], time.monotonic() + 0.5
    while (left := deadline - time.monotonic()) > 0:
        if select.select([watch.stdout], [], [], left)[0]:
            each = json.loads(watch.stdout.readline())
            assert each["dst_port"] == 7000, "nobody listened before"
            found.append(each["event"])
    return found


def test_kill_9_and_a_restart_keep_every_flow(lab):
    kept = sections()
    kept["agent"] = {"on_exit": "keep"}
    agent = lab.agent(**kept)
    try:
        with connection(lab) as (client, server):
            talk(client, server)
            before = flow_of(agent, "--port", "7000", state="established")
            agent.signal(signal.SIGKILL)
            agent.wait()
            agent.process.stdout.close()
            talk(client, server, 20)
            agent.start()
            after = flow_of(agent, "--port", "7000", state="established")
            assert after["packets_fwd"] >= before["packets_fwd"] + 20, "counted with no agent there"
            assert abs(after["start_ns"] - before["start_ns"]) < 50_000_000
            assert agent.cli("conntrack", "status")["created"] == 1
    finally:
        agent.end()
        agent.cli("detach", "--all")


def test_a_reload_changes_timeouts_size_and_whether_there_is_a_table(lab):
    agent = lab.agent(**sections())

    def reloaded(**fields):
        agent.write(**sections(**fields))
        assert agent.cli("config", "reload")["status"] == "ok"

    with connection(lab) as (client, server):
        talk(client, server)
        before = flow_of(agent, "--port", "7000", state="established")
        reloaded(max_entries=100_000, timeouts={"tcp_established": 60})
        talk(client, server)
        after = flow_of(agent, "--port", "7000", state="established")
        assert after["start_ns"] == before["start_ns"]
        assert after["packets_fwd"] > before["packets_fwd"]
        assert 59e9 < after["expires_ns"] - after["last_seen_ns"] < 61e9
        assert agent.cli("conntrack", "status")["moved"] == 1
        reloaded(enabled=False)
        assert listed(agent) == []
        reloaded()
        talk(client, server)
        flow_of(agent, "--port", "7000", state="established")


def test_reloads_under_load_lose_no_flow(lab):
    agent = lab.agent(**sections())
    with contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(connection(lab, port=7100 + at)) for at in range(20)]
        for size in (8192, 2000, 50_000, 4096):
            agent.write(**sections(max_entries=size))
            for client, server in pairs:
                talk(client, server)
            assert agent.cli("config", "reload")["status"] == "ok"
            for client, server in pairs:
                talk(client, server)
        flows = listed(agent, "--state", "established", "--dst-port", "7100-7119")
        assert len(flows) == 20
        assert min(flow["packets_fwd"] for flow in flows) >= 2 + 2 * 4 * 2
        status = agent.cli("conntrack", "status")
        assert (status["created"], status["moved"], status["move_lost"]) == (20, 80, 0)


def test_a_threshold_without_effect_is_refused_at_the_start(lab):
    (lab.tmp / "config.json").write_text(
        json.dumps({"agent": {"interfaces": ["guard0"]}} | sections(half_open_threshold=100))
    )
    told = lab.run(lab.guarded, str(AGENT), "-c", str(lab.tmp / "config.json"), "config", "check")
    assert told.returncode
    assert "connection_tracking.half_open_threshold" in told.stdout + told.stderr


def test_a_server_restarted_under_load(lab):
    agent = lab.agent(**sections())
    for turn in range(2):
        server = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{lab.guarded}", "iperf3", "-s", "-1", "--forceflush"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert "listening" in "".join(server.stdout.readline() for _ in range(2))
        load = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{lab.sender}", "iperf3", "-c", GUARDED, "-t", "20"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until_load(agent)
        (server if turn == 0 else load).terminate()
        load.wait(60)
        server.terminate()
        server.wait(60)
        server.stdout.close()
    status = agent.cli("conntrack", "status")
    gone = status["expired"] + status["replaced"] + sum(status["evicted"].values())
    assert status["created"] == status["active"] + gone
    assert max(flow["bytes_fwd"] for flow in listed(agent, "--port", "5201")) > 1_000_000


def until_load(agent):
    """Two flows a run: control and data; wait until data has flowed."""
    filters = ("--port", "5201", "--state", "established")
    until(lambda: any(flow["bytes_fwd"] > 1_000_000 for flow in listed(agent, *filters)))


@pytest.fixture
def behind(lab):
    """A third host, which the guarded one forwards to; its namespace."""
    name = f"{lab.guarded}-r"
    ip("netns", "add", name)
    ip("-n", lab.guarded, "link", "add", "guard1", "type", "veth", "peer", "far0", "netns", name)
    for space, device, ours in ((lab.guarded, "guard1", "10.78.0.1"), (name, "far0", "10.78.0.2")):
        ip("-n", space, "addr", "add", f"{ours}/24", "dev", device)
        ip("-n", space, "link", "set", device, "up")
    ip("-n", name, "route", "add", "default", "via", "10.78.0.1")
    ip("-n", lab.sender, "route", "add", "10.78.0.0/24", "via", GUARDED)
    lab.run(lab.guarded, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    yield name
    ip("netns", "del", name)


@pytest.mark.parametrize("guarded", [["guard0", "guard1"], ["guard1"], ["guard0"]])
def test_a_forwarded_packet_counts_once(lab, behind, guarded):
    agent = lab.agent(agent={"interfaces": guarded}, **sections())
    assert lab.run(lab.sender, "ping", "-c", "5", "-i", "0.2", "10.78.0.2").returncode == 0
    flow = flow_of(agent, "--address", "10.78.0.2", state="replied")
    assert (flow["src_ip"], flow["packets_fwd"], flow["packets_rev"]) == (SENDER, 5, 5)
    with lab.inside(behind):
        listener = socket.create_server(("10.78.0.2", 80))
    with lab.inside(lab.sender):
        client = socket.create_connection(("10.78.0.2", 80), 60)
    server, _ = listener.accept()
    with listener, client, server:
        talk(client, server, 5)
        flow = flow_of(agent, "--port", "80", state="established")
        assert flow["packets_fwd"] < 15


@BOTH
def test_what_goes_over_lo_counts_once(lab, family):
    agent = lab.agent(agent={"interfaces": ["guard0", "lo"]}, **sections())
    there = {4: "127.0.0.1", 6: "::1"}[family]
    assert lab.run(lab.guarded, "ping", "-c", "3", "-i", "0.2", there).returncode == 0
    flow = flow_of(agent, "--protocol", "icmp" if family == 4 else "icmpv6", state="replied")
    assert (flow["packets_fwd"], flow["packets_rev"]) == (3, 3)


def test_metrics_of_flows(lab):
    agent = lab.agent(**sections())
    with connection(lab) as (client, server):
        talk(client, server)
        flow_of(agent, "--port", "7000", state="established")
        told = lab.run(lab.guarded, "curl", "-s", "http://127.0.0.1:9090/metrics").stdout
        values = dict(
            line.rsplit(" ", 1)
            for line in told.splitlines()
            if line.startswith("ebpfsentinel_conntrack")
        )
    assert float(values["ebpfsentinel_conntrack_active"]) >= 1
    assert float(values["ebpfsentinel_conntrack_created_total"]) >= 1
    assert 'ebpfsentinel_conntrack_evicted_total{kind="assured"}' in values
