"""The table of roles, by itself; :mod:`api.tests.test_access` asks every route."""

from types import SimpleNamespace

import msgspec
import pytest

from ebpfsentinel.auth.certificates import identity_of
from ebpfsentinel.auth.namespaces import is_bound, is_scoped, may_write, namespace_of
from ebpfsentinel.auth.permissions import TABLE, as_markdown, permission
from ebpfsentinel.model.identity import Identity, Role
from ebpfsentinel.model.security import CertificateRole


class Scoped(msgspec.Struct):
    scope: str = "global"


class Plain(msgspec.Struct):
    id: str = ""


@pytest.mark.parametrize(
    ("method", "path", "least"),
    [
        ("GET", "/healthz", None),
        ("GET", "/readyz/", None),
        ("POST", "/healthz", Role.ADMIN),
        ("GET", "/swagger-ui", None),
        ("GET", "/swagger-ui/page.js", None),
        ("GET", "/api-docs/openapi.json", None),
        ("OPTIONS", "/api/v1/auth/keys", None),
        ("GET", "/metrics", Role.VIEWER),
        ("GET", "/api/v1/unheard-of/things", Role.VIEWER),
        ("WEBSOCKET", "/api/v1/alerts/ws", Role.VIEWER),
        ("GET", "/api/v1/auth/me", Role.VIEWER),
        ("GET", "/api/v1/auth/keys", Role.ADMIN),
        ("GET", "//api//v1/auth//keys/ ", Role.ADMIN),
        ("HEAD", "/api/v1/auth/keys", Role.ADMIN),
        ("POST", "/api/v1/alerts/x/false-positive", Role.ANALYST),
        ("POST", "/api/v1/unheard-of/things", Role.OPERATOR),
        ("PATCH", "/api/v1/unheard-of/things/1", Role.OPERATOR),
        ("BREW", "/api/v1/unheard-of/things", Role.ADMIN),
        ("GET", "/", Role.ADMIN),
        ("GET", "/else", Role.ADMIN),
    ],
)
def test_the_first_row_that_fits_counts(method, path, least):
    assert permission(method, path).least is least


def test_the_last_row_takes_everything():
    assert TABLE[-1].fits("ANY", ())
    assert TABLE[-1].fits("ANY", ("a", "b", "c"))
    assert TABLE[-1].least is Role.ADMIN


def test_the_table_for_people_has_a_line_a_row():
    lines = as_markdown().splitlines()
    assert len(lines) == len(TABLE) + 2
    assert len({line.count("|") for line in lines}) == 1


def test_roles_are_in_order():
    assert Role.ADMIN.allows(Role.VIEWER)
    assert Role.OPERATOR.allows(Role.OPERATOR)
    assert not Role.ANALYST.allows(Role.OPERATOR)


@pytest.mark.parametrize(
    ("item", "namespace"),
    [
        (None, None),
        (SimpleNamespace(namespace="a"), "a"),
        (SimpleNamespace(scope="global"), None),
        (SimpleNamespace(scope="eth0"), None),
        (SimpleNamespace(scope="namespace:a"), "a"),
        (SimpleNamespace(scope={"namespace": "a"}), "a"),
        (SimpleNamespace(scope=SimpleNamespace(namespace="a")), "a"),
        (SimpleNamespace(scope=SimpleNamespace(namespace=None, interface="eth0")), None),
    ],
)
def test_items_say_where_they_belong(item, namespace):
    assert namespace_of(item) == namespace


def test_which_items_can_belong_somewhere():
    assert is_scoped(Scoped)
    assert not is_scoped(Plain)


@pytest.mark.parametrize(
    ("role", "own", "scoped", "namespace", "may"),
    [
        ("admin", [], True, None, True),
        ("admin", ["a"], True, "b", True),
        ("operator", [], True, "a", False),
        ("operator", [], True, None, False),
        ("operator", [], False, None, True),
        ("operator", ["a"], True, "a", True),
        ("operator", ["a"], True, "b", False),
        ("operator", ["a"], True, None, False),
        ("operator", ["a"], False, None, False),
        ("operator", ["*"], True, None, True),
        ("operator", ["*"], True, "b", True),
    ],
)
def test_operators_write_in_their_namespaces(role, own, scoped, namespace, may):
    who = Identity("o", Role(role), "key", frozenset(own))
    assert may_write(who, Scoped if scoped else Plain, namespace) is may
    assert is_bound(who) is (role == "operator" and own == ["a"])


CERTIFICATE = {
    "subject": ((("organizationName", "X"),), (("commonName", "alice"),)),
    "subjectAltName": (("DNS", "laptop.example"), ("email", "alice@example.org")),
}


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ({"subject_cn": "alice"}, "alice"),
        ({"subject_cn": "alice", "name": "al"}, "al"),
        ({"san": "alice@example.org"}, "alice@example.org"),
        ({"subject_cn": "alice", "san": "laptop.example"}, "alice"),
        ({"subject_cn": "alice", "san": "other.example"}, None),
        ({"subject_cn": "ALICE"}, None),
        ({"subject_cn": "X"}, None),
        ({}, None),
    ],
)
def test_certificates_are_matched_whole(wanted, name):
    found = identity_of(CERTIFICATE, [CertificateRole(**wanted, role=Role.ANALYST)])
    assert (found.name if found else None) == name
    assert identity_of(None, [CertificateRole(**wanted)]) is None


def test_the_first_match_counts():
    roles = [
        CertificateRole(subject_cn="bob", role=Role.ADMIN),
        CertificateRole(san="laptop.example", role=Role.OPERATOR, namespaces=["a"]),
        CertificateRole(subject_cn="alice", role=Role.ADMIN),
    ]
    assert identity_of(CERTIFICATE, roles) == Identity(
        "laptop.example", Role.OPERATOR, "certificate", frozenset({"a"})
    )
