"""Settings from file, environment and command line, checked whole before anyone sees them.

Precedence: flag, then environment, then file, then default. ``EBPFSENTINEL_AGENT__LOG_LEVEL=debug``
sets ``agent.log_level``: upper case, two underscores between the parts of the path, a number for an
item of a list, and the value written as YAML or JSON.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import stat
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import msgspec.inspect as mi
from msgspec import Meta

from ebpfsentinel.config.guarded import check_access
from ebpfsentinel.config.masking import secrets
from ebpfsentinel.config.read import MAX_BYTES, read, value
from ebpfsentinel.config.sections import RESERVED_SECTIONS, CoreSettings, LogLevel
from ebpfsentinel.config.shape import (
    ANYTHING,
    bare,
    convert,
    fields_of,
    inner,
    join,
    notes,
    reaches,
    shape_of,
)
from ebpfsentinel.model.settings import SettingsError, parse_network

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ebpfsentinel.model.domain import Domain

PREFIX = "EBPFSENTINEL_"
CLIENT_NAMES = frozenset({"HOST", "PORT", "TOKEN", "TOKEN_FILE", "TLS", "CA", "CERT", "KEY"})
"""Variables of the command line's client; they are no settings."""
DEFAULT_STATE_DIR = "/var/lib/ebpfsentinel"

# Kubernetes sets these in every pod when a service is called ebpfsentinel.
_SERVICE_LINK = re.compile(r"SERVICE_(HOST|PORT(_.*)?)|PORT_\d+_.*")
_DIRECTIVE = re.compile(r"(?:([\w:.]+)=)?(\w+)")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Settings in force, what to warn of, and where each value that is not a default came from.

    ``settings`` has the core sections and one attribute per domain card. ``sources`` maps the
    place of a value to ``flag``, a variable's name, or the file's path.
    """

    settings: CoreSettings
    warnings: tuple[str, ...]
    sources: dict[str, str]

    def section(self, name: str) -> Any:
        """The settings of the domain or core section ``name``."""
        return getattr(self.settings, name)


@lru_cache(maxsize=8)
def settings_type(domains: tuple[Domain, ...]) -> type[CoreSettings]:
    """The struct of all sections: core, one per card, and the reserved ones no card has."""
    own: list[tuple[str, Any, Any]] = [
        (
            card.name,
            Annotated[card.settings, Meta(description=card.summary)],
            msgspec.field(default_factory=card.settings),
        )
        for card in domains
    ]
    about = "Of the reference; nothing in it is in force in this version."
    opaque = Annotated[
        dict[str, Any] | None,
        Meta(description=about, extra_json_schema={"x-reserved": True}),
    ]
    taken = {card.name for card in domains}
    own += [(name, opaque, None) for name in RESERVED_SECTIONS if name not in taken]
    made = msgspec.defstruct(
        "Settings", own, bases=(CoreSettings,), kw_only=True, forbid_unknown_fields=True
    )
    made.__doc__ = "All sections of a configuration."
    return made  # type: ignore[return-value]


def load(
    path: Path | None,
    env: Mapping[str, str],
    flags: Mapping[str, Any],
    domains: Sequence[Domain],
) -> Loaded:
    """Read and check a configuration.

    ``flags`` maps places (``agent.log_level``) to values; None is a flag that was not given.

    Raises:
        SettingsError: the first thing that cannot be taken, with place and remedy.
    """
    target = settings_type(tuple(domains))
    kind = shape_of(target)
    tree, sources = _file(path, kind)
    warnings: list[str] = []
    for layer in (_log_filter(env, warnings), _environment(env, kind), _flags(flags)):
        for steps, found, source in layer:
            _put(tree, steps, found)
            sources[_place(steps)] = source
    try:
        settings = convert(tree, target)
    except SettingsError as error:
        raise _with_source(error, sources) from None
    _check_agent(settings)
    warnings += check_access(settings)
    _fill(settings)
    warnings += _not_in_force(tree, kind)
    return Loaded(settings, tuple(warnings), sources)


def digest(path: Path | None) -> str:
    """SHA-256 of a configuration file; empty where there is none."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() if path else ""
    except OSError:
        return ""


def restored(tree: Any, domains: Sequence[Domain], why: str) -> Loaded:
    """Settings that were in force before, whole, with the reason as their warning.

    Raises:
        SettingsError: this version does not take them.
    """
    return Loaded(convert(tree, settings_type(tuple(domains))), (why,), {})


def _file(path: Path | None, kind: mi.Type) -> tuple[dict[str, Any], dict[str, str]]:
    if path is None:
        return {}, {}
    data, mode = _bytes(path)
    tree = read(data, str(path), path.suffix.lstrip(".").lower())
    found = next(secrets(tree, kind), None) if mode & stat.S_IROTH else None
    if found:
        problem = f"holds a secret ({found}) and everybody may read it"
        raise SettingsError(str(path), problem, f"Run: chmod o-r {path}")
    return tree, {place: str(path) for place in _leaves(tree)}


def _bytes(path: Path) -> tuple[bytes, int]:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SettingsError(str(path), "is no regular file", "Name a file.")
            return file.read(MAX_BYTES + 1), status.st_mode
    except OSError as error:
        remedy = "Name a file with --config, or make this one readable."
        raise SettingsError(str(path), error.strerror or str(error), remedy) from None


def _leaves(tree: Any, place: str = "") -> Iterator[str]:
    for key, found, _ in inner(tree, ANYTHING):
        if isinstance(found, dict) and found:
            yield from _leaves(found, join(place, key))
        else:
            yield join(place, key)


Step = tuple[list[str | int], Any, str]


def _flags(flags: Mapping[str, Any]) -> Iterator[Step]:
    for place, found in flags.items():
        if found is not None:
            yield [*place.split(".")], found, "flag"


def _log_filter(env: Mapping[str, str], warnings: list[str]) -> Iterator[Step]:
    """``RUST_LOG``: a level, and levels by module; what is neither is warned of, not fatal."""
    if not (text := env.get("RUST_LOG", "").strip()):
        return
    kept = []
    for part in filter(None, text.replace(" ", "").split(",")):
        split = _DIRECTIVE.fullmatch(part)
        try:
            level = LogLevel(split[2] if split else part)
        except ValueError:
            warnings.append(f"RUST_LOG: {part!r} is not a level or module=level; it is ignored")
            continue
        if split and split[1]:
            kept.append(f"{split[1].replace('::', '.')}={level}")
        else:
            yield ["agent", "log_level"], level.value, "RUST_LOG"
    if kept:
        yield ["agent", "log_filter"], ",".join(kept), "RUST_LOG"


def _environment(env: Mapping[str, str], kind: mi.Type) -> Iterator[Step]:
    for name in sorted(env):
        rest = name.removeprefix(PREFIX)
        if rest == name or rest in CLIENT_NAMES or _SERVICE_LINK.fullmatch(rest):
            continue
        steps, found_kind = _resolve(name, rest.split("__"), kind)
        yield steps, _from_text(env[name], found_kind, name), name


def _resolve(name: str, parts: list[str], kind: mi.Type) -> tuple[list[str | int], mi.Type]:
    """The path that a variable's name stands for, and the type at its end."""
    steps: list[str | int] = []
    whole = kind
    for part in parts:
        plain = bare(kind)
        fields = {key.upper(): field for key, field in fields_of(plain).items()}
        if part in fields:
            steps.append(fields[part].encode_name)
            kind = fields[part].type
        elif fields or not part:
            raise _unknown_variable(name, whole)
        elif part.isdigit() and isinstance(plain, mi.ListType | mi.AnyType):
            steps.append(int(part))
            kind = plain.item_type if isinstance(plain, mi.ListType) else plain
        elif isinstance(plain, mi.DictType | mi.AnyType):
            steps.append(part.lower())
            kind = plain.value_type if isinstance(plain, mi.DictType) else plain
        else:
            raise SettingsError(name, f"there is no {part!r} inside {_place(steps)}")
    return steps, kind


def _unknown_variable(name: str, kind: mi.Type) -> SettingsError:
    known = [PREFIX + path for path in _variables(kind, 3)]
    close = difflib.get_close_matches(name, known, 1, 0.9)
    spelt = f"Settings are spelt {PREFIX}<SECTION>__<KEY>, such as {PREFIX}AGENT__LOG_LEVEL."
    return SettingsError(name, "unknown setting", f"Did you mean {close[0]}?" if close else spelt)


def _variables(kind: mi.Type, depth: int) -> Iterator[str]:
    """Names of variables, without the prefix, down to ``depth`` parts."""
    for key, field in fields_of(kind).items():
        yield key.upper()
        if depth > 1:
            yield from (f"{key.upper()}__{rest}" for rest in _variables(field.type, depth - 1))


def _from_text(text: str, kind: mi.Type, name: str) -> Any:
    plain = bare(kind)
    if isinstance(plain, mi.StrType | mi.EnumType):
        return text
    found = value(text, name)
    if isinstance(plain, mi.ListType) and isinstance(found, str):
        return [part.strip() for part in found.split(",") if part.strip()]
    return found


def _put(tree: dict[str, Any], steps: list[str | int], found: Any) -> None:
    """Set what is at ``steps``; a list takes an index that it has, or the next one."""
    at: Any = tree
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        fresh: Any = found if following is None else [] if isinstance(following, int) else {}
        if isinstance(step, int) and isinstance(at, list):
            if step > len(at):
                problem = f"there are only {len(at)} items"
                raise SettingsError(_place(steps), problem, f"Use index {len(at)} to add one.")
            at[step : step + 1] = [fresh if following is None or step == len(at) else at[step]]
        elif isinstance(step, str) and isinstance(at, dict):
            keep = following is not None and isinstance(at.get(step), dict | list)
            at[step] = at[step] if keep else fresh
        else:
            raise SettingsError(_place(steps), "what is set here already is of another shape")
        at = at[step]


def _place(steps: Sequence[str | int]) -> str:
    place = ""
    for step in steps:
        place = join(place, step)
    return place


def _with_source(error: SettingsError, sources: Mapping[str, str]) -> SettingsError:
    place = error.place
    while place and place not in sources:
        place = re.sub(r"(\[\d+\]|\.?[^.\[\]]+)$", "", place)
    source = sources.get(place, "")
    if not source or os.sep in source or "." in source:
        return error
    return SettingsError(error.place, f"{error.problem} (set by {source})", error.remedy)


def _check_agent(settings: CoreSettings) -> None:
    agent = settings.agent
    _check_log_filter(agent.log_filter)
    for index, text in enumerate(agent.never_block.addresses):
        parse_network(f"agent.never_block.addresses[{index}]", text)
    seen: dict[int, str] = {}
    for name in ("http_port", "grpc_port", "metrics_port"):
        port = getattr(agent, name)
        if port and port in seen:
            problem = f"{port} is {seen[port]} already"
            raise SettingsError(f"agent.{name}", problem, "Give each its own port.")
        seen[port] = f"agent.{name}"


def _check_log_filter(text: str) -> None:
    for part in filter(None, text.split(",")):
        split = _DIRECTIVE.fullmatch(part.strip())
        try:
            LogLevel(split[2] if split and split[1] else part)
        except ValueError:
            split = None
        if not (split and split[1]):
            remedy = "Write module=level, comma separated, such as api=debug,kernel=trace."
            raise SettingsError("agent.log_filter", f"{part!r} is not module=level", remedy)


def _fill(settings: CoreSettings) -> None:
    if not settings.agent.state_dir:
        path = settings.audit.storage_path
        settings.agent.state_dir = str(Path(path).parent) if path else DEFAULT_STATE_DIR


def _not_in_force(tree: Any, kind: mi.Type, place: str = "") -> Iterator[str]:
    for key, found, found_kind in inner(tree, kind):
        if _is_reserved(found_kind):
            here, remedy = join(place, key), notes(found_kind).get("x-remedy")
            if place and remedy:
                yield f"{here} has no effect: {remedy}"
            elif place:
                yield f"{here} is not in this version: it has no effect"
            else:
                yield f"section {here} is not in this version: nothing in it is in force"
        elif isinstance(found, dict | list) and reaches(found_kind, _is_reserved):
            yield from _not_in_force(found, found_kind, join(place, key))


def _is_reserved(kind: mi.Type) -> bool:
    return bool(notes(kind).get("x-reserved"))
