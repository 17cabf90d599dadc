"""The page says what the code does: its keys are those of the settings, and its example works."""

import os
import re
from pathlib import Path

import msgspec
import pytest
import yaml

from ebpfsentinel.config import convert
from ebpfsentinel.domains.conntrack.settings import ConntrackSettings, Timeouts
from ebpfsentinel.domains.conntrack.tests.packets import Ends

PAGE = (Path(__file__).parents[1] / "README.md").read_text()


def keys(name):
    part = re.search(rf"<!-- {name} -->(.*?)<!-- /{name} -->", PAGE, re.DOTALL)[1]
    rows = re.findall(r"^\| (`.*?) \|", part, re.MULTILINE)
    return set(re.findall(r"`(\w+)`", " ".join(rows)))


def test_every_key_is_on_the_page_and_no_other():
    assert keys("settings") == set(ConntrackSettings.__struct_fields__)
    assert keys("timeouts") == set(Timeouts.__struct_fields__)


def test_the_defaults_are_those_of_the_page():
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \|", PAGE, re.MULTILINE)
    known = msgspec.structs.asdict(Timeouts()) | msgspec.structs.asdict(ConntrackSettings())
    assert {name: int(value) for name, value in rows} == {
        name: known[name] for name in (*Timeouts.__struct_fields__, "max_entries")
    }


@pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")
def test_the_pages_example_lets_flows_lapse_as_it_says(tracked):
    written = yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])["conntrack"]
    settings = convert(written, ConntrackSettings, "conntrack")
    tracked.settings(**msgspec.to_builtins(settings))
    ends = Ends()
    tracked.come(ends.tcp("S"))
    tracked.leave(ends.back("SA"))
    tracked.come(ends.tcp("A"), ends.udp())
    left = {
        flow["protocol"]: (flow["expires_ns"] - flow["last_seen_ns"]) / 1e9
        for flow in tracked.flows()
    }
    assert 3600 <= left["tcp"] < 3601
    assert 20 <= left["udp"] < 21
