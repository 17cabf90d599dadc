"""Formats: what others require is there, and nothing that an attacker chose breaks out of it."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebpfsentinel.model.alert import Finding, Severity, as_json
from ebpfsentinel.model.destinations import Format
from ebpfsentinel.sinks.backlog import Item
from ebpfsentinel.sinks.formats import chat, write
from ebpfsentinel.sinks.formats.origin import Origin
from ebpfsentinel.sinks.senders.rfc5424 import message
from ebpfsentinel.sinks.tests.receivers import alert

ORIGIN = Origin("host-1", "9.9")
KNOWN = {
    "pid": 7,
    "start_ns": 1,
    "name": "sh",
    "path": "/bin/sh",
    "args": "sh -c x",
    "argv": ["sh", "-c", "x"],
    "uid": 0,
    "container_id": "ab" * 32,
    "ancestors": [{"pid": 1, "path": "/sbin/init", "name": "init"}],
}
FULL = {
    "src_ip": "192.0.2.1",
    "dst_ip": "198.51.100.1",
    "src_port": 4000,
    "dst_port": 22,
    "protocol": 6,
    "technique": "T1046",
    "action": "deny",
    "pid": 7,
    "context": {
        "any": KNOWN,
        "src_geo": {"country": "CH", "asn": 64500, "organization": "X"},
        "container": {"name": "web", "image": "nginx", "pod": "web-1", "namespace": "shop"},
    },
    "finding": Finding(
        label="x", risk_score=0.7, detection_method="m", recommendation="r", confidence=0.9
    ),
}


def item(**rest):
    return Item(1, as_json(alert(1, **rest)))


def test_ocsf_has_what_a_detection_finding_requires():
    got = json.loads(write(item(**FULL), Format.OCSF, ORIGIN))
    assert (got["category_uid"], got["class_uid"], got["type_uid"]) == (2, 2004, 200401)
    assert (got["activity_id"], got["severity_id"]) == (1, 4)
    assert got["time"] == 1_700_000_000_000
    assert got["metadata"]["version"] == "1.3.0"
    assert got["metadata"]["product"]["vendor_name"] == "eBPFsentinel"
    info = got["finding_info"]
    assert info["uid"] == "1-r-1-1"
    assert info["title"]
    assert info["attacks"][0]["technique"]["uid"] == "T1046"
    assert (got["disposition_id"], got["action_id"]) == (2, 2)
    (evidence,) = got["evidences"]
    assert evidence["src_endpoint"]["location"]["country"] == "CH"
    assert evidence["process"]["file"]["path"] == "/bin/sh"
    assert evidence["process"]["container"]["name"] == "web"
    assert (got["risk_score"], got["confidence_score"]) == (70, 90)


def test_ecs_has_its_fields():
    got = json.loads(write(item(**FULL), Format.ECS, ORIGIN))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", got["@timestamp"])
    assert got["event"]["severity"] == 73
    assert got["event"]["type"] == ["denied"]
    assert got["source"]["as"]["number"] == 64500
    assert got["process"]["parent"]["executable"] == "/sbin/init"
    assert got["orchestrator"]["resource"]["name"] == "web-1"
    assert got["container"]["image"]["name"] == "nginx"
    assert got["network"]["transport"] == "tcp"


PAIR = re.compile(r"(\w+)=((?:[^=\\]|\\.)*?)(?= \w+=|$)")


def read_cef(text):
    head = re.split(r"(?<!\\)(?:\\\\)*\|", text, maxsplit=7)
    return head[:7], dict(PAIR.findall(head[7]))


def test_cef_has_its_header_and_extension():
    head, extension = read_cef(write(item(**FULL), Format.CEF, ORIGIN).decode())
    assert head == ["CEF:0", "eBPFsentinel", "agent", "9.9", "r-1", "number 1", "8"]
    assert extension["src"] == "192.0.2.1"
    assert extension["act"] == "deny"
    assert extension["cs1"] == "T1046"
    assert extension["sproc"] == "/bin/sh"


def test_cef_of_ipv6_has_the_fields_for_it():
    text = write(item(src_ip="2001:db8::1", is_ipv6=True), Format.CEF, ORIGIN).decode()
    assert read_cef(text)[1]["c6a2"] == "2001:db8::1"


WILD = st.text(max_size=60)


@given(WILD, WILD, st.sampled_from(list(Severity)))
def test_no_text_breaks_out_of_a_line_or_a_field(rule, text, severity):
    given_ = item(rule_id=rule, message=text, severity=severity)
    for form in (Format.JSON, Format.OCSF, Format.ECS, Format.CEF):
        found = write(given_, form, ORIGIN)
        assert b"\n" not in found
        if form is Format.CEF:
            assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", found.decode().split(" rt=")[0])) >= 7
        else:
            json.loads(found)
    for form in (Format.SLACK, Format.TEAMS, Format.PAGERDUTY):
        json.loads(chat.write(given_.alert, form, ORIGIN, "key"))
    assert chat.subject(given_.alert).isprintable()
    framed = message(given_, 13, write(given_, Format.CEF, ORIGIN), ORIGIN)
    length, _, rest = framed.partition(b" ")
    assert int(length) == len(rest)


@given(WILD)
def test_a_value_of_cef_is_read_back_as_it_was(text):
    found = write(item(message=text), Format.CEF, ORIGIN).decode()
    value = found.rpartition(" msg=")[2] if " msg=" in found else ""
    plain = re.sub(r"\\(.)", lambda each: "\n" if each[1] == "n" else each[1], value)
    assert plain == "\n".join(text.splitlines())


@pytest.mark.parametrize("form", list(Format))
def test_the_least_of_an_alert_can_be_written(form):
    least = item(message="", rule_id="")
    if form in (Format.SLACK, Format.TEAMS, Format.PAGERDUTY):
        assert chat.write(least.alert, form, ORIGIN)
    else:
        assert write(least, form, ORIGIN)
