"""The page says what the code does: its example is in force, its table is what comes out."""

import re
from pathlib import Path

import msgspec
import yaml

from ebpfsentinel.domains.dns.message import read
from ebpfsentinel.domains.dns.settings import DnsSettings
from ebpfsentinel.domains.dns.tests.test_message import answer

PAGE = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_example_is_taken_and_every_key_is_on_the_page():
    written = yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])["dns"]
    assert msgspec.convert(written, DnsSettings).enabled
    assert all(f"`{key}" in PAGE for key in DnsSettings.__struct_fields__)


def test_both_rows_of_the_table():
    plain = answer(("www.example.com", "A", "198.51.100.7", 300))
    aliased = answer(
        ("www.example.com", "CNAME", "edge.example.net", 300),
        ("edge.example.net", "A", "198.51.100.7", 300),
    )
    assert read(plain) == read(aliased)
