import importlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Meta

from ebpfsentinel.config import (
    convert,
    discover,
    example,
    load,
    masked,
    nearest,
    schema,
    settings_type,
)
from ebpfsentinel.config.read import MAX_BYTES, read
from ebpfsentinel.config.sections import RESERVED_SECTIONS
from ebpfsentinel.model.domain import Domain
from ebpfsentinel.model.settings import Mode, Section, SettingsError


class Rule(Section):
    id: str
    priority: Annotated[int, Meta(ge=1, le=65535, description="Lower runs first.")]
    port: int | str | dict[str, int] | None = None


class MoatSettings(Section):
    enabled: Annotated[bool, Meta(description="Fill the moat.")] = True
    mode: Annotated[Mode, Meta(description="Only watch, or drown.")] = Mode.ALERT
    default_policy: Annotated[str, Meta(description="What else.")] = "pass"
    depth: Annotated[float, Meta(ge=0, description="Metres.")] = 2.0
    password: Annotated[str, Meta(description="x", extra_json_schema={"x-secret": True})] = ""
    rules: Annotated[list[Rule], Meta(description="In order.", max_length=4)] = msgspec.field(
        default_factory=list
    )
    named: Annotated[dict[str, Rule], Meta(description="By name.")] = msgspec.field(
        default_factory=dict
    )


def _no_engine(_tools: Any) -> Any:
    raise AssertionError


CARDS = (Domain(name="moat", summary="A moat.", settings=MoatSettings, engine=_no_engine),)
MINIMAL = "agent: {interfaces: [eth0]}\n"


def loaded(text: str, env: dict[str, str] | None = None, tmp: Path | None = None, **flags: Any):
    tree = {place.replace("__", "."): value for place, value in flags.items()}
    assert tmp
    path = tmp / "config.yaml"
    path.write_text(text)
    path.chmod(0o600)
    return load(path, env or {}, tree, CARDS)


@pytest.fixture
def take(tmp_path):
    def run(text: str, env: dict[str, str] | None = None, **flags: Any):
        return loaded(text, env, tmp_path, **flags)

    return run


def test_minimal_configuration_has_the_documented_defaults(take):
    settings = take(MINIMAL).settings
    agent = settings.agent
    assert agent.interfaces == ["eth0"]
    assert (agent.http_port, agent.grpc_port, agent.metrics_port) == (8080, 50051, 9090)
    assert (agent.bind_address, agent.log_level, agent.on_exit) == ("127.0.0.1", "info", "detach")
    assert agent.state_dir == "/var/lib/ebpfsentinel"
    assert (settings.audit.retention_days, settings.audit.buffer_size) == (90, 100_000)
    assert settings.alerting.dedup_window_secs == 60
    assert settings.moat.mode == "alert"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            MINIMAL + "moat: {defualt_policy: drop}",
            "moat.defualt_policy: unknown key. Did you mean 'default_policy'?",
        ),
        (MINIMAL + "moet: {}", "moet: unknown key. Did you mean 'moat'?"),
        (
            MINIMAL + "moat: {rules: [{id: a, priority: 1, prot: 1}]}",
            "moat.rules[0].prot: unknown key. Did you mean 'port'?",
        ),
        (
            MINIMAL + "moat: {named: {x: {id: a, priority: 1, prio: 1}}}",
            "moat.named.x.prio: unknown key. Did you mean 'priority'?",
        ),
        ("agent: {}", 'agent.interfaces: is required. Write interfaces: ["auto"] or the like'),
        ("{}", "agent: is required"),
        (
            "agent: {interfaces: []}",
            "agent.interfaces: found []. Write a list of at least 1 item.",
        ),
        (
            "agent: {interfaces: eth0}",
            'agent.interfaces: found "eth0". Write a list of at least 1 item.',
        ),
        (
            "agent: {interfaces: [eth0], http_port: 70000}",
            "agent.http_port: found 70000. Write a whole number from 0 to 65535.",
        ),
        (
            MINIMAL + "moat: {mode: blok}",
            "moat.mode: found \"blok\". Did you mean 'block'? Write one of: alert, block.",
        ),
        (
            MINIMAL + "moat: {rules: [{id: a, priority: 1}, {id: a, priority: 0}]}",
            "moat.rules[1].priority: found 0. Write a whole number from 1 to 65535.",
        ),
        (MINIMAL + "moat: {rules: [{id: a}]}", "moat.rules[0].priority: is required"),
        (MINIMAL + "moat: 3", "moat: found 3. Write a block of keys: enabled, mode"),
        (
            "agent: {interfaces: [eth0], metrics_port: 8080}",
            "agent.metrics_port: 8080 is agent.http_port already. Give each its own port.",
        ),
        (
            "agent: {interfaces: [eth0], bind_address: 0.0.0.0}",
            "agent.bind_address: 0.0.0.0 is not loopback",
        ),
        ("agent: {interfaces: [a], log_filter: 'api=loud'}", "agent.log_filter: 'api=loud' is not"),
        ("agent: {interfaces: [a], log_filter: debug}", "agent.log_filter: 'debug' is not"),
        ("agent: {interfaces: [eth0], bind_address: host.example}", "is not an IP address"),
    ],
)
def test_errors_name_place_finding_and_remedy(take, text, wanted):
    with pytest.raises(SettingsError) as caught:
        take(text)
    assert str(caught.value).startswith(wanted) or wanted in str(caught.value)


def test_a_wrong_secret_is_not_shown(take):
    with pytest.raises(SettingsError) as caught:
        take(MINIMAL + "moat: {password: 1234}")
    assert "1234" not in str(caught.value)
    assert str(caught.value).startswith("moat.password: found a int (a secret")


def test_spellings_and_scalars_follow_yaml_1_2(take):
    text = "agent: {interfaces: [no, on, '22:22', 1e3x], log_format: PRETTY}\nmoat: {mode: Enforce}"
    settings = take(text).settings
    assert settings.agent.interfaces == ["no", "on", "22:22", "1e3x"]
    assert settings.agent.log_format == "text"
    assert settings.moat.mode == "block"


def test_flag_beats_environment_beats_file_beats_default(take):
    text = "agent: {interfaces: [a], http_port: 1, metrics_port: 2, log_level: error}"
    env = {"EBPFSENTINEL_AGENT__HTTP_PORT": "11", "EBPFSENTINEL_AGENT__LOG_LEVEL": "debug"}
    got = take(text, env, agent__log_level="trace")
    agent = got.settings.agent
    assert (agent.http_port, agent.metrics_port, agent.log_level) == (11, 2, "trace")
    assert got.sources["agent.http_port"] == "EBPFSENTINEL_AGENT__HTTP_PORT"
    assert got.sources["agent.log_level"] == "flag"
    assert got.sources["agent.metrics_port"].endswith("config.yaml")


def test_environment_alone_is_enough():
    env = {
        "EBPFSENTINEL_AGENT__INTERFACES": "eth0, eth1",
        "EBPFSENTINEL_MOAT__MODE": "block",
        "EBPFSENTINEL_MOAT__RULES": '[{"id": "a", "priority": 1}]',
        "EBPFSENTINEL_MOAT__RULES__0__PRIORITY": "7",
        "EBPFSENTINEL_MOAT__RULES__1": "{id: b, priority: 2}",
        "EBPFSENTINEL_MOAT__NAMED__FIRST": "{id: c, priority: 3}",
        "EBPFSENTINEL_MOAT__DEFAULT_POLICY": "1",
        "EBPFSENTINEL_TOKEN": "t",
        "EBPFSENTINEL_PORT_8080_TCP_ADDR": "10.0.0.1",
        "HOME": "/",
    }
    settings: Any = load(None, env, {}, CARDS).settings
    assert settings.agent.interfaces == ["eth0", "eth1"]
    assert [(rule.id, rule.priority) for rule in settings.moat.rules] == [("a", 7), ("b", 2)]
    assert settings.moat.named["first"].id == "c"
    assert settings.moat.default_policy == "1"


def every_scalar() -> list[tuple[str, ...]]:
    def walk(tree: dict[str, Any], at: tuple[str, ...]):
        for key, value in tree.items():
            if isinstance(value, dict) and value:
                yield from walk(value, (*at, key))
            else:
                yield (*at, key)

    defaults = load(None, {"EBPFSENTINEL_AGENT__INTERFACES": "x"}, {}, CARDS).settings
    return [path for path in walk(msgspec.to_builtins(defaults), ()) if len(path) > 1]


@pytest.mark.parametrize("path", every_scalar(), ids=".".join)
def test_every_key_is_settable_by_its_variable(path):
    base = {"EBPFSENTINEL_AGENT__INTERFACES": "x"}
    value: Any = msgspec.to_builtins(load(None, base, {}, CARDS).settings)
    for key in path:
        value = value[key]
    name = "EBPFSENTINEL_" + "__".join(path).upper()
    text = value if isinstance(value, str) else json.dumps(value)
    got = load(None, base | {name: text}, {}, CARDS)
    assert got.sources[".".join(path)] == name


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("EBPFSENTINEL_AGENT__HTP_PORT", "Did you mean EBPFSENTINEL_AGENT__HTTP_PORT?"),
        ("EBPFSENTINEL_MOET__MODE", "Did you mean EBPFSENTINEL_MOAT__MODE?"),
        ("EBPFSENTINEL_AGENT_LOG_LEVEL", "Did you mean EBPFSENTINEL_AGENT__LOG_LEVEL?"),
        ("EBPFSENTINEL_WARDEN_SOCK", "EBPFSENTINEL_<SECTION>__<KEY>"),
    ],
)
def test_unknown_variables_are_refused_with_the_nearest(name, hint):
    with pytest.raises(SettingsError) as caught:
        load(None, {name: "1", "EBPFSENTINEL_AGENT__INTERFACES": "x"}, {}, CARDS)
    assert caught.value.place == name
    assert hint in str(caught.value)


def test_a_bad_value_of_a_variable_names_the_variable(take):
    with pytest.raises(SettingsError, match=r"agent.http_port: found \"x\" \(set by EBPFS"):
        take(MINIMAL, {"EBPFSENTINEL_AGENT__HTTP_PORT": "x"})


def test_a_log_filter_of_the_file_is_taken(take):
    text = "agent: {interfaces: [a], log_filter: 'api=DEBUG, kernel.ring=trace'}"
    assert take(text).settings.agent.log_filter == "api=DEBUG, kernel.ring=trace"


def test_rust_log_sets_level_and_filter(take):
    got = take(MINIMAL, {"RUST_LOG": "warn,api=debug, kernel::ring=trace,%%"})
    assert got.settings.agent.log_level == "warn"
    assert got.settings.agent.log_filter == "api=debug,kernel.ring=trace"
    assert any("%%" in warning for warning in got.warnings)


def test_sections_of_the_reference_load_with_a_warning(take):
    text = MINIMAL + "".join(f"{name}: {{enabled: true, x: 1}}\n" for name in RESERVED_SECTIONS)
    got = take(text)
    for name in RESERVED_SECTIONS:
        wanted = f"section {name} is not in this version: nothing in it is in force"
        assert wanted in got.warnings
    assert take(MINIMAL).warnings == ()
    one = take("agent: {interfaces: [a], ebpf_program_dir: /x}")
    assert one.warnings == ("agent.ebpf_program_dir is not in this version: it has no effect",)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("agent: {interfaces: [a], bind_address: 0.0.0.0}", "nobody is asked who they are"),
        ("tls: {enabled: true}", "tls.cert_path: is needed"),
        ("tls: {enabled: true, cert_path: c}", "tls.key_path: is needed"),
        (
            "tls: {enabled: true, cert_path: c, key_path: k, client_auth: required}",
            "tls.client_ca_path: is needed",
        ),
        (
            "tls: {enabled: true, cert_path: c, key_path: k, pq_mode: require, allow_tls12: true}",
            "tls.pq_mode: TLS 1.2 has no",
        ),
        (
            "agent: {interfaces: [a], tls: {enabled: true}}\ntls: {enabled: true}",
            "agent.tls: there is the section tls",
        ),
        ("auth: {jwt: {}, oidc: {}}", "auth.oidc: there is auth.jwt"),
        ("auth: {jwt: {}}", "auth.jwt: no key is set"),
        ("auth: {jwt: {jwks_url: 'http://h/', jwks_path: b}}", "jwks_path and jwks_url is set"),
        ("auth: {jwt: {algorithm: HS256, jwks_path: b}}", 'auth.jwt.algorithm: found "HS256"'),
        ("auth: {oidc: {audience: a}}", "auth.oidc.issuer: is required"),
        ("auth: {oidc: {issuer: 'https://i', jwks_url: 'file:///x'}}", "auth.oidc.jwks_url"),
        ("auth: {oidc: {issuer: 'https://i'}}", "auth.oidc.audience: is required"),
        ("auth: {certificates: [{role: admin}]}", "auth.certificates[0]: matches nothing"),
        ("auth: {certificates: [{san: a}]}", "auth.certificates: clients are not asked"),
        ("auth: {api_keys: [{name: a, key: x, role: root}]}", "auth.api_keys[0].role: found"),
        (
            "auth: {api_keys: [{name: a, key: x}, {name: a, key: y}]}",
            "auth.api_keys[1].name: 'a' has a key",
        ),
        (
            "auth: {api_keys: [{name: a, key: x}, {name: b, key: x}]}",
            "auth.api_keys[1].key: another has it",
        ),
    ],
)
def test_sections_about_access_must_go_together(take, text, wanted):
    with pytest.raises(SettingsError) as caught:
        take(text if text.startswith("agent") else MINIMAL + text)
    assert wanted in str(caught.value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (
            "agent: {interfaces: [a], bind_address: 0.0.0.0, allow_unauthenticated_api: true}",
            ["auth is off", "TLS is off"],
        ),
        (
            (
                "agent: {interfaces: [a], bind_address: 0.0.0.0}\n"
                "auth: {enabled: true, api_keys: [{name: a, key: abcdefghijklmnop}]}"
            ),
            ["TLS is off"],
        ),
        ("auth: {enabled: true}", ["auth names nobody"]),
        ("auth: {api_keys: [{name: a, key: abcdefghijklmnop}]}", ["auth.enabled is false"]),
        ("auth: {enabled: true, api_keys: [{name: a, key: short}]}", ["fewer than 16"]),
        (
            "auth: {enabled: true, oidc: {issuer: 'http://idp.example', audience: a}}",
            ["fetches keys without TLS"],
        ),
        ("auth: {enabled: true, oidc: {issuer: 'http://127.0.0.1:1', audience: a}}", []),
    ],
)
def test_open_doors_are_warned_of(take, text, wanted):
    warnings = take(text if text.startswith("agent") else MINIMAL + text).warnings
    assert len(warnings) == len(wanted)
    assert all(part in told for part, told in zip(wanted, warnings, strict=True))


def test_no_secret_is_in_a_complaint(take):
    for text in (
        "auth: {api_keys: [{name: a, key: [hush-hush]}]}",
        "auth: {api_keys: [{name: a, key: hush-hush, role: x}]}",
        "auth: {api_keys: [{name: a, key: {hush-hush: 1}}]}",
        "auth: {api_key_salt: [hush-hush]}",
    ):
        with pytest.raises(SettingsError) as caught:
            take(MINIMAL + text)
        assert "hush" not in str(caught.value)


def test_no_reserved_name_is_a_domain_folder():
    import ebpfsentinel.domains as package  # noqa: PLC0415

    folders = {item.name for item in Path(package.__path__[0]).iterdir() if item.is_dir()}
    assert folders.isdisjoint(RESERVED_SECTIONS)


SECRETS = """
agent: {interfaces: [eth0]}
moat: {password: hush}
auth: {enabled: true, api_key_salt: hush, api_keys: [{name: n, key: hush}]}
tls: {key_path: /etc/hush}
threatintel: {feeds: [{id: a, auth_header: "X: hush", url: "http://me:hush@h/x"}]}
alerting:
  smtp: {host: mail, from_address: a@b, password: hush}
  otlp: {endpoint: "http://collector:4317", headers: {A: hush}}
  routes:
    - {name: r, destination: webhook, webhook_url: "http://h/hush", webhook_headers: {A: hush},
       webhook_secret: hush, format: pagerduty, routing_key: hush}
    - {name: s, destination: splunk, splunk: {url: "https://h", token: hush}}
    - {name: e, destination: opensearch, elasticsearch: {url: "https://h", password: hush}}
"""


def test_secrets_are_masked(take):
    tree = masked(take(SECRETS).settings)
    assert "hush" not in json.dumps(tree)
    assert tree["auth"]["api_keys"][0] == {
        "name": "n",
        "key": "***",
        "role": "viewer",
        "namespaces": [],
    }
    assert tree["alerting"]["routes"][0]["webhook_headers"] == {"A": "***"}
    assert tree["threatintel"]["feeds"][0]["url"] == "http://***@h/x"
    assert "ids" not in tree
    assert tree["moat"]["mode"] == "alert"


@pytest.mark.parametrize("secret", ["moat: {password: x}", "threatintel: {feeds: [{password: x}]}"])
def test_world_readable_file_with_secrets_is_refused(tmp_path, secret):
    path = tmp_path / "c.yaml"
    path.write_text(MINIMAL + secret)
    path.chmod(0o644)
    with pytest.raises(SettingsError, match=r"everybody may read it. Run: chmod o-r"):
        load(path, {}, {}, CARDS)
    path.chmod(0o640)
    load(path, {}, {}, CARDS)
    path.write_text(MINIMAL)
    path.chmod(0o644)
    load(path, {}, {}, CARDS)


def test_state_dir_follows_the_audit_path(take):
    where = take(MINIMAL + "audit: {storage_path: /srv/x/audit.redb}").settings.agent.state_dir
    assert where == "/srv/x"
    text = "agent: {interfaces: [a], state_dir: /z}\naudit: {storage_path: /srv/x/audit.redb}"
    assert take(text).settings.agent.state_dir == "/z"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", '[agent]\ninterfaces = ["a"]\n[moat]\nmode = "block"\n'),
        ("c.json", '{"agent": {"interfaces": ["a"]}, "moat": {"mode": "block"}}'),
        ("c.yml", "agent:\n  interfaces: [a]\nmoat:\n  mode: block\n"),
        ("c", "agent:\n  interfaces: [a]\nmoat:\n  mode: block\n"),
    ],
)
def test_yaml_toml_and_json_mean_the_same(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    settings: Any = load(path, {}, {}, CARDS).settings
    assert (settings.agent.interfaces, settings.moat.mode) == (["a"], "block")


@pytest.mark.parametrize(
    ("kind", "text", "wanted"),
    [
        ("yaml", "a: 1\nb: [1, 2\n", "line 3, column 1"),
        ("yaml", "a: 1\nb: 2\na: 3\n", "line 3, column 1: key 'a' is written twice"),
        ("yaml", "x: {a: 1, a: 2}", "line 1, column 11: key 'a' is written twice"),
        ("yaml", "a: !!python/object:os.system x", "tag"),
        ("yaml", "a: &x [*x]", "nothing complete is anchored &x"),
        ("yaml", "a: 1\n---\nb: 2", "line 2, column 1: a second document"),
        ("yaml", "a: " + "[" * 5000, "nested more than 64"),
        ("yaml", "a: " + "- " * 100_000, ""),
        ("yaml", "- a", "holds a list, not sections"),
        ("yaml", '"\\ud800": 1', ""),
        ("yaml", "? [a]\n: 1", "a key must be a word"),
        ("json", '{"a": 1, "a": 2}', "key 'a' is written twice"),
        ("json", '{"a": NaN}', "not a finite number"),
        ("json", '{"a":\n tru}', "line 2, column 2"),
        ("json", '{"a": "\\ud800"}', "surrogate"),
        ("json", '{"a": ' + "[" * 100_000, "nested"),
        ("toml", "a = 1\nb = x\n", "line 2"),
        ("toml", "a = 1\na = 2", "overwrite"),
        ("toml", "a = nan", "not a finite number"),
        ("toml", "a = " + "[" * 10_000, "nested"),
    ],
)
def test_hostile_or_broken_text_gets_an_error_with_position(kind, text, wanted):
    with pytest.raises(SettingsError) as caught:
        read(text.encode(), "file", kind)
    assert wanted in str(caught.value)


def test_an_alias_bomb_is_refused_and_honest_aliases_work():
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
    )
    with pytest.raises(SettingsError, match="aliases unfolded"):
        read(bomb.encode(), "file")
    text = "base: &b {x: 1, y: 2}\nmine: {<<: *b, y: 3}\nlist: [*b]\n"
    tree = read(text.encode(), "file")
    assert tree["mine"] == {"x": 1, "y": 3}
    assert tree["list"] == [{"x": 1, "y": 2}]


def test_too_large_and_not_utf8():
    with pytest.raises(SettingsError, match="larger than 10 MiB"):
        read(b" " * (MAX_BYTES + 1), "file")
    with pytest.raises(SettingsError, match="line 2: not UTF-8"):
        read(b"a: 1\nb: \xff", "file")


@pytest.mark.parametrize("missing", ["nothing", "."])
def test_a_file_that_cannot_be_read_is_a_settings_error(tmp_path, missing):
    with pytest.raises(SettingsError, match=r"--config|is no regular file"):
        load(tmp_path / missing, {}, {}, CARDS)


def test_the_example_loads_and_equals_the_defaults(tmp_path):
    path = tmp_path / "e.yaml"
    path.write_text(example(CARDS))
    base = load(None, {"EBPFSENTINEL_AGENT__INTERFACES": "auto"}, {}, CARDS)
    got = load(path, {}, {}, CARDS)
    assert got.settings == base.settings
    assert got.warnings == ()
    assert "# required. Lower runs first. 1..65535." in path.read_text()
    assert max(map(len, path.read_text().splitlines())) <= 120


def test_the_schema_describes_every_key():
    tree = schema(CARDS)
    moat = tree["$defs"]["MoatSettings"]
    assert moat["additionalProperties"] is False
    assert moat["properties"]["depth"]["description"] == "Metres."
    agent = tree["$defs"]["Agent"]
    assert all("description" in field for field in agent["properties"].values())
    assert agent["required"] == ["interfaces"]


def test_convert_puts_errors_below_its_place():
    with pytest.raises(SettingsError, match=r"rule.prot: unknown key. Did you mean 'port'"):
        convert({"id": "a", "priority": 1, "prot": 2}, Rule, "rule")
    with pytest.raises(SettingsError, match=r"rule: found 3. Write a block of keys"):
        convert(3, Rule, "rule")


def test_nearest():
    assert nearest("interfcaes", ["interfaces", "x"]) == "Did you mean 'interfaces'?"
    assert nearest("zzz", ["a", "b"]) == "Known here: a, b."


def test_discover_finds_folders_with_cards(tmp_path, monkeypatch):
    for name in ("keep", "gate"):
        folder = tmp_path / "castle" / name
        folder.mkdir(parents=True)
        text = (
            "from ebpfsentinel.model.domain import Domain\n"
            "from ebpfsentinel.model.settings import Section\n"
            f"DOMAIN = Domain(name={name!r}, summary='s', settings=Section, engine=print)\n"
        )
        (folder / "__init__.py").write_text(text)
    (tmp_path / "castle" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    castle = importlib.import_module("castle")
    assert [card.name for card in discover(castle)] == ["gate", "keep"]
    (tmp_path / "castle" / "moat").mkdir()
    (tmp_path / "castle" / "moat" / "__init__.py").touch()
    with pytest.raises(TypeError, match=r"castle.moat needs DOMAIN = Domain\(name='moat'"):
        discover(castle)


FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FUZZ
@given(st.binary(max_size=300), st.sampled_from(["yaml", "toml", "json"]))
def test_any_bytes_read_or_are_refused(data, kind):
    try:
        tree = read(data, "file", kind)
    except SettingsError as error:
        if error.place != "file":
            raise
    else:
        assert isinstance(tree, dict)


_words = st.sampled_from(
    ["agent", "moat", "auth", "rules", "mode", "interfaces", "id", "priority", "dns", "smtp"]
)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda kids: st.lists(kids, max_size=3) | st.dictionaries(_words | st.text(max_size=3), kids),
    max_leaves=12,
)


@FUZZ
@given(st.dictionaries(_words, _values))
def test_any_tree_becomes_settings_or_a_settings_error(tree):
    with suppress(SettingsError):
        convert(tree, settings_type(CARDS))


@FUZZ
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40))
def test_any_text_of_a_variable_is_taken_or_refused(text):
    env = {"EBPFSENTINEL_AGENT__INTERFACES": "x"}
    for name in ("MOAT__RULES", "MOAT__DEPTH", "MOAT__NAMED", "IDS", "MOAT__MODE"):
        with suppress(SettingsError):
            load(None, env | {f"EBPFSENTINEL_{name}": text}, {}, CARDS)
