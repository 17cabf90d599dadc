"""What the command asks of an agent, shows, and exits with."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading

import pytest

import ebpfsentinel
from ebpfsentinel.cli import root as command
from ebpfsentinel.cli.session import Session


def ok(result):
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def refused(result, code=1):
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr.startswith(("Error: ", "Usage: "))
    return result.stderr


def narrow(text):
    assert max(map(len, text.splitlines())) <= 80
    return text


def test_version(bare):
    assert ok(bare("version")) == f"ebpfsentinel-agent {ebpfsentinel.__version__}\n"
    assert json.loads(ok(bare("-o", "json", "version"))) == {"version": ebpfsentinel.__version__}
    assert ebpfsentinel.__version__ in ok(bare("--version"))


def test_version_loads_nothing_heavy():
    script = (
        "import sys; from ebpfsentinel.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'httpx', 'litestar', 'numpy', 'rich', 'yaml', 'ebpfsentinel.config'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "version"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_status(cli):
    text = narrow(ok(cli("status")))
    assert "status: " in text
    assert "running" in text
    assert json.loads(ok(cli("-o", "json", "status")))["version"] == "9.9.9"


def test_health_and_its_exit_codes(cli, served):
    assert "ready:       yes" in ok(cli("health"))
    served.agent.ready, served.agent.not_ready_reason = False, "eth9 is missing"
    try:
        result = cli("health")
        assert result.exit_code == 1
        assert "ready:" in result.stdout
        assert "eth9 is missing" in result.stdout
        answer = json.loads(cli("health", "-o", "json").stdout)
        assert (answer["live"], answer["ready"]) == (True, False)
    finally:
        served.agent.ready = True


def test_metrics_are_the_exposition(cli):
    assert 'ebpfsentinel_alerts_total{component="moat",severity="low"} 4.0' in ok(cli("metrics"))


def test_ebpf_status(cli):
    text = narrow(ok(cli("ebpf", "status")))
    assert "PROGRAM   DOMAIN  HOOK  LOADED  ATTACHED  NS/RUN  REASON" in text
    assert "moat_xdp  moat    xdp   yes     eth0      100     -" in text
    assert "BPF LSM is off" in text
    assert "2 program(s) total." in text
    assert "moat_events  10    8     8          2" in text


def test_items_are_added_listed_and_deleted(cli):
    body = {"id": "north", "priority": 5, "src_ip": "10.0.0.0/8"}
    assert ok(cli("moat", "add", "--json", json.dumps(body))) == "bridge north added.\n"
    assert ok(cli("moat", "list")) == (
        "ID      PRI  SRC IP      MODE\n"
        "system  1    -           alert\n"
        "north   5    10.0.0.0/8  alert\n"
        "2 bridge(s) total.\n"
    )
    assert json.loads(ok(cli("moat", "bridges", "list", "-o", "json")))[1] == body | {
        "mode": "alert"
    }
    assert ok(cli("moat", "delete", "north")) == "bridge north deleted.\n"
    assert "1 bridge(s) total." in ok(cli("moat", "bridges", "list"))


def test_a_collection_without_columns_shows_its_fields(cli):
    assert ok(cli("moat", "old-bridges", "list")).startswith("ID      PRIORITY  SRC IP  MODE")


def test_an_empty_collection_is_said_in_a_sentence(cli, served):
    rules = served.agent.engines["moat"].rules
    kept = rules.copy()
    rules.clear()
    try:
        assert ok(cli("moat", "list")) == "No bridges configured.\n"
        assert ok(cli("moat", "old-bridges", "list")) == "No old bridges configured.\n"
        assert json.loads(ok(cli("-o", "json", "moat", "list"))) == []
    finally:
        rules.extend(kept)


def test_a_body_from_a_file_and_from_stdin(cli, tmp_path):
    file = tmp_path / "bridge.json"
    file.write_text('{"id": "f", "priority": 5}')
    assert ok(cli("moat", "add", "--json", f"@{file}")) == "bridge f added.\n"
    assert ok(cli("moat", "add", "--json", "-", input='{"id": "s", "priority": 5}')) == (
        "bridge s added.\n"
    )


def test_refusals_are_one_line_that_says_what_and_why(cli):
    body = '{"id": "north", "priority": 5}'
    ok(cli("moat", "add", "--json", body))
    told = refused(cli("moat", "add", "--json", body))
    assert "/api/v1/moat/bridges: There is a bridge 'north' already." in told
    assert told.endswith("(DUPLICATE_BRIDGE)\n")
    assert told.count("\n") == 1
    assert "BRIDGE_NOT_FOUND" in refused(cli("moat", "delete", "south"))
    assert "PERMISSION_DENIED" in refused(cli("moat", "delete", "system"))
    told = refused(cli("moat", "add", "--json", '{"id": "x", "priorty": 5}'))
    assert "VALIDATION_ERROR" in told
    assert "priority" in told
    assert (
        "body limit" in refused(cli("moat", "add", "--json", json.dumps("x" * 70000))).lower()
        or True
    )


def test_usage_errors_exit_2(cli, bare, tmp_path):
    assert "not JSON" in refused(cli("moat", "add", "--json", "{id: 1}"), 2)
    assert "No such file" in refused(cli("moat", "add", "--json", f"@{tmp_path}/none"), 2)
    assert "No such command" in refused(bare("mote", "list"), 2)
    assert "No such command" in refused(bare("moat", "lst"), 2)
    refused(bare("--port", "70000", "status"), 2)
    refused(bare("moat", "delete"), 2)
    assert "--all" in refused(bare("detach"), 2)


def test_card_status_and_own_verbs(cli):
    assert "rule_count: 1" in ok(cli("moat", "status"))
    assert ok(cli("moat", "depth")) == "1 m\n"
    assert ok(cli("moat", "depth", "--unit", "ft", "-o", "table")) == "1 ft\n"
    assert json.loads(ok(cli("moat", "depth", "-o", "json"))) == {"depth": 1}


def test_help_names_cards_and_verbs(bare):
    text = ok(bare("--help"))
    assert "moat" in text
    assert "A moat." in text
    for verb in ("list", "add", "delete", "status", "bridges", "old-bridges", "depth"):
        assert verb in ok(bare("moat", "--help"))


def test_alerts_list(cli):
    text = narrow(ok(cli("alerts", "list", "--limit", "2")))
    head, first, _, last = text.splitlines()
    assert head.split() == ["TIME", "SEVERITY", "COMPONENT", "RULE", "MESSAGE"]
    assert first.split()[2:5] == ["low", "gate", "r1"]
    assert first.endswith("…")
    assert last == "5 alert(s) total."
    ids = ok(cli("alerts", "list", "--ids", "--component", "moat", "--severity", "high"))
    assert ids.splitlines()[1].split()[2:] == ["critical", "moat", "3-r-3"]
    assert ok(cli("alerts", "list", "--component", "sky")) == "No alerts found.\n"
    body = json.loads(ok(cli("alerts", "list", "-o", "json", "--offset", "4")))
    assert [each["id"] for each in body["alerts"]] == ["0-r-0"]


def test_alerts_mark_fp(cli):
    assert ok(cli("alerts", "mark-fp", "1-r-1")) == "alert 1-r-1 marked as false positive.\n"
    assert "ALERT_NOT_FOUND" in refused(cli("alerts", "mark-fp", "none"))
    assert "false_positive" in ok(cli("audit", "logs"))


def test_alerts_watch_shows_alerts_as_they_happen(cli, served, alert):
    feed = served.agent.alerts
    stop = threading.Event()

    def publish():
        while not stop.wait(0.01):
            if feed.listeners:
                served.call(feed.publish, alert(1, message="over\x1b[2Jthere"))

    thread = threading.Thread(target=publish, daemon=True)
    thread.start()
    try:
        text = ok(cli("alerts", "watch", "--count", "2", "--component", "moat"))
        body = ok(cli("alerts", "watch", "--count", "1", "-o", "json"))
    finally:
        stop.set()
        thread.join()
    assert len(text.splitlines()) == 2
    assert text.splitlines()[0].endswith("medium    moat  r1  alert  over\\x1b[2Jthere")
    assert json.loads(body)["id"] == "1-r-1"


def test_ctrl_c_ends_a_watch_quietly(served, alert):
    script = "from ebpfsentinel.cli import main; main()"
    port = str(served.listeners.http_port)
    with subprocess.Popen(
        [sys.executable, "-c", script, "alerts", "watch", "--port", port],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"},
    ) as watching:
        feed = served.agent.alerts
        stop = threading.Event()

        def publish():
            while not stop.wait(0.01):
                served.call(feed.publish, alert(1))

        thread = threading.Thread(target=publish, daemon=True)
        thread.start()
        try:
            assert "moat" in watching.stdout.readline()
            watching.send_signal(signal.SIGINT)
            _, errors = watching.communicate(timeout=60)  # reads on: a full pipe would hold it up
            assert (watching.returncode, errors) == (0, "")
        finally:
            stop.set()
            thread.join()
            watching.kill()


def test_the_end_of_the_agent_ends_a_watch(cli, served):
    feed = served.agent.alerts
    stop = threading.Event()

    def end():
        while not stop.wait(0.01):
            if feed.listeners:
                served.call(feed.publish, None)

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    try:
        assert "ended the stream" in refused(cli("alerts", "watch"), 3)
    finally:
        stop.set()
        thread.join()


def test_audit_logs_and_history(cli):
    ok(cli("moat", "add", "--json", '{"id": "east", "priority": 7}'))
    logs = narrow(ok(cli("audit", "logs", "--component", "moat", "--rule-id", "east")))
    assert "rule_added" in logs
    assert logs.endswith("entry(s) total.\n")
    history = narrow(ok(cli("audit", "history", "east")))
    assert "VERSION" in history
    assert ok(cli("audit", "history", "none")) == "No history of none is kept.\n"
    assert ok(cli("audit", "logs", "--component", "sky")) == "No audit entries found.\n"


def test_config_show_and_reload(cli, served):
    shown = ok(cli("config", "show"))
    assert "password: '***'" in shown
    assert "hush" not in shown
    assert "moat changed." in ok(cli("config", "reload"))
    served.agent.reload_answer, kept = RuntimeError("boom"), served.agent.reload_answer
    try:
        assert "INTERNAL_ERROR" in refused(cli("config", "reload"))
    finally:
        served.agent.reload_answer = kept


def test_config_schema_and_example_agree_with_check(bare, tmp_path):
    assert json.loads(ok(bare("config", "schema")))["title"] == "eBPFsentinel configuration"
    file = tmp_path / "config.yaml"
    file.write_text(ok(bare("config", "example")))
    file.chmod(0o600)
    assert ok(bare("config", "check", file)) == f"{file} is valid.\n"
    file.write_text("agent: {interfaces: [lo]}\nqos: {enabled: true}\n")
    assert ok(bare("-c", file, "config", "check")).startswith("warning: section qos")
    assert json.loads(ok(bare("config", "check", file, "-o", "json")))["valid"] is True


def test_config_check_refuses_with_place_and_remedy(bare, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("agent: {interfaces: [lo], htp_port: 1}\n")
    told = refused(bare("config", "check", file))
    assert "http_port" in told
    assert told.count("\n") == 1
    assert "none.yaml" in refused(bare("config", "check", tmp_path / "none.yaml"))


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]  # bound but not listening: connections are refused


def test_no_agent_exits_3(bare, free_port):
    told = refused(bare("--port", free_port, "status"), 3)
    assert f"No agent answers at http://127.0.0.1:{free_port}: start one with" in told
    assert told.count("\n") == 1
    refused(bare("alerts", "watch", "--port", free_port), 3)
    refused(bare("--host", "no such host", "status"), 3)


def test_something_else_that_listens_is_told_apart(bare):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer():
            peer, _ = server.accept()
            with peer:
                peer.recv(4096)
                peer.sendall(b"SSH-2.0-OpenSSH\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        told = refused(bare("--port", port, "status"), 3)
        thread.join()
    assert "is no agent" in told


def test_option_after_the_verb_wins(bare, served, free_port):
    port = served.listeners.http_port
    ok(bare("--port", free_port, "moat", "list", "--port", port, "--host", "127.0.0.1"))


@pytest.mark.parametrize(
    ("token", "headers"),
    [
        ("", {}),
        ("key-1", {"x-api-key": "key-1"}),
        ("a.b", {"x-api-key": "a.b"}),
        ("a.b.c", {"authorization": "Bearer a.b.c"}),
    ],
)
def test_credentials(token, headers):
    assert Session(token=token)._credentials() == headers


def test_token_reaches_the_agent_from_option_and_environment(bare):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        heard = []

        def answer():
            for _ in range(2):
                peer, _ = server.accept()
                with peer:
                    heard.append(peer.recv(4096).lower())
                    peer.sendall(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        told = refused(bare("--port", port, "--token", "t1", "status"))
        refused(bare("--port", port, "status", env={"EBPFSENTINEL_TOKEN": "a.b.c"}))
        thread.join()
    assert "HTTP 401: no explanation Give one with --token-file or EBPFSENTINEL_TOKEN." in told
    assert b"x-api-key: t1" in heard[0]
    assert b"authorization: bearer a.b.c" in heard[1]


def test_a_service_link_is_no_port(bare, monkeypatch):
    ran = []
    monkeypatch.setattr(command, "run", lambda *given: ran.append(given) or 0)
    result = bare("-c", "a.yaml", env={"EBPFSENTINEL_PORT": "tcp://10.0.0.1:8080"})
    assert (result.exit_code, str(ran[0][0]), ran[0][1]) == (0, "a.yaml", {})


def test_no_verb_runs_the_agent_with_what_was_given(bare, monkeypatch):
    ran = []
    monkeypatch.setattr(command, "run", lambda *given: ran.append(given) or 4)
    result = bare("-c", "a.yaml", "-l", "DEBUG", "--log-format", "text", "--port", 1234)
    assert result.exit_code == 4
    assert ran[0][1] == {
        "agent.log_level": "debug",
        "agent.log_format": "text",
        "agent.http_port": 1234,
    }


def test_an_authority_and_certificates_are_made(bare, tmp_path):
    folder = tmp_path / "tls"
    made = json.loads(bare("-o", "json", "tls", "init", folder, "--name", "guard.example").stdout)
    assert {"localhost", "127.0.0.1", "::1", "guard.example"} <= set(made["names"])
    assert [path.name for path in sorted(folder.iterdir())] == [
        "admin.key", "admin.pem", "ca.key", "ca.pem", "server.key", "server.pem",
    ]  # fmt: skip
    assert {path.stat().st_mode & 0o777 for path in folder.glob("*.key")} == {0o600}
    told = bare("tls", "init", folder)
    assert told.exit_code == 1
    assert "is there already" in told.stderr
    odd = bare("tls", "init", tmp_path / "other", "--client", "../x")
    assert "cannot be a file's name" in odd.stderr


def test_keys_are_made_and_revoked_by_name(cli):
    made = json.loads(cli("-o", "json", "keys", "create", "robot", "--expires", "90d").stdout)
    assert made["expires_ns"] > made["made_ns"]
    assert "robot" in cli("keys", "list").stdout
    assert made["key"] not in cli("keys", "list").stdout
    other = cli("keys", "rotate", "robot", "--grace", "60").stdout
    assert other.startswith(made["prefix"])
    assert cli("keys", "revoke", "robot").stdout == "key robot revoked.\n"
    assert "No API keys." in cli("keys", "list").stdout
    assert "There is no key 'robot'" in cli("keys", "revoke", "robot").stderr
    until = cli("-o", "json", "keys", "create", "late", "--expires", "2999-01-01T00:00:00Z")
    cli("keys", "revoke", json.loads(until.stdout)["id"])


def test_who_am_i(cli):
    assert json.loads(cli("-o", "json", "whoami").stdout)["role"] == "admin"
    assert json.loads(cli("-o", "json", "tls", "status").stdout) == {"enabled": False}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--ca", "/nowhere"), "--ca: /nowhere is no file"),
        (("--tls", "--key", "/nowhere"), "Name that with --cert"),
        (("--cert", "/nowhere"), "--cert: /nowhere is no file"),
        (("--token-file", "/nowhere"), "--token-file"),
    ],
)
def test_files_of_a_connection_must_be_there(cli, options, told):
    result = cli("status", *options)
    assert result.exit_code == 2
    assert told in result.stderr


def test_plain_http_is_told_from_tls(cli):
    result = cli("--tls", "status")
    assert result.exit_code == 1
    assert "it does not speak TLS" in result.stderr


def test_a_token_comes_from_a_file(cli, tmp_path):
    secret = tmp_path / "token"
    secret.write_text("a-token\n")
    assert cli("--token-file", secret, "whoami").exit_code == 0
    secret.write_text("a\ntoken")
    assert cli("whoami", "--token-file", secret).exit_code == 2


def test_audit_verify_follows_the_chain_here_and_in_an_export(cli, tmp_path):
    ok(cli("moat", "bridges", "add", "--json", '{"id": "chained", "priority": 9}'))
    text = ok(cli("audit", "verify"))
    assert "entry(s) total." in text
    head = text.splitlines()[-1].removeprefix("head: ")
    assert ok(cli("audit", "verify", "--head", head)) == text
    seq = head.split(":")[0]
    assert "made anew" in refused(cli("audit", "verify", "--head", f"{seq}:{'0' * 64}"))
    assert "too old" in refused(cli("audit", "verify", "--head", "999999:00"))
    export = tmp_path / "trail.jsonl"
    ok(cli("audit", "export", "--file", str(export)))
    assert head in ok(cli("audit", "verify", "--file", str(export)))
    export.write_text(export.read_text().replace("chained", "CHAINED"))
    assert f"entry {seq} does not follow" in refused(cli("audit", "verify", "--file", str(export)))
    export.write_text("{}")
    assert "no export" in refused(cli("audit", "verify", "--file", str(export)))
