"""The page docs/migrating.md, walked through from top to bottom on a host with nftables."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ebpfsentinel.domains.firewall.imports.carry import carry
from ebpfsentinel.domains.firewall.imports.iptables import read_iptables
from ebpfsentinel.domains.firewall.imports.nft import read_nft

PAGE = (Path(__file__).parents[1] / "docs" / "migrating.md").read_text()
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"`([\w.]+)`[^\n]*:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
OPEN, CLOSED, NOBODYS = 9, 7301, 7302
START = "ebpfsentinel-agent --config new.yaml"


def table(name):
    """The examples of a table: iptables, nftables, ours."""
    text = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", PAGE, re.DOTALL)[1]
    for line in text.splitlines()[2:]:
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        yield [cell.strip().strip("`").replace("\\|", "|") for cell in cells]


def in_iptables(text):
    verdict = "" if "-j" in text else " -j DROP"
    return carry(
        read_iptables(f"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {text}{verdict}\nCOMMIT\n"), "input"
    )


def in_nftables(text):
    verdict = "" if text in ("accept", "drop", "reject") else " drop"
    head = "type filter hook input priority filter; policy accept;"
    return carry(
        read_nft(f"table inet t {{\n\tchain input {{\n\t\t{head}\n\t\t{text}{verdict}\n\t}}\n}}\n"),
        "input",
    )


@pytest.mark.parametrize("row", list(table("words")), ids=lambda row: row[2])
def test_the_words_mean_what_the_table_says(row):
    wanted = {"action": "deny"} | yaml.safe_load("{" + row[2] + "}")
    for found in (in_iptables(row[0]), in_nftables(row[1])):
        assert found.left_out == []
        for rule in found.rules:
            assert wanted.items() <= rule.items(), row


@pytest.mark.parametrize("row", list(table("left out")), ids=lambda row: row[1])
def test_what_cannot_be_carried_over_is_listed(row):
    for found in (in_iptables(row[0]), in_nftables(row[1])):
        assert found.rules == []
        assert len(found.left_out) == 1


def frames():
    """The frames of the page of trials, as a capture."""
    spec = importlib.util.spec_from_file_location(
        "try_first_page", Path(__file__).with_name("test_try_first_page.py")
    )
    page = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(page)
    return page.capture()


class Walk:
    """The owner of the guarded host, who does what the page says."""

    def __init__(self, lab, folder):
        self.lab, self.folder = lab, folder
        self.text = PAGE.replace("eth0", "guard0")
        for name, body in FILE.findall(self.text):
            (folder / name).write_text(body)
        (folder / "traffic.pcap").write_bytes(frames())
        self.agent = None
        self.blocks = [body.rstrip() for language, body in BLOCK.findall(self.text) if not language]

    def run(self, script):
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.lab.guarded}", "bash", "-ec", script],
            cwd=self.folder,
            env=os.environ | {"PATH": path},
            check=False,
            capture_output=True,
            text=True,
        )

    def step(self, *words):
        """Do the next block, which has these words in it."""
        block = self.blocks.pop(0)
        assert all(word in block for word in words), block
        if block == START:
            self.agent = self.lab.agent_of(self.folder / "new.yaml")
            return ""
        done = self.run(block)
        assert done.returncode == 0, f"{block}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def arrivals(self):
        return [self.lab.arrivals(port, 5) for port in (CLOSED, NOBODYS)]


@pytest.mark.skipif(os.geteuid() != 0, reason="running the agent needs root")
def test_the_page_leads_from_nftables_to_here(lab, tmp_path, monkeypatch):
    monkeypatch.setenv("EBPFSENTINEL_AGENT__STATE_DIR", str(tmp_path / "state"))
    walk = Walk(lab, tmp_path)
    assert walk.arrivals() == [5, 5]
    assert walk.run("nft -f rules.nft").returncode == 0
    assert walk.arrivals() == [0, 0]
    listed = walk.step("import")
    assert "left out" in listed
    assert "limit rate" in listed
    walk.step("import", "new.yaml")
    assert "new.yaml is valid." in walk.step("conntrack", "config check")
    assert "frames in" in walk.step("replay")
    walk.step(START)
    assert walk.arrivals() == [0, 0], "nftables still judges"
    assert walk.run("nft delete table inet filter").returncode == 0
    assert walk.arrivals() == [5, 5], "alert mode drops nothing"
    assert walk.run("nft -f rules.nft").returncode == 0
    assert "would_deny" in walk.step("alerts list", "shadowed")
    assert 'mode: "alert" -> "block"' in walk.step("plan", "--confirm")
    assert walk.agent.cli("changes")["changes"]
    walk.step("confirm")
    assert walk.agent.cli("changes") == {"changes": []}
    walk.step("nft delete table")
    assert walk.arrivals() == [0, 0], "the agent alone drops now"
    assert lab.connects(443)
    assert not lab.connects(444)


def test_a_file_of_the_reference_is_met_as_the_page_says(lab, tmp_path):
    walk = Walk(lab, tmp_path)
    (block,) = [found for found in walk.blocks if "reference.yaml" in found]
    command, _, shown = block.partition("\n")
    done = walk.run(command)
    assert (done.stderr + done.stdout).strip() == shown
    rule = "{id: web, priority: 10, action: pass, "
    for key in (
        "max_states: 5",
        "dscp_mark: 4",
        "interfaces: [lan]",
        "tenant_id: 1",
    ):
        text = (tmp_path / "reference.yaml").read_text().replace(rule, f"{rule}{key}, ")
        (tmp_path / "more.yaml").write_text(text)
        done = walk.run(shlex.join(["ebpfsentinel-agent", "config", "check", "more.yaml"]))
        assert done.returncode == 1
        assert f"firewall.rules[0].{key.partition(':')[0]}: unknown key" in done.stderr
