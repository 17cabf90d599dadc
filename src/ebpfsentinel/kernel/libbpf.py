"""libbpf through cffi in ABI mode: declarations, error texts, and its log.

Only declarations and thin calls live here. libbpf 1.x returns negative errno values or sets errno
and returns NULL; :func:`check` and :func:`check_pointer` turn both into :class:`KernelError`.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import deque
from functools import cache
from typing import TYPE_CHECKING, Any

import cffi

from ebpfsentinel.model.kernel import KernelError

if TYPE_CHECKING:
    from collections.abc import Iterable

ffi = cffi.FFI()
ffi.cdef("""
struct bpf_object; struct bpf_map; struct bpf_program; struct bpf_link; struct btf;
struct opts_flags { size_t sz; uint32_t flags; };
struct opts_batch { size_t sz; uint64_t elem_flags; uint64_t flags; };
struct opts_run {
    size_t sz; const void *data_in; void *data_out; uint32_t data_size_in; uint32_t data_size_out;
    const void *ctx_in; void *ctx_out; uint32_t ctx_size_in; uint32_t ctx_size_out;
    uint32_t retval; int repeat; uint32_t duration; uint32_t flags; uint32_t cpu;
    uint32_t batch_size;
};
struct opts_map { size_t sz; uint32_t btf_fd, key_type, value_type, vmlinux_value_type;
    uint32_t inner_map_fd; uint32_t map_flags; uint64_t map_extra; uint32_t numa_node;
    uint32_t map_ifindex; };
struct tc_hook { size_t sz; int ifindex; int attach_point; uint32_t parent; size_t padding; };
struct tc_opts { size_t sz; int prog_fd; uint32_t flags; uint32_t prog_id; uint32_t handle;
    uint32_t priority; size_t padding; };

typedef int (*print_fn)(int level, const char *format, void *args);
print_fn libbpf_set_print(print_fn fn);
int vsnprintf(char *text, size_t size, const char *format, void *args);

struct bpf_object *bpf_object__open_file(const char *path, const void *opts);
int bpf_object__load(struct bpf_object *object);
void bpf_object__close(struct bpf_object *object);
struct bpf_program *bpf_object__next_program(const struct bpf_object *o, struct bpf_program *p);
struct bpf_map *bpf_object__next_map(const struct bpf_object *o, const struct bpf_map *m);

const char *bpf_program__name(const struct bpf_program *program);
const char *bpf_program__section_name(const struct bpf_program *program);
int bpf_program__fd(const struct bpf_program *program);
int bpf_program__type(const struct bpf_program *program);
int bpf_program__set_type(struct bpf_program *program, int type);
int bpf_program__set_flags(struct bpf_program *program, uint32_t flags);
int bpf_program__set_autoload(struct bpf_program *program, bool autoload);
struct bpf_link *bpf_program__attach(const struct bpf_program *program);
struct bpf_link *bpf_program__attach_cgroup(const struct bpf_program *program, int cgroup_fd);

const char *bpf_map__name(const struct bpf_map *map);
int bpf_map__fd(const struct bpf_map *map);
int bpf_map__type(const struct bpf_map *map);
uint32_t bpf_map__key_size(const struct bpf_map *map);
uint32_t bpf_map__value_size(const struct bpf_map *map);
uint32_t bpf_map__max_entries(const struct bpf_map *map);
uint32_t bpf_map__map_flags(const struct bpf_map *map);
bool bpf_map__is_internal(const struct bpf_map *map);
int bpf_map__set_max_entries(struct bpf_map *map, uint32_t max_entries);
int bpf_map__reuse_fd(struct bpf_map *map, int fd);
int bpf_map__set_pin_path(struct bpf_map *map, const char *path);
struct bpf_map *bpf_map__inner_map(struct bpf_map *map);
uint32_t bpf_map__btf_key_type_id(const struct bpf_map *map);
uint32_t bpf_map__btf_value_type_id(const struct bpf_map *map);
int bpf_object__btf_fd(const struct bpf_object *object);

int bpf_link__fd(const struct bpf_link *link);
int bpf_link__destroy(struct bpf_link *link);
int bpf_link_create(int prog_fd, int target_fd, int attach_type, const void *opts);
int bpf_link_update(int link_fd, int new_prog_fd, const void *opts);
int bpf_link_detach(int link_fd);
int bpf_iter_create(int link_fd);
int bpf_obj_pin(int fd, const char *path);
int bpf_obj_get(const char *path);
int bpf_obj_get_info_by_fd(int fd, void *info, uint32_t *info_bytes);
int bpf_enable_stats(int type);
int bpf_prog_test_run_opts(int prog_fd, struct opts_run *opts);

int bpf_map_create(int type, const char *name, uint32_t key_bytes, uint32_t value_bytes,
                   uint32_t max_entries, const struct opts_map *opts);
int bpf_map_update_elem(int fd, const void *key, const void *value, uint64_t flags);
int bpf_map_lookup_elem(int fd, const void *key, void *value);
int bpf_map_get_fd_by_id(uint32_t id);
int bpf_map_delete_elem(int fd, const void *key);
int bpf_map_get_next_key(int fd, const void *key, void *next_key);
int bpf_map_update_batch(int fd, const void *keys, const void *values, uint32_t *count,
                         const struct opts_batch *opts);
int bpf_map_lookup_batch(int fd, void *in_batch, void *out_batch, void *keys, void *values,
                         uint32_t *count, const struct opts_batch *opts);

int bpf_tc_hook_create(struct tc_hook *hook);
int bpf_tc_hook_destroy(struct tc_hook *hook);
int bpf_tc_attach(const struct tc_hook *hook, struct tc_opts *opts);
int bpf_tc_detach(const struct tc_hook *hook, const struct tc_opts *opts);
int bpf_tc_query(const struct tc_hook *hook, struct tc_opts *opts);

struct btf *btf__parse_elf(const char *path, void *ext);
const void *btf__raw_data(const struct btf *btf, uint32_t *bytes);
void btf__free(struct btf *btf);
""")

_REMEDIES = {
    errno.EPERM: "run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
    errno.EINVAL: "this kernel may lack the feature",
    errno.ENOSPC: "the map is full",
    errno.E2BIG: "the map is full, or the program is larger than this kernel takes",
    errno.ENODEV: "the interface is gone",
    errno.EBUSY: "another program holds this hook: 'bpftool net' shows which",
    errno.ENOMEM: "the kernel has no memory for it",
}


class _Log(threading.local):
    """Each thread's own, so that objects can be loaded side by side."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=2000)


_log = _Log()


def log() -> deque[str]:
    """What libbpf said last in this thread, oldest first; a verifier's log is in here."""
    return _log.lines


@ffi.callback("int(int, const char *, void *)")  # type: ignore[untyped-decorator]
def _keep_log(level: int, text_format: Any, args: Any) -> int:
    if level > 1:
        return 0
    text = ffi.new("char[]", 1 << 16)
    _libc().vsnprintf(text, len(text), text_format, args)
    log().extend(ffi.string(text).decode(errors="replace").splitlines())
    return 0


@cache
def _libc() -> Any:
    return ffi.dlopen(None)


@cache
def lib() -> Any:
    """The loaded library.

    Raises:
        KernelError: libbpf.so.1 is not installed.
    """
    try:
        loaded = ffi.dlopen("libbpf.so.1")
    except OSError as error:
        raise KernelError(f"libbpf.so.1 is missing ({error}): run 'make setup'") from None
    loaded.libbpf_set_print(_keep_log)
    return loaded


def explain(number: int) -> str:
    """``EPERM (Operation not permitted): run as root...`` of a positive errno."""
    text = f"{errno.errorcode.get(number, number)} ({os.strerror(number)})"
    return f"{text}: {_REMEDIES[number]}" if number in _REMEDIES else text


def check(result: int, what: str) -> int:
    """The result where it is not negative, else :class:`KernelError` that says ``what`` failed."""
    if result < 0:
        raise KernelError(f"{what}: {explain(-result if result != -1 else ffi.errno)}")
    return result


def check_pointer(pointer: Any, what: str) -> Any:
    """The pointer where it is not NULL, else :class:`KernelError`."""
    if pointer == ffi.NULL:
        raise KernelError(f"{what}: {explain(ffi.errno)}")
    return pointer


def text(pointer: Any) -> str:
    """A C string."""
    return bytes(ffi.string(pointer)).decode()


def each(step: Any, object_: Any) -> Iterable[Any]:
    """All programs or maps of an object, by its ``next`` function."""
    found = step(object_, ffi.NULL)
    while found != ffi.NULL:
        yield found
        found = step(object_, found)


def sized(kind: str, **fields: Any) -> Any:
    """An option struct with its own size filled in, as libbpf wants it."""
    return ffi.new(f"struct {kind} *", {"sz": ffi.sizeof(f"struct {kind}"), **fields})


def raw_btf(path: str) -> bytes:
    """The raw BTF of an object file."""
    btf = check_pointer(lib().btf__parse_elf(path.encode(), ffi.NULL), f"reading types of {path}")
    size = ffi.new("uint32_t *")
    data = lib().btf__raw_data(btf, size)
    raw = bytes(ffi.buffer(data, size[0]))
    lib().btf__free(btf)
    return raw
