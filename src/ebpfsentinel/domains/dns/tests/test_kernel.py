"""Frames through the loaded programs: which answers are told of."""

import warnings

import pytest

from ebpfsentinel.domains.dns import DOMAIN
from ebpfsentinel.domains.dns.message import read
from ebpfsentinel.domains.dns.tests.test_message import answer
from ebpfsentinel.kernel.load import LinuxKernel

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from scapy.layers.dns import DNS, DNSQR
    from scapy.layers.inet import IP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Ether
    from scapy.packet import Raw, raw

ENDS = {4: ("192.0.2.1", "192.0.2.53"), 6: ("2001:db8::1", "2001:db8::53")}
ANSWER = answer(("www.example.com", "A", "198.51.100.7", 300))
NEXT = 0xFFFFFFFF


@pytest.fixture(scope="module")
def kernel():
    made = LinuxKernel()
    made.load([DOMAIN])
    yield made
    made.detach()


@pytest.fixture
def seen(kernel):
    """What the programs count from here on."""
    before = kernel.total("dns_count")[0]
    kernel.drain("dns_answers")

    def more():
        now = kernel.total("dns_count")[0]
        return {name: int(now[name] - before[name]) for name in now.dtype.names}

    return more


def frame(message, client, family=4, answers=False, **ports):
    """A question of a client's port, or an answer to it."""
    ours, theirs = ENDS[family]
    kind = IP if family == 4 else IPv6
    udp = {"sport": 53, "dport": client} if answers else {"sport": client, "dport": 53}
    ends = {"src": theirs, "dst": ours} if answers else {"src": ours, "dst": theirs}
    return raw(Ether() / kind(**ends) / UDP(**(udp | ports)) / Raw(message))


def question(number=7):
    return raw(DNS(id=number, rd=1, qd=[DNSQR(qname="www.example.com")]))


def ask(kernel, client, **about):
    assert kernel.run("egress_root", frame(question(), client, **about)).retval == NEXT


def get(kernel, message, client, **about):
    sent = frame(message, client, answers=True, **about)
    found = kernel.run("tc_root", sent)
    assert (found.retval, found.data) == (NEXT, sent)
    return kernel.drain("dns_answers")


@pytest.mark.parametrize("family", [4, 6])
def test_an_answer_to_a_question_is_told_of_once(kernel, seen, family):
    ask(kernel, 40_000, family=family)
    rows = get(kernel, ANSWER, 40_000, family=family)
    assert rows["message"][0, : rows["captured"][0]].tobytes() == ANSWER
    assert len(get(kernel, ANSWER, 40_000, family=family)) == 0
    assert seen() == {"asked": 1, "answered": 1, "unasked": 1, "longer": 0, "errors": 0}


@pytest.mark.parametrize(
    ("change", "ports"),
    [("id", {}), ("port", {}), ("family", {}), (None, {"sport": 54}), ("question", {})],
)
def test_an_answer_that_nobody_asked_for_is_not_believed(kernel, seen, change, ports):
    ask(kernel, 41_000)
    message = question() if change == "question" else ANSWER
    if change == "id":
        message = b"\x00\x08" + message[2:]
    about = {"family": 6 if change == "family" else 4}
    rows = get(kernel, message, 41_001 if change == "port" else 41_000, **about, **ports)
    assert len(rows) == 0
    assert seen()["answered"] == 0
    assert len(get(kernel, ANSWER, 41_000)) == 1


def test_an_answer_that_comes_too_late_is_not_believed(kernel, seen):
    ask(kernel, 42_000)
    keys, values = kernel.read("dns_asked")
    mine = keys["port"] == 42_000
    kernel._maps["dns_asked"].write(keys[mine], values[mine] - 11 * 10**9)
    assert len(get(kernel, ANSWER, 42_000)) == 0
    assert seen()["unasked"] == 1


def test_a_long_answer_is_cut_and_what_came_before_counts(kernel, seen):
    message = answer(*(("www.example.com", "A", f"10.0.{n}.1", 300) for n in range(60)))
    ask(kernel, 43_000)
    rows = get(kernel, message, 43_000)
    assert (rows["bytes"][0], rows["captured"][0]) == (len(message), 1024)
    assert seen()["longer"] == 1
    found = read(rows["message"][0].tobytes())
    assert 30 < len(found.answers) < 60
    assert not found.whole


def test_no_helper_failed(kernel):
    assert set(kernel.failures().values()) == {0}
