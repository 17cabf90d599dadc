"""The page says what the code does: its keys are those of a rule, and its example is in force."""

import os
import re
from pathlib import Path

import pytest
import yaml

from ebpfsentinel.config import convert
from ebpfsentinel.domains.ratelimit.settings import RateLimitRule, RateLimitSettings
from ebpfsentinel.domains.ratelimit.tests.packets import TCP, UDP, frame

PAGE = (Path(__file__).parents[1] / "README.md").read_text()
FIELDS = re.search(r"<!-- rule fields -->(.*?)<!-- /rule fields -->", PAGE, re.DOTALL)[1]


def test_every_key_of_a_rule_is_on_the_page_and_no_other():
    rows = re.findall(r"^\| (`.*?) \|", FIELDS, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == set(RateLimitRule.__struct_fields__)


@pytest.mark.skipif(os.geteuid() != 0, reason="loading programs needs root")
def test_the_pages_example_limits_as_it_says(judge):
    written = yaml.safe_load(re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[1])["ratelimit"]
    settings = convert(written, RateLimitSettings, "ratelimit")
    judge.limits(
        *settings.rules,
        default_rate=settings.default_rate,
        default_burst=settings.default_burst,
    )
    for source, fields, rule_id in (
        ("192.0.2.10", {}, "customer"),
        ("198.51.100.7", {}, "office"),
        ("203.0.113.1", {}, "default-limit"),
        ("203.0.113.1", {"dport": 53, "protocol": UDP}, "resolver"),
        ("203.0.113.1", {}, "each-server"),
        ("203.0.113.1", {"dport": 443, "protocol": TCP}, "web"),
    ):
        before = judge.counts(rule_id).passed
        assert judge.passes(frame(src=source, **{"dport": 80} | fields))
        assert judge.counts(rule_id).passed == before + 1, rule_id
    assert judge.passed(frame(src="2001:db8::9", dst="::1"), 5) == 5
    found = judge.counts("monitoring")
    assert (found.passed, found.over, found.dropped) == (2, 3, 0)
