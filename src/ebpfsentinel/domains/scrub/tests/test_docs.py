"""The page says what the code does: its keys are those of the section, its example is in force."""

import os
import re
from pathlib import Path

import pytest
import yaml

from ebpfsentinel.config import convert
from ebpfsentinel.domains.scrub.settings import ScrubSettings
from ebpfsentinel.domains.scrub.tests.scrubbed import fragment, frame, ip, tcp

PAGE = (Path(__file__).parents[1] / "README.md").read_text()
KEYS = re.search(r"<!-- keys -->(.*?)<!-- /keys -->", PAGE, re.DOTALL)[1]


def test_every_key_is_on_the_page_and_no_other():
    rows = re.findall(r"^\| (`.*?) \|", KEYS, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(ScrubSettings.__struct_fields__)


@pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")
@pytest.mark.parametrize("family", [4, 6])
def test_the_pages_example_does_what_its_table_says(scrubbed, family):
    written = yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])["scrub"]
    convert(written, ScrubSettings, "scrub")
    scrubbed.settings(**written)
    af21, nops = 18 << 2, [("NOP", None)] * 10
    assert scrubbed.changed(frame(ip(family, ttl=3), tcp())) == frame(
        ip(family, ttl=64, tos=af21), tcp()
    )
    syn = tcp("SEC", options=[("MSS", 1460), ("Timestamp", (1, 0))])
    assert scrubbed.changed(frame(ip(family), syn)) == frame(
        ip(family, tos=af21), tcp("S", options=[("MSS", 1400), *nops])
    )
    assert scrubbed.dropped(frame(ip(family), tcp("SF")))
    assert scrubbed.dropped(fragment(family, 0, True, 6, bytes(16)))
