"""Keys, tokens and certificates for the tests of this station."""

import asyncio
import time

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from ebpfsentinel.auth import Gatekeeper
from ebpfsentinel.model.identity import Caller
from ebpfsentinel.model.security import ApiRateLimit, Auth


class Room:
    """A room of a store, in memory."""

    def __init__(self):
        self.records = {}

    def put(self, record):
        self.records[record.id] = record
        return True

    def remove(self, key_id):
        self.records.pop(key_id, None)
        return True

    def query(self):
        return list(self.records.values())


class Signer:
    """Signs tokens as a provider would."""

    def __init__(self, key, algorithm, kid=""):
        self.key, self.algorithm, self.kid = key, algorithm, kid

    def token(self, header=None, **claims):
        now = int(time.time())
        whole = {"sub": "alice", "iat": now, "exp": now + 60, **claims}
        whole = {name: value for name, value in whole.items() if value is not None}
        found = {"alg": self.algorithm} | ({"kid": self.kid} if self.kid else {}) | (header or {})
        registry = JWSRegistry(algorithms=[self.algorithm], strict_check_header=False)
        name = "Ed25519" if self.algorithm == "EdDSA" else self.algorithm
        if name == self.algorithm:
            return jwt.encode(found, whole, self.key, registry=registry)
        return _eddsa(found, whole, self.key)

    def pem(self):
        return self.key.as_pem(private=False)

    def jwk(self):
        return self.key.as_dict(private=False) | ({"kid": self.kid} if self.kid else {})


def _eddsa(header, claims, key):
    import base64  # noqa: PLC0415
    import json  # noqa: PLC0415

    def coded(part):
        return base64.urlsafe_b64encode(part).rstrip(b"=")

    text = b".".join(coded(json.dumps(part).encode()) for part in (header, claims))
    return (text + b"." + coded(key.private_key.sign(text))).decode()


@pytest.fixture(scope="session")
def signers():
    return {
        "RS256": Signer(RSAKey.generate_key(2048), "RS256", "r"),
        "ES256": Signer(ECKey.generate_key("P-256"), "ES256", "e"),
        "EdDSA": Signer(OKPKey.generate_key("Ed25519"), "EdDSA", "d"),
    }


@pytest.fixture
def signer(signers):
    return signers["RS256"]


class Door:
    """A gatekeeper, asked without an event loop of one's own."""

    def __init__(self, room, **auth):
        self.gate = Gatekeeper(room)
        self.set(**auth)

    def set(self, **auth):
        limits = auth.pop("limits", ApiRateLimit())
        self.gate.adopt(self.gate.prepare(Auth(enabled=True, **auth), limits))

    def __call__(self, address="192.0.2.1", certificate=None, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return asyncio.run(self.gate.identify(Caller(named, address, certificate)))

    def bearer(self, token, **caller):
        return self(authorization=f"Bearer {token}", **caller)


@pytest.fixture
def room():
    return Room()


@pytest.fixture
def door(room):
    return lambda **auth: Door(room, **auth)
