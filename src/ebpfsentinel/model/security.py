"""What a user may set of who may call: keys, tokens, certificates, limits, and TLS.

It stands in the model because two stations speak of it that do not know each other:
:mod:`ebpfsentinel.config` reads it, :mod:`ebpfsentinel.auth` puts it in force.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, field

from ebpfsentinel.model.identity import Role
from ebpfsentinel.model.settings import Section, Spelling

_SECRET: dict[str, Any] = {"x-secret": True}
_URL = r"^(https?://[^\s/@]+(/\S*)?)?$"

Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\s\x00-\x1f\x7f]+$")]
Namespaces = Annotated[list[Name], Meta(max_length=256)]
Url = Annotated[str, Meta(max_length=2048, pattern=_URL)]
RoleMap = Annotated[dict[str, Role], Meta(max_length=1024)]


class ClientAuth(Spelling):
    """Are clients asked for a certificate: no, yes, or yes and refused without."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


class PqMode(Spelling):
    """Post-quantum key exchange (X25519MLKEM768): where it can be had, always, never."""

    PREFER = "prefer"
    REQUIRE = "require"
    DISABLE = "disable"


class Algorithm(Spelling):
    """How tokens are signed (RFC 7518, RFC 8037)."""

    RS256 = "RS256"
    ES256 = "ES256"
    EDDSA = "EdDSA"

    @classmethod
    def _missing_(cls, value: object) -> Algorithm | None:
        word = str(value).upper()
        return next((member for member in cls if member.value.upper() == word), None)


class Tls(Section):
    """TLS of the listeners: REST, WebSocket, metrics and gRPC."""

    enabled: Annotated[bool, Meta(description="Serve TLS, and nothing but.")] = False
    cert_path: Annotated[str, Meta(description="Certificate chain, PEM.")] = ""
    key_path: Annotated[
        str,
        Meta(
            description="Private key, PEM; not readable by everybody.",
            extra_json_schema={"x-mask": True},
        ),
    ] = ""
    client_ca_path: Annotated[
        str, Meta(description="Authorities whose client certificates are believed, PEM.")
    ] = ""
    client_auth: Annotated[
        ClientAuth, Meta(description="Ask clients for a certificate: none, optional, required.")
    ] = ClientAuth.NONE
    pq_mode: Annotated[
        PqMode,
        Meta(
            description="Post-quantum key exchange: prefer, require or disable, as far as the "
            "installed OpenSSL can."
        ),
    ] = PqMode.PREFER
    allow_tls12: Annotated[bool, Meta(description="Accept TLS 1.2 as well.")] = False


class ApiRateLimit(Section):
    """How often one identity may call; where nobody is asked who they are, one address."""

    write_per_second: Annotated[int, Meta(ge=1, description="Writes a second.")] = 1
    write_burst: Annotated[int, Meta(ge=1, description="Writes at once.")] = 60
    read_per_second: Annotated[int, Meta(ge=1, description="Reads a second.")] = 100
    read_burst: Annotated[int, Meta(ge=1, description="Reads at once.")] = 1000
    exempt_loopback: Annotated[bool, Meta(description="Never limit loopback.")] = True


class ApiKey(Section):
    """A static key of the API."""

    name: Annotated[Name, Meta(description="Who holds it; stands in the audit trail.")]
    key: Annotated[
        str,
        Meta(min_length=1, max_length=1024, description="The key.", extra_json_schema=_SECRET),
    ]
    role: Annotated[Role, Meta(description="viewer, analyst, operator or admin.")] = Role.VIEWER
    namespaces: Annotated[
        Namespaces, Meta(description="Where an operator may write; '*' is everywhere.")
    ] = field(default_factory=list)


class Claims(Section):
    """What tokens of any kind are judged by."""

    issuer: Annotated[str, Meta(description="The claim iss must be this, if set.")] = ""
    audience: Annotated[str, Meta(description="The claim aud must hold this, if set.")] = ""
    jwks_url: Annotated[Url, Meta(description="Where the keys are published.")] = ""
    ca_path: Annotated[
        str, Meta(description="Authorities to believe when fetching keys; empty: the system's.")
    ] = ""
    jwks_cache_ttl_seconds: Annotated[
        int, Meta(ge=1, le=604800, description="Fetch the keys again after this time.")
    ] = 3600
    jwks_refresh_on_unknown_kid: Annotated[
        bool, Meta(description="Fetch them when a token names a key that is not known.")
    ] = True
    jwks_cooldown_seconds: Annotated[
        int, Meta(ge=1, le=3600, description="But not more often than this.")
    ] = 30
    leeway_seconds: Annotated[
        int, Meta(ge=0, le=600, description="Clocks may differ by so much.")
    ] = 0
    roles_claim: Annotated[
        str, Meta(description="Path of the claim with roles; empty: role, or else roles.")
    ] = ""
    role_map: Annotated[
        RoleMap, Meta(description="Roles that are called otherwise there, such as ops: operator.")
    ] = field(default_factory=dict)
    namespaces_claim: Annotated[
        str, Meta(description="Path of the claim with an operator's namespaces.")
    ] = "namespaces"


class Jwt(Claims):
    """JSON web tokens that are signed by a key we are given."""

    algorithm: Annotated[
        Algorithm, Meta(description="RS256, ES256 or EdDSA; a token of another is refused.")
    ] = Algorithm.RS256
    public_key_path: Annotated[
        str, Meta(description="Public key, PEM; or this, jwks_path or jwks_url.")
    ] = ""
    jwks_path: Annotated[str, Meta(description="Key set, JSON (RFC 7517).")] = ""
    name_claim: Annotated[str, Meta(description="Path of the claim with the name.")] = "sub"


class Oidc(Claims):
    """Tokens of an OpenID provider, whose keys its discovery document tells."""

    name_claim: Annotated[
        str, Meta(description="Path of the claim with the name; sub where there is none.")
    ] = "preferred_username"


class CertificateRole(Section):
    """What the holder of a client certificate may do; all that is set must match."""

    subject_cn: Annotated[str, Meta(description="The subject's common name.")] = ""
    san: Annotated[
        str, Meta(description="An alternative name: DNS, e-mail, URI or address, as it stands.")
    ] = ""
    name: Annotated[str, Meta(description="Name in the audit trail; empty: what was matched.")] = ""
    role: Annotated[Role, Meta(description="viewer, analyst, operator or admin.")] = Role.VIEWER
    namespaces: Annotated[
        Namespaces, Meta(description="Where an operator may write; '*' is everywhere.")
    ] = field(default_factory=list)


class Auth(Section):
    """Who may use the API."""

    enabled: Annotated[bool, Meta(description="Ask who calls.")] = False
    api_keys: Annotated[
        list[ApiKey], Meta(max_length=1000, description="Static keys; `keys create` makes others.")
    ] = field(default_factory=list)
    api_key_salt: Annotated[
        str | None,
        Meta(description="Salt of the hashes that are kept of them.", extra_json_schema=_SECRET),
    ] = None
    metrics_auth_required: Annotated[bool, Meta(description="Guard /metrics too.")] = True
    jwt: Annotated[Jwt | None, Meta(description="JSON web tokens, by public key or key set.")] = (
        None
    )
    oidc: Annotated[Oidc | None, Meta(description="OpenID Connect; not together with jwt.")] = None
    certificates: Annotated[
        list[CertificateRole],
        Meta(max_length=1000, description="Roles by client certificate; the first that matches."),
    ] = field(default_factory=list)
