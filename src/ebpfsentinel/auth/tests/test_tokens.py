"""Tokens: signatures, claims, key sets, and a provider that changes its keys."""

import base64
import datetime as dt
import hashlib
import hmac
import http.server
import json
import ssl
import threading
import time

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, RSAKey

from ebpfsentinel.auth import pki
from ebpfsentinel.auth.signatures import header_of
from ebpfsentinel.auth.tokens import role_of
from ebpfsentinel.model.identity import Role, Unauthenticated
from ebpfsentinel.model.security import Algorithm, ApiKey, Jwt, Oidc
from ebpfsentinel.model.settings import SettingsError

WEAK = (
    rsa.generate_private_key(65537, 1024)
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
)
ALGORITHMS = ["RS256", "ES256", "EdDSA"]


@pytest.fixture
def given_key(tmp_path, door):
    """A door that takes tokens of one key, by PEM unless told otherwise."""

    def make(signer, by="pem", **jwt):
        path = tmp_path / by
        if by == "pem":
            path.write_bytes(signer.pem())
            source = {"public_key_path": str(path)}
        else:
            path.write_text(json.dumps({"keys": [signer.jwk()]}))
            source = {"jwks_path": str(path)}
        return door(jwt=Jwt(algorithm=Algorithm(signer.algorithm), **source, **jwt))

    return make


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("by", ["pem", "jwks"])
def test_a_signed_token_gets_in(given_key, signers, algorithm, by):
    signer = signers[algorithm]
    token = signer.token(role="operator", namespaces=["a", "b"])
    found = given_key(signer, by).bearer(token)
    assert (found.name, found.role, found.how) == ("alice", Role.OPERATOR, "jwt")
    assert found.namespaces == {"a", "b"}


@pytest.mark.parametrize(
    ("claims", "role"),
    [
        ({}, Role.VIEWER),
        ({"role": "admin"}, Role.ADMIN),
        ({"role": "wizard"}, Role.VIEWER),
        ({"roles": ["analyst", "viewer"]}, Role.ANALYST),
        ({"roles": ["x", "operator"]}, Role.OPERATOR),
        ({"roles": 7}, Role.VIEWER),
        ({"role": {"admin": 1}}, Role.VIEWER),
    ],
)
def test_the_role_is_in_role_or_roles(claims, role):
    assert role_of(claims, Jwt()) is role


def test_the_role_may_lie_deep_and_have_another_name():
    wanted = Oidc(roles_claim="realm_access.roles", role_map={"soc": Role.ANALYST})
    assert role_of({"realm_access": {"roles": ["soc", "x"]}}, wanted) is Role.ANALYST
    assert role_of({"realm_access": ["soc"], "role": "admin"}, wanted) is Role.VIEWER
    dotted = Oidc(roles_claim="https://example.org/roles")
    assert role_of({"https://example.org/roles": "admin"}, dotted) is Role.ADMIN


@pytest.mark.parametrize(
    ("claims", "told"),
    [
        ({"exp": None}, "missing"),
        ({"exp": "tomorrow"}, "no numbers"),
        ({"exp": True}, "no numbers"),
        ({"exp": 1}, "has expired"),
        ({"exp": float("nan")}, "no numbers"),
        ({"exp": float("inf")}, "no numbers"),
        ({"exp": 10**400}, "no numbers"),
        ({"nbf": float("nan")}, "no numbers"),
        ({"nbf": time.time() + 600}, "not good yet"),
        ({"iat": time.time() + 600}, "not good yet"),
        ({"iss": "other"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"aud": "other"}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"aud": ["x", 1]}, "another audience"),
        ({"sub": None}, "names nobody"),
        ({"sub": " "}, "names nobody"),
        ({"sub": "x" * 200}, "names nobody"),
        ({"sub": 7}, "names nobody"),
    ],
)
def test_claims_must_hold(given_key, signer, claims, told):
    ask = given_key(signer, issuer="https://idp", audience="agent")
    sound = {"iss": "https://idp", "aud": ["agent", "other"]}
    assert ask.bearer(signer.token(**sound)).name == "alice"
    with pytest.raises(Unauthenticated, match=told):
        ask.bearer(signer.token(**sound | claims))


def test_leeway_bridges_clocks_that_differ(given_key, signer):
    now = int(time.time())
    late = signer.token(exp=now - 5, iat=now - 60)
    assert given_key(signer, leeway_seconds=30).bearer(late).name == "alice"
    with pytest.raises(Unauthenticated, match="expired"):
        given_key(signer).bearer(late)


def test_an_expired_token_is_no_guess(given_key, signer):
    ask = given_key(signer)
    for number in range(20):
        with pytest.raises(Unauthenticated, match="expired"):
            ask.bearer(signer.token(exp=number + 1))
    assert ask.bearer(signer.token()).name == "alice"


def coded(part):
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def test_none_and_a_public_key_as_hmac_secret_are_refused(given_key, signer):
    ask = given_key(signer)
    payload = signer.token().split(".")[1]
    for alg in ("none", "None", "NONE", "HS256", "RS512", "PS256"):
        head = coded(json.dumps({"alg": alg}).encode())
        mac = hmac.new(signer.pem(), f"{head}.{payload}".encode(), hashlib.sha256).digest()
        for signature in ("", coded(mac)):
            with pytest.raises(Unauthenticated, match=r"algorithm is not taken|not good"):
                ask.bearer(f"{head}.{payload}.{signature}", address="::1")
            ask.gate._attempts.succeeded("::1")


def test_a_token_of_another_key_or_with_other_claims_is_refused(given_key, signers, signer):
    ask = given_key(signer)
    other = type(signer)(RSAKey.generate_key(2048), "RS256")
    head, _, signature = signer.token().split(".")
    payload = coded(json.dumps({"sub": "root", "role": "admin", "exp": 9e9}).encode())
    for token in (
        other.token(),
        f"{head}.{payload}.{signature}",
        signers["ES256"].token(),
        signer.token(header={"crit": ["b64"], "b64": False}),
    ):
        with pytest.raises(Unauthenticated):
            ask.bearer(token, address="::1")


def test_what_is_no_token_is_tried_as_a_key(tmp_path, door, signer):
    (tmp_path / "pem").write_bytes(signer.pem())
    ask = door(
        jwt=Jwt(public_key_path=str(tmp_path / "pem")),
        api_keys=[ApiKey(name="k", key="two.dots.here"), ApiKey(name="j", key="no-dots-at-all")],
    )
    assert ask.bearer("two.dots.here").name == "k"
    assert ask.bearer("no-dots-at-all").name == "j"
    assert ask(x_api_key=signer.token()).name == "alice"


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader_of_headers(text):
    found = header_of(text)
    assert found is None or isinstance(found["alg"], str)


def test_a_header_that_is_nested_deep_is_none():
    assert header_of(f"{coded(b'[' * 1500)}.e30.x") is None
    assert header_of(f"{coded(b'{' * 1500)}.e30.x") is None


@given(st.binary(max_size=100), st.binary(max_size=20))
def test_no_bytes_break_it_either(head, rest):
    found = header_of(f"{coded(head)}.{coded(rest)}.x")
    assert found is None or isinstance(found["alg"], str)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (WEAK, "1024 bits"),
        (ECKey.generate_key("P-256").as_pem(private=False), "no public key for RS256"),
        (b"hello", "no public key for RS256"),
    ],
)
def test_a_key_that_will_not_do_is_refused_at_load(tmp_path, door, data, told):
    (tmp_path / "pem").write_bytes(data)
    with pytest.raises(SettingsError, match=told):
        door(jwt=Jwt(public_key_path=str(tmp_path / "pem")))
    with pytest.raises(SettingsError, match="cannot be read"):
        door(jwt=Jwt(public_key_path=str(tmp_path / "nothing")))


def test_of_a_key_set_only_sound_keys_are_taken(tmp_path, door, signer, signers):
    path = tmp_path / "jwks"
    number = load_pem_public_key(WEAK).public_numbers().n.to_bytes(128)
    weak = {"kty": "RSA", "n": coded(number), "e": "AQAB"}
    odd = [weak, {"kty": "oct", "k": "AA"}, {}, 7, signer.jwk() | {"use": "enc"},
           signer.jwk() | {"alg": "RS512"}, signers["EdDSA"].jwk()]  # fmt: skip
    path.write_text(json.dumps({"keys": odd}))
    with pytest.raises(SettingsError, match="no key in it is one for RS256"):
        door(jwt=Jwt(jwks_path=str(path)))
    path.write_text(json.dumps({"keys": [*odd, signer.jwk()]}))
    assert door(jwt=Jwt(jwks_path=str(path))).bearer(signer.token()).name == "alice"
    for text in ("", "[]", '{"keys": 3}'):
        path.write_text(text)
        with pytest.raises(SettingsError, match="no key set"):
            door(jwt=Jwt(jwks_path=str(path)))


class Provider:
    """Publishes a discovery document and keys; counts who asks for keys."""

    def __init__(self, tls=None):
        provider = self
        self.keys, self.asked, self.status, self.issuer = [], 0, 200, ""

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                document = {"issuer": provider.issuer, "jwks_uri": f"{provider.url}/keys"}
                if self.path == "/keys":
                    provider.asked += 1
                    document = {"keys": provider.keys}
                body = json.dumps(document).encode()
                self.send_response(provider.status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server.server_port}"
        self.issuer = self.url
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def provider():
    made = Provider()
    yield made
    made.close()


def oidc(provider, **settings):
    return Oidc(issuer=provider.url, audience="agent", **settings)


def test_a_provider_is_found_by_its_discovery_document(door, provider, signers):
    provider.keys = [signer.jwk() for signer in signers.values()]
    ask = door(oidc=oidc(provider))
    for signer in signers.values():
        token = signer.token(iss=provider.url, aud="agent", preferred_username="Al", role="admin")
        found = ask.bearer(token)
        assert (found.name, found.role, found.how) == ("Al", Role.ADMIN, "oidc")
    assert provider.asked == 1
    with pytest.raises(Unauthenticated, match="another audience"):
        ask.bearer(signer.token(iss=provider.url, aud="other"))
    with pytest.raises(Unauthenticated, match="another issuer"):
        ask.bearer(signer.token(iss=f"{provider.url}/other", aud="agent"))


def test_a_document_that_speaks_for_another_is_not_believed(door, provider, signer):
    provider.keys = [signer.jwk()]
    provider.issuer = "https://elsewhere.example"
    with pytest.raises(Unauthenticated, match="No key is known"):
        door(oidc=oidc(provider)).bearer(signer.token(iss=provider.url, aud="agent"))
    assert provider.asked == 0


def test_an_unknown_kid_makes_us_ask_but_not_too_often(door, provider, signers):
    old, new = signers["RS256"], signers["ES256"]
    provider.keys = [old.jwk()]
    ask = door(oidc=oidc(provider, jwks_cooldown_seconds=60))
    fetched = ask.gate._in_force.tokens.source
    claims = {"iss": provider.url, "aud": "agent"}
    assert ask.bearer(old.token(**claims))
    provider.keys = [new.jwk(), old.jwk()]
    for _ in range(5):
        with pytest.raises(Unauthenticated, match="No key is known"):
            ask.bearer(new.token(**claims))
    assert provider.asked == 1
    fetched._tried_s -= 60
    assert ask.bearer(new.token(**claims))
    assert ask.bearer(old.token(**claims))
    assert provider.asked == 2


def test_keys_outlive_a_provider_that_is_down(door, provider, signer):
    provider.keys = [signer.jwk()]
    ask = door(oidc=oidc(provider, jwks_cache_ttl_seconds=1, jwks_cooldown_seconds=1))
    token = signer.token(iss=provider.url, aud="agent")
    assert ask.bearer(token)
    provider.status = 503
    fetched = ask.gate._in_force.tokens.source
    fetched._tried_s -= 5
    fetched._fetched_s -= 5
    assert ask.bearer(token)
    assert fetched.fetches == {"success": 1, "failure": 1}


def test_a_reload_keeps_keys_that_were_fetched(door, provider, signer):
    provider.keys = [signer.jwk()]
    ask = door(oidc=oidc(provider))
    token = signer.token(iss=provider.url, aud="agent", role="analyst")
    assert ask.bearer(token).role is Role.ANALYST
    ask.set(oidc=oidc(provider), api_keys=[ApiKey(name="n", key="k")])
    assert ask.bearer(token)
    assert provider.asked == 1
    ask.set(oidc=oidc(provider, role_map={"analyst": Role.ADMIN}))
    assert ask.bearer(token).role is Role.ADMIN
    assert provider.asked == 2


def test_keys_come_over_tls_from_an_authority_that_is_named(tmp_path, door, signer):
    now = dt.datetime.now(dt.UTC)
    ca = pki.authority("CA", now)
    (authority, _), names = pki.write(tmp_path, "ca", ca), ["127.0.0.1"]
    pair = pki.write(tmp_path, "server", pki.server("idp", names, ca, now))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    provider = Provider(context)
    try:
        provider.keys = [signer.jwk()]
        token = signer.token(iss=provider.url, aud="agent")
        assert door(oidc=oidc(provider, ca_path=str(authority))).bearer(token).name == "alice"
        with pytest.raises(Unauthenticated, match="No key is known"):
            door(oidc=oidc(provider)).bearer(token)
        for path in ("/nowhere", str(tmp_path / "server.key")):
            with pytest.raises(SettingsError, match=r"auth.oidc.ca_path: .* cannot be used"):
                door(oidc=oidc(provider, ca_path=path))
    finally:
        provider.close()


def test_a_file_of_keys_is_read_again_on_reload(tmp_path, door, signer):
    path = tmp_path / "pem"
    path.write_bytes(signer.pem())
    settings = Jwt(public_key_path=str(path))
    ask = door(jwt=settings)
    other = type(signer)(RSAKey.generate_key(2048), "RS256")
    path.write_bytes(other.pem())
    ask.set(jwt=settings)
    assert ask.bearer(other.token()).name == "alice"
    with pytest.raises(Unauthenticated):
        ask.bearer(signer.token())
