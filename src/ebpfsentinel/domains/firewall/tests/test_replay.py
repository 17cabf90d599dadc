"""Captures through the real programs: verdicts per rule, differences, and nothing disturbed."""

import json
import random
import struct

import pytest
from click.testing import CliRunner

from ebpfsentinel.cli.root import root
from ebpfsentinel.domains.firewall.tests import packets

RULES = """
agent: {{interfaces: [lo]}}
firewall:
  mode: {mode}
  default_policy: {policy}
  anti_lockout: {{enabled: false}}
  rules:
    - {{id: office, priority: 10, action: allow, src_ip: 192.0.2.0/24}}
    - {{id: no-telnet, priority: 20, action: deny, protocol: tcp, dst_port: {port}}}
    - {{id: see-dns, priority: 30, action: log, protocol: udp, dst_port: 53}}
    - {{id: on-lo, priority: 40, action: deny, protocol: icmp, scope: lo}}
"""


def write(path, frames):
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    records = (struct.pack("<IIII", 0, 0, len(f), len(f)) + f for f in frames)
    path.write_bytes(head + b"".join(records))
    return str(path)


@pytest.fixture
def files(tmp_path):
    def made(mode="block", policy="pass", port=23, name="now.yaml"):
        path = tmp_path / name
        path.write_text(RULES.format(mode=mode, policy=policy, port=port))
        return str(path)

    return made


@pytest.fixture
def run(files):
    def ran(*arguments, config=None):
        config = config or files()
        given = ["--config", config, "--port", "9", "-o", "json", "firewall", *arguments]
        found = CliRunner().invoke(root, given)
        assert found.exit_code == 0, found.output
        return json.loads(found.output)

    return ran


FRAMES = [
    packets.tcp4(src="192.0.2.7", dport=23),
    packets.tcp4(dport=23),
    packets.tcp4(dport=80),
    packets.udp6(dport=53),
    packets.ether(packets.ARP()),
    b"short",
    packets.ether(packets.IP(src="10.0.0.1", dst="10.0.0.2") / packets.ICMP()),
]


def rows(side):
    return {(row["rule"], row["verdict"]): row["frames"] for row in side["rules"]}


@pytest.mark.parametrize("mode", ["alert", "block"])
def test_every_frame_gets_the_verdict_of_the_real_programs(run, files, tmp_path, mode):
    body = run("replay", write(tmp_path / "f.pcap", FRAMES), config=files(mode=mode))
    assert body["frames"] == len(FRAMES)
    assert rows(body["in_force"]) == {
        ("office", "allow"): 1,
        ("no-telnet", "deny"): 1,
        ("see-dns", "log"): 1,
        ("default-policy", "allow"): 3,
        ("-", "not judged"): 1,
    }
    assert [row["rule"] for row in body["in_force"]["rules"]][:2] == ["office", "no-telnet"]


def test_a_scope_holds_where_the_frames_are_said_to_come_in(run, tmp_path):
    body = run("replay", write(tmp_path / "f.pcap", FRAMES), "--interface", "lo")
    assert rows(body["in_force"])["on-lo", "deny"] == 1


def test_the_difference_to_a_candidate_is_told_frame_by_frame(run, files, tmp_path):
    other = files(port=80, policy="drop", name="then.yaml")
    body = run("replay", write(tmp_path / "f.pcap", FRAMES * 3), "--rules", other, "--most", "5")
    difference = body["difference"]
    kinds = {
        (k["before"]["rule"], k["before"]["verdict"], k["after"]["rule"], k["after"]["verdict"]): k[
            "frames"
        ]
        for k in difference["kinds"]
    }
    assert kinds == {
        ("no-telnet", "deny", "default-policy", "deny"): 3,
        ("default-policy", "allow", "no-telnet", "deny"): 3,
        ("default-policy", "allow", "default-policy", "deny"): 3,
    }
    assert (difference["frames"], difference["verdicts"]) == (9, 6)
    assert [row["frame"] for row in difference["listed"]] == [2, 3, 7, 9, 10]
    first = difference["listed"][0]
    assert first["packet"] == "tcp 10.0.0.1:1234 > 10.0.0.2:23"
    assert first["before"] == {"verdict": "deny", "rule": "no-telnet"}
    assert first["after"] == {"verdict": "deny", "rule": "default-policy"}


def test_many_chunks_number_their_frames_through(run, files, tmp_path, monkeypatch):
    monkeypatch.setattr("ebpfsentinel.kernel.capture._CHUNK", 3)
    picked = random.Random(4).choices(FRAMES, k=50)
    other = files(port=80, name="then.yaml")
    path = write(tmp_path / "f.pcap", picked)
    body = run("replay", path, "--rules", other, "--most", "1000")
    wanted = [at for at, frame in enumerate(picked, 1) if frame in (FRAMES[1], FRAMES[2])]
    assert [row["frame"] for row in body["difference"]["listed"]] == wanted


def test_text_fits_a_terminal_and_says_what_alert_mode_means(files, tmp_path):
    given = ["--config", files(mode="alert"), "--port", "9", "firewall", "replay"]
    other = files(port=80, name="then.yaml")
    path = write(tmp_path / "f.pcap", FRAMES)
    found = CliRunner().invoke(root, [*given, path, "--rules", other])
    assert found.exit_code == 0, found.output
    assert "Mode alert" in found.output
    assert "deny -> allow" in found.output
    tables = [line for line in found.output.splitlines() if str(tmp_path) not in line]
    assert max(map(len, tables)) <= 80


def test_a_candidate_that_is_refused_names_the_place(files, tmp_path):
    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "agent: {interfaces: [lo]}\n"
        "firewall: {rules: [{id: a, priority: 1, action: deny, src_ip: 10.0.0.1/8}]}"
    )
    given = ["--config", files(), "--port", "9", "firewall", "replay"]
    found = CliRunner().invoke(root, [*given, write(tmp_path / "f.pcap", []), "--rules", str(bad)])
    assert found.exit_code == 1
    assert "firewall.rules[0].src_ip" in found.output


def test_a_damaged_capture_is_refused_with_its_offset(files, tmp_path):
    path = tmp_path / "f.pcap"
    write(path, FRAMES)
    path.write_bytes(path.read_bytes()[:-3])
    found = CliRunner().invoke(
        root, ["--config", files(), "--port", "9", "firewall", "replay", str(path)]
    )
    assert found.exit_code == 1
    assert "offset" in found.output
