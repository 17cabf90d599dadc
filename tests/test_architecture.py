"""The house rules that no linter knows: one folder per domain, names, sizes."""

import ast
import re
import statistics
from pathlib import Path

import pytest

from ebpfsentinel import domains
from ebpfsentinel.config import discover

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "ebpfsentinel"
CARDS = discover(domains)
NAMES = [card.name for card in CARDS]

BANNED = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "base"}
CARD_LINES = 40
FUNCTION_MEDIAN_LINES = 7
FUNCTION_LINES = 40
FILE_LINES = 400
BPF_FUNCTION_LINES = 80
LARGE = {
    "model/kernel.py": "the contract, whole: every call of it, and what it speaks of",
    "domains/process/process.bpf.c": "one program a hook, nine hooks, one object",
    "kernel/door/calls.py": "every call over the door in one list, to be read and audited whole",
    "kernel/door/remote.py": "the agent's end of the door, method by method the contract",
    "kernel/door/serve.py": "the keeper's end: one method a call, all that decides in one place",
    "kernel/fake.py": "the whole of FakeKernel, method by method the twin of LinuxKernel",
    "kernel/load.py": "the whole of LinuxKernel: its answers lean on one another",
}
"""Files over FILE_LINES, and why each is still one room."""

STANDARDS = {
    "kernel/confine.py",
    "sinks/formats/ecs.py",
    "sinks/formats/ocsf.py",
    "sinks/senders/otlp.py",
}
"""They write words of a standard, or system calls, that are names of domains here as well."""
HOMONYMS = re.compile(r"dynamic_dns|dns\.(asyncresolver|exception)")
"""A word of the reference's configuration, and a library."""


def python_files():
    """Our own Python: not tests, not what is generated."""
    files = [path for path in SOURCE.rglob("*.py") if "tests" not in path.parts]
    return sorted(path for path in files if path.name != "events.py")


def outside(name):
    """Python and C outside the folder of domain ``name``."""
    every = [*python_files(), *SOURCE.rglob("*.[ch]")]
    return [path for path in every if (SOURCE / "domains" / name) not in path.parents]


def docstrings(tree):
    """The nodes that are prose: a string that stands as a statement."""
    return {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }


def strings_and_imports(path):
    """What a module imports and the strings it holds, docstrings left out, with their lines."""
    tree = ast.parse(path.read_text())
    prose = docstrings(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Constant) and id(node) not in prose:
            yield node.lineno, str(node.value)


def c_code(path):
    """A C file as one piece, without comments."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    yield 1, re.sub(r"//.*", "", text)


def names_it(name, text):
    """Is ``name`` used as a name here: a key, a path, an identifier? A word in prose is not one.

    A domain may be called like an English word ("process"), so a text that is a sentence counts
    only where the word is joined to something: ``/api/v1/process``, ``process.path``,
    ``process_events``.
    """
    if text == name:
        return True
    text = HOMONYMS.sub("", text)
    joined = rf"(?<![A-Za-z]){name}(?=[_/:]|\.\w)|(?<=[_/:.]){name}(?![A-Za-z])"
    return re.search(joined, text) is not None


@pytest.mark.parametrize("name", NAMES)
def test_a_domain_is_named_in_its_own_folder_only(name):
    found = []
    for path in outside(name):
        if str(path.relative_to(SOURCE)) in STANDARDS:
            continue
        pieces = strings_and_imports(path) if path.suffix == ".py" else c_code(path)
        found += [
            f"{path.relative_to(ROOT)}:{line}: {text.strip()[:60]!r}"
            for line, text in pieces
            if names_it(name, text)
        ]
    assert not found, f"'{name}' stands outside domains/{name}/:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("firewall", True),
        ("ebpfsentinel.domains.firewall", True),
        ("/api/v1/firewall/rules", True),
        ("firewall_events", True),
        ("xdp_firewall", True),
        ("firewall.rules[3]", True),
        ("Ask the firewall. It knows.", False),
        ("no other firewalls here", False),
        ("keeps it out of the firewall list", False),
    ],
)
def test_what_counts_as_naming_a_domain(text, named):
    assert names_it("firewall", text) is named


@pytest.mark.parametrize("name", NAMES)
def test_a_domain_folder_is_whole(name):
    folder = SOURCE / "domains" / name
    wanted = [
        "README.md",
        "__init__.py",
        f"{name}.h",
        f"{name}.bpf.c",
        "events.py",
        "settings.py",
        "engine.py",
        "tests/test_engine.py",
        "tests/test_kernel.py",
    ]
    missing = [file for file in wanted if not (folder / file).is_file()]
    assert not missing, f"domains/{name}/ lacks {missing}"


@pytest.mark.parametrize("card", CARDS, ids=NAMES)
def test_a_card_is_short_and_says_what_the_domain_is(card):
    text = (SOURCE / "domains" / card.name / "__init__.py").read_text()
    assert text.count("\n") <= CARD_LINES
    assert len(card.summary) > 20
    assert card.object == f"{card.name}.bpf.o"


def test_every_folder_of_domains_is_a_domain():
    folders = {
        path.name
        for path in (SOURCE / "domains").iterdir()
        if path.is_dir() and not path.name.startswith("_")
    }
    assert folders == set(NAMES)


def test_no_file_is_called_after_nothing():
    tops = (SOURCE, ROOT / "tests", ROOT / "bench", ROOT / "demo")
    every = [path for top in tops for path in top.rglob("*")]
    found = [path for path in every if path.name.split(".")[0].lower() in BANNED]
    assert not found


def body_lines(function):
    """Lines of a function below its signature and docstring."""
    body = function.body
    first = body[0]
    prose = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    if prose and len(body) > 1:
        first = body[1]
    return body[-1].end_lineno - first.lineno + 1


def functions():
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield body_lines(node), f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}"


def test_functions_are_short():
    found = sorted(functions(), reverse=True)
    print("longest functions:", *(f"{lines:4} {where}" for lines, where in found[:5]), sep="\n")
    assert statistics.median(lines for lines, _ in found) <= FUNCTION_MEDIAN_LINES
    assert [where for lines, where in found if lines > FUNCTION_LINES] == []


def test_files_are_rooms_not_halls():
    files = [*python_files(), *SOURCE.rglob("*.[ch]")]
    large = {
        str(path.relative_to(SOURCE)): path.read_text().count("\n")
        for path in files
        if path.read_text().count("\n") > FILE_LINES
    }
    print("large files:", large)
    assert set(large) <= set(LARGE), "split it, or say in LARGE why it is one room"


def test_kernel_functions_are_short():
    found = []
    for path in SOURCE.rglob("*.[ch]"):
        text = path.read_text()
        found += [
            f"{path.relative_to(ROOT)}:{text[: body.start()].count(chr(10))}"
            for body in re.finditer(r"^\{\n(.*?)^\}", text, re.DOTALL | re.MULTILINE)
            if body[1].count("\n") > BPF_FUNCTION_LINES
        ]
    assert not found


def test_kernel_sources_state_their_licence_and_end_in_a_licence_section():
    for path in SOURCE.rglob("*.[ch]"):
        text = path.read_text()
        assert "SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause" in text.split("\n")[0], path
        if path.name.endswith(".bpf.c"):
            assert 'SEC("license") = "Dual BSD/GPL"' in text, path


def test_no_kernel_program_branches_on_the_kernel_version():
    for path in SOURCE.rglob("*.[ch]"):
        assert "LINUX_VERSION_CODE" not in path.read_text(), path
