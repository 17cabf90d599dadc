import asyncio
import io
import json
import logging
import re

import pytest

from ebpfsentinel.model.alert import Alert, Finding, Severity
from ebpfsentinel.sinks import LogSink, announce, configure


@pytest.fixture
def lines():
    """Configure logging onto a buffer and hand back its lines; the old setup comes back."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    buffer = io.StringIO()

    def start(**how):
        configure(stream=buffer, **how)
        return lambda: buffer.getvalue().splitlines()

    yield start
    configure(stream=io.StringIO())
    for name in ("ebpfsentinel", "ebpfsentinel.alert"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    root.handlers[:], root.level = before[0], before[1]


def alert(**changes) -> Alert:
    known = {
        "id": "1-block-ssh-1",
        "timestamp_ns": 1,
        "component": "moat",
        "severity": Severity.LOW,
        "rule_id": "block-ssh",
        "action": "deny",
        "message": "denied by block-ssh",
        "src_ip": "10.0.0.1",
        "dst_ip": "2001:db8::1",
        "src_port": 1234,
        "dst_port": 22,
        "protocol": 6,
        "count": 3,
        "finding": Finding(
            label="l",
            risk_score=0.9,
            detection_method="rule",
            recommendation="look",
            confidence=0.8,
        ),
    }
    return Alert(**(known | changes))


def deliver(*alerts):
    asyncio.run(LogSink().deliver(alerts))


def test_the_start_line_carries_version_and_config(lines):
    read = lines()
    announce("1.2.3", "/etc/x.yaml")
    line = json.loads(read()[0])
    when = line.pop("timestamp")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", when)
    assert line == {
        "level": "INFO",
        "target": "agent",
        "message": "eBPFsentinel agent starting",
        "version": "1.2.3",
        "config": "/etc/x.yaml",
    }


def test_an_alert_is_one_flat_line_whatever_the_level(lines):
    read = lines(level="error")
    logging.getLogger("ebpfsentinel.api").warning("chatter")
    deliver(alert(), alert(id="2", message="two\nlines"))
    found = [json.loads(line) for line in read()]
    assert len(found) == 2
    first = found[0]
    assert (first["target"], first["level"]) == ("alert", "INFO")
    assert first["message"] == "denied by block-ssh"
    assert (first["severity"], first["rule_id"], first["dst_port"]) == ("low", "block-ssh", 22)
    assert first["finding"]["risk_score"] == 0.9
    assert found[1]["message"] == "two\nlines"


def test_levels_by_module(lines):
    read = lines(level="warn", log_filter="api=debug,kernel.ring=trace,alert=error")
    for name in ("api", "api.alerts", "store", "kernel", "kernel.ring"):
        logging.getLogger(f"ebpfsentinel.{name}").debug("x")
    logging.getLogger("ebpfsentinel.kernel.ring").log(5, "fine")
    logging.getLogger("uvicorn.error").info("started")
    deliver(alert())
    targets = [(json.loads(line)["target"], json.loads(line)["level"]) for line in read()]
    assert targets == [
        ("api", "DEBUG"),
        ("api.alerts", "DEBUG"),
        ("kernel.ring", "DEBUG"),
        ("kernel.ring", "TRACE"),
    ]


def test_configuring_again_forgets_old_directives(lines):
    lines(level="warn", log_filter="api=debug")
    read = lines(level="warn")
    logging.getLogger("ebpfsentinel.api").debug("x")
    assert read() == []


def test_text_is_one_readable_line_without_control_characters(lines):
    read = lines(log_format="text")
    deliver(alert(message="evil \x1b[2J\nname", severity=Severity.HIGH))
    announce("1", "c")
    first, second = read()
    assert "\x1b" not in first
    assert "ALERT high moat: evil \\x1b[2J\\x0aname" in first
    assert "flow='tcp 10.0.0.1:1234 > [2001:db8::1]:22'" in first
    assert "rule=block-ssh" in first
    assert "count=3" in first
    assert "agent: eBPFsentinel agent starting" in second


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_exceptions_and_strange_values_are_logged(lines, log_format):
    read = lines(log_format=log_format)
    logger = logging.getLogger("ebpfsentinel.api")
    try:
        _ = {}["why"]
    except KeyError:
        logger.exception("failed", extra={"thing": object(), "path": "/\udcff"})
    logger.info("after")
    text = "\n".join(read())
    assert "KeyError: 'why'" in text
    assert "after" in read()[-1]


@pytest.mark.parametrize("bad", [{"level": "loud"}, {"log_filter": "api"}, {"log_filter": "a=b"}])
def test_an_unknown_level_is_refused_and_changes_nothing(lines, bad):
    read = lines(level="info")
    with pytest.raises(ValueError, match=r"level"):
        lines(**bad)
    announce("1", "c")
    assert len(read()) == 1
