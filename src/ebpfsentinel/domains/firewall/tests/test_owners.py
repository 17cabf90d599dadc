"""Classes of processes: what rules that name some ask for, and which words are refused."""

import pytest

from ebpfsentinel.domains.firewall.engine import FirewallEngine
from ebpfsentinel.domains.firewall.events import FwField
from ebpfsentinel.domains.firewall.owners import Owners
from ebpfsentinel.domains.firewall.settings import FirewallSettings
from ebpfsentinel.domains.firewall.tests.judge import rule
from ebpfsentinel.model.action import Engage, MapReplace
from ebpfsentinel.model.domain import Surroundings, Tools
from ebpfsentinel.model.settings import Mode, SettingsError

NAMED = {"provided": frozenset({"owners"})}
NGINX, CURL = "/usr/sbin/nginx", "/usr/bin/curl"
FILES = {NGINX: (8 << 20, 11), CURL: (8 << 20, 12), "/gone": (0, 0)}
GROUPS = {"/web": (100, 101, 102), "c0ffee": (102,), "/none": ()}


def values(ranges):
    return {value for low, high in ranges for value in range(low, high + 1)}


def packet(owners, exe=None, group=0):
    """What FW_OWNER is of a process."""
    return owners._executables.get(exe, 0) << 8 | owners._classes.get(group, 0)


CASES = [
    ({"process": {"path": NGINX}}, lambda exe, _: exe == NGINX),
    ({"process": {"path": "/gone"}}, lambda _exe, _group: False),
    ({"cgroup": "/web"}, lambda _, group: group in GROUPS["/web"]),
    ({"container": "c0ffee"}, lambda _, group: group == 102),
    ({"cgroup": "/none"}, lambda _exe, _group: False),
    (
        {"process": {"path": CURL}, "cgroup": "/web"},
        lambda exe, group: exe == CURL and group in GROUPS["/web"],
    ),
]


@pytest.mark.parametrize(("fields", "means"), CASES)
def test_a_rule_asks_for_the_processes_that_it_names(fields, means):
    owners = Owners(Surroundings(executables=FILES, cgroups=GROUPS))
    asked = values(owners.ranges(rule(**fields), "r"))
    for exe in (None, NGINX, CURL):
        for group in (0, 7, 100, 101, 102):
            assert (packet(owners, exe, group) in asked) is means(exe, group), (exe, group)


def planned(engine, rules, **around):
    settings = FirewallSettings(mode=Mode.BLOCK, rules=list(rules))
    plan = engine.plan(settings, {}, Surroundings(**NAMED | around))
    engine.commit(plan)
    return plan


def test_packets_that_leave_are_looked_at_while_there_are_such_rules():
    engine = FirewallEngine(Tools(rules=None))
    named = rule("named", process={"path": NGINX})
    plan = planned(engine, [named], executables=FILES)
    assert Engage("egress_firewall", on=True) in plan.actions
    (written,) = [a for a in plan.actions if isinstance(a, MapReplace) and a.map == "fw_exes"]
    assert sorted(written.keys["inode"].tolist()) == [11, 12]
    assert plan.until_ns
    assert "/gone" in engine.status()["unresolved"]
    assert planned(engine, [named], executables=FILES).actions[-1].kept
    assert Engage("egress_firewall", on=False) in planned(engine, [rule()]).actions


def test_such_a_rule_is_no_small_change():
    engine = FirewallEngine(Tools(rules=None))
    settings = FirewallSettings(rules=[rule()])
    for runtime in ([], [rule("more", process={"path": NGINX})]):
        around = Surroundings(**NAMED, executables=FILES if runtime else {})
        engine.commit(engine.plan(settings, {"rules": runtime}, around))
    found = engine.in_force()[1][-1]
    assert FwField.FW_OWNER in found.ranked[4].asks
    assert engine._set.leaving == 0b11


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"process": {"path": "nginx"}}, "'nginx' is no path"),
        ({"cgroup": "system.slice"}, "cgroup: is no path"),
        ({"container": "a/b"}, "container: is no id"),
        ({"cgroup": "/a", "container": "abcdef"}, "container: there is cgroup too"),
    ],
)
def test_words_that_mean_nothing_are_refused_with_their_place(fields, told):
    with pytest.raises(SettingsError) as error:
        planned(FirewallEngine(Tools(rules=None)), [rule(**fields)])
    assert str(error.value).startswith("firewall.rules[0]")
    assert told in str(error.value)


def test_without_names_of_processes_such_rules_are_refused():
    with pytest.raises(SettingsError) as error:
        planned(FirewallEngine(Tools(rules=None)), [rule(cgroup="/a")], provided=frozenset())
    assert "Switch process names on" in str(error.value)


def test_there_are_no_more_classes_than_fit():
    files = {f"/bin/{number}": (1, number) for number in range(1, 257)}
    with pytest.raises(SettingsError) as error:
        Owners(Surroundings(executables=files)).ranges(rule(process={"path": "/bin/1"}), "r")
    assert "255 is the most" in str(error.value)
