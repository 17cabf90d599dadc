/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Processes: exec, failed exec, fork, exit, ptrace and the setuid family.
 *
 * Every event is counted before any filter. Exec, fork and exit are always reported, because the
 * process tree in user space must be exact; the other kinds only when a rule in force may match
 * them (map process_wanted).
 *
 * Paths. The helper that prints a path may not be called where we hook, so we walk from the file
 * up to the root of the mount tree and write the names right to left into a per-CPU buffer. The
 * walk takes no lock: a rename of a parent directory at the same instant can give a path of both
 * names, as it can in any tool that reads paths without locks. It is bounded; what is cut is
 * flagged. The text reads as /proc/PID/exe does, " (deleted)" included.
 *
 * A line has TEXT_BYTES for the text, which ends there, and as many zeros after it: a copy of the
 * record's whole field from the start of the text therefore also clears the rest of the field.
 *
 * Everything that a walk learns is kept in the map and not in variables. The verifier follows what
 * it knows of every variable along every path through a loop (670,000 steps, a second to load);
 * what is in a map is unknown to it, so paths join again (a twentieth of that).
 */
#include "vmlinux.h"
#include "record.h"
#include "task.h"
#include "process.h"

#define TEXT_BYTES 1024
#define PATH_STEPS 48
#define CGROUP_STEPS 12
#define PTRACED_STEPS 32
#define AT_FDCWD -100
#define PTRACE_TRACEME 0
#define PTRACE_FIRST_NEW 0x4200

/* Forks first: read in this order, a process is known, with who started it, when its exec comes. */
RING(forks, struct process_fork, 512 << 10);
RING(execs, struct process_exec, 2 << 20);
RING(execs_large, struct process_exec_large, 1 << 20);
RING(exec_fails, struct process_exec_failed, 256 << 10);
RING(exits, struct process_exit, 512 << 10);
RING(ptraces, struct process_ptrace, 256 << 10);
RING(setuids, struct process_setuid, 256 << 10);
RECORD(process_tasks, struct process_task);
EMIT_TYPE(process_event, enum process_event);
EMIT_TYPE(process_flag, enum process_flag);
EMIT_TYPE(process_setuid_call, enum process_setuid_call);
EMIT_TYPE(process_capture, enum process_capture);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct process_counts);
} process_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct process_wanted);
} process_wanted SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 256);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct process_name_key);
	__type(value, __u32);
} process_names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 256);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct process_path_key);
	__type(value, __u32);
} process_paths SEC(".maps");

/* Evicts the oldest: a call that never returns, such as the exec of a thread, leaves its entry. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, struct process_call);
} process_calls SEC(".maps");

/* One buffer set for each kind of program, so that none can meet another's half-written text. */
enum text_user {
	TEXT_OF_EXEC,
	TEXT_OF_CALL,
	TEXT_OF_SEED,
	TEXT_USERS,
};

struct text_line {
	char text[2 * TEXT_BYTES];
	__u32 at; /* where the text starts */
};

struct process_text {
	struct text_line path;
	struct text_line cwd;
	struct text_line cgroup;
	char name[256];
	__u32 flags; /* enum process_flag: what was cut, and what kind of executable it is */
	__u32 argv_bytes;
	__u64 argv_start;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TEXT_USERS);
	__type(key, __u32);
	__type(value, struct process_text);
} process_texts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct process_task);
} process_seed SEC(".maps");

/* The run of the iterator that showed process 1. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} process_run SEC(".maps");

static __always_inline struct process_counts *counts_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&process_counts, &zero);
}

static __always_inline struct process_wanted *wanted_get(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&process_wanted, &zero);
}

static __always_inline struct process_text *text_get(__u32 user)
{
	return bpf_map_lookup_elem(&process_texts, &user);
}

#define COUNT(field)                                                                               \
	do {                                                                                       \
		struct process_counts *counts = counts_get();                                      \
                                                                                                   \
		if (counts)                                                                        \
			counts->field++;                                                           \
	} while (0)

static __always_inline void subject_fill(void *record, struct task_struct *task, __u16 type)
{
	struct process_subject *who = record;
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);
	const struct cred *cred = BPF_CORE_READ(task, cred);
	struct upid own = task_own_pid(task);

	who->version = PROCESS_VERSION;
	who->type = type;
	who->flags = BPF_CORE_READ(task, flags) & PF_KTHREAD ? PROCESS_KERNEL : 0;
	who->time_ns = bpf_ktime_get_boot_ns();
	who->start_ns = task_start_ns(task);
	who->parent_start_ns = task_start_ns(parent);
	who->pid = BPF_CORE_READ(task, tgid);
	who->ppid = BPF_CORE_READ(parent, tgid);
	who->uid = BPF_CORE_READ(cred, uid.val);
	who->gid = BPF_CORE_READ(cred, gid.val);
	who->euid = BPF_CORE_READ(cred, euid.val);
	who->egid = BPF_CORE_READ(cred, egid.val);
	who->pid_ns = BPF_CORE_READ(own.ns, ns.inum);
	who->ns_pid = own.nr;
	__builtin_memset(who->comm, 0, sizeof(who->comm));
	bpf_probe_read_kernel_str(who->comm, sizeof(who->comm), &task->comm);
}

/* Put "/name" in front of the text; false when it does not fit. */
static __always_inline bool line_prepend(struct text_line *line, const void *name, __u32 bytes)
{
	__u32 at = line->at;

	if (bytes > 255 || at > TEXT_BYTES || at < bytes + 1)
		return false;
	at -= bytes + 1;
	/* The compiler knows the bounds and would drop the masks; verifiers before 6.12 need them. */
	asm volatile("" : "+r"(at), "+r"(bytes));
	at &= TEXT_BYTES - 1;
	line->text[at] = '/';
	if (bpf_probe_read_kernel(&line->text[at + 1], bytes & 255, name))
		COUNT(path_unreadable);
	line->at = at;
	return true;
}

static __always_inline __u32 line_start(const struct text_line *line)
{
	__u32 at = line->at;

	return at > TEXT_BYTES ? TEXT_BYTES : at;
}

/* The path of a dentry up to the root of the mount tree it is in; false when the left is cut off. */
static __noinline bool path_walk(struct text_line *line, struct dentry *dentry,
				 struct vfsmount *vfsmount)
{
	struct mount *mount = (void *)vfsmount - bpf_core_field_offset(struct mount, mnt);
	struct dentry *root = BPF_CORE_READ(vfsmount, mnt_root);
	struct dentry *parent = BPF_CORE_READ(dentry, d_parent);

	if (!line)
		return false;
	line->at = TEXT_BYTES;
	/* As the kernel's own d_path: a name that was unlinked, or that never was linked. */
	if (dentry != root && (dentry == parent || !BPF_CORE_READ(dentry, d_hash.pprev))) {
		__builtin_memcpy(&line->text[TEXT_BYTES - 10], " (deleted)", 10);
		line->at = TEXT_BYTES - 10;
	}
	for (int step = 0; step < PATH_STEPS; step++) {
		struct qstr name = {};

		if (dentry == root) {
			struct mount *above = BPF_CORE_READ(mount, mnt_parent);

			if (above == mount || !above)
				return line->at < TEXT_BYTES || line_prepend(line, line, 0);
			dentry = BPF_CORE_READ(mount, mnt_mountpoint);
			mount = above;
			root = BPF_CORE_READ(mount, mnt.mnt_root);
			continue;
		}
		parent = BPF_CORE_READ(dentry, d_parent);
		if (bpf_probe_read_kernel(&name, sizeof(name), &dentry->d_name))
			COUNT(path_unreadable);
		if (!line_prepend(line, name.name, name.len))
			return false;
		if (parent == dentry)
			return true;
		dentry = parent;
	}
	return false;
}

/* The path of a cgroup up to the root of the unified hierarchy; false when the left is cut off. */
static __noinline bool cgroup_walk(struct process_text *text, struct kernfs_node *node)
{
	if (!text)
		return false;
	text->cgroup.at = TEXT_BYTES;
	for (int step = 0; step < CGROUP_STEPS; step++) {
		struct kernfs_node *parent = kernfs_parent(node);
		long bytes;

		if (!parent)
			return text->cgroup.at < TEXT_BYTES || line_prepend(&text->cgroup, text, 0);
		bytes = bpf_probe_read_kernel_str(text->name, sizeof(text->name),
						  BPF_CORE_READ(node, name));
		if (bytes <= 0) {
			COUNT(path_unreadable);
			return false;
		}
		if (!line_prepend(&text->cgroup, text->name, bytes - 1))
			return false;
		node = parent;
	}
	return false;
}

static __always_inline void exe_find(struct process_text *text, struct file *exe)
{
	struct dentry *dentry = BPF_CORE_READ(exe, f_path.dentry);
	struct vfsmount *mnt = BPF_CORE_READ(exe, f_path.mnt);

	text->path.at = TEXT_BYTES;
	if (!dentry || !mnt)
		return;
	if (BPF_CORE_READ(dentry, d_parent) == dentry && BPF_CORE_READ(mnt, mnt_root) != dentry)
		text->flags |= PROCESS_MEMFD | PROCESS_DELETED;
	else if (!BPF_CORE_READ(dentry, d_hash.pprev))
		text->flags |= PROCESS_DELETED;
	if (!path_walk(&text->path, dentry, mnt))
		text->flags |= PROCESS_PATH_TRUNCATED;
}

static __always_inline bool name_ignored(const struct process_wanted *wanted, const char *comm)
{
	struct process_name_key key = {.prefix_bits = sizeof(key.name) * 8};

	if (!wanted->ignored_names)
		return false;
	__builtin_memcpy(key.name, comm, sizeof(key.name));
	return bpf_map_lookup_elem(&process_names, &key);
}

static __always_inline bool path_ignored(const struct process_wanted *wanted,
					 const struct process_text *text)
{
	struct process_path_key key = {.prefix_bits = sizeof(key.path) * 8};

	if (!wanted->ignored_paths)
		return false;
	bpf_probe_read_kernel(key.path, sizeof(key.path),
			      &text->path.text[line_start(&text->path)]);
	return bpf_map_lookup_elem(&process_paths, &key);
}

/* Is the process of this subject on the ignore list, by its name or its executable? */
static __always_inline bool subject_ignored(const struct process_wanted *wanted,
					    const struct process_subject *who,
					    struct task_struct *task)
{
	struct process_text *text;

	if (name_ignored(wanted, who->comm))
		return true;
	if (!wanted->ignored_paths)
		return false;
	text = text_get(TEXT_OF_CALL);
	if (!text)
		return false;
	exe_find(text, BPF_CORE_READ(task, mm, exe_file));
	return path_ignored(wanted, text);
}

static __always_inline void text_find(struct process_text *text, struct task_struct *task,
				      __u32 capture)
{
	struct mm_struct *mm = BPF_CORE_READ(task, mm);
	struct dentry *cwd = BPF_CORE_READ(task, fs, pwd.dentry);
	__u64 argv_end;

	text->flags = BPF_CORE_READ(task, signal, tty) ? PROCESS_TTY : 0;
	exe_find(text, BPF_CORE_READ(mm, exe_file));
	text->cwd.at = TEXT_BYTES;
	if (cwd && capture & CAPTURE_CWD &&
	    !path_walk(&text->cwd, cwd, BPF_CORE_READ(task, fs, pwd.mnt)))
		text->flags |= PROCESS_CWD_TRUNCATED;
	if (!cgroup_walk(text, task_cgroup(task)))
		text->flags |= PROCESS_CGROUP_TRUNCATED;
	if (text->cgroup.at <= TEXT_BYTES - PROCESS_CGROUP) {
		text->cgroup.at = TEXT_BYTES - PROCESS_CGROUP + 1;
		text->flags |= PROCESS_CGROUP_TRUNCATED;
	}
	text->argv_start = 0;
	text->argv_bytes = 0;
	if (!(capture & CAPTURE_ARGV))
		return;
	text->argv_start = BPF_CORE_READ(mm, arg_start);
	argv_end = BPF_CORE_READ(mm, arg_end);
	if (argv_end > text->argv_start)
		text->argv_bytes = argv_end - text->argv_start;
}

static __always_inline void image_fill(void *record, struct task_struct *task,
				       const struct process_text *text, __u16 type)
{
	struct process_image *image = record;
	struct nsproxy *nsproxy = BPF_CORE_READ(task, nsproxy);
	struct inode *inode = BPF_CORE_READ(task, mm, exe_file, f_inode);

	subject_fill(record, task, type);
	image->flags |= text->flags;
	image->cgroup_id = BPF_CORE_READ(task_cgroup(task), id);
	image->inode = BPF_CORE_READ(inode, i_ino);
	image->device = BPF_CORE_READ(inode, i_sb, s_dev);
	image->loginuid = -1;
	image->sessionid = -1;
	if (bpf_core_field_exists(task->loginuid)) {
		image->loginuid = BPF_CORE_READ(task, loginuid.val);
		image->sessionid = BPF_CORE_READ(task, sessionid);
	}
	image->mnt_ns = BPF_CORE_READ(nsproxy, mnt_ns, ns.inum);
	image->net_ns = BPF_CORE_READ(nsproxy, net_ns, ns.inum);
	image->user_ns = BPF_CORE_READ(task, cred, user_ns, ns.inum);
	image->uts_ns = BPF_CORE_READ(nsproxy, uts_ns, ns.inum);
	image->ipc_ns = BPF_CORE_READ(nsproxy, ipc_ns, ns.inum);
	image->argc = 0;
	image->argv_bytes = text->argv_bytes;
}

/* Copies the whole field, so that the zeros after the text clear what the text does not fill. */
#define LINE_COPY(field, line)                                                                     \
	do {                                                                                       \
		if (bpf_probe_read_kernel(field, sizeof(field),                                    \
					  &(line).text[line_start(&(line))]))                      \
			COUNT(text_unread);                                                        \
	} while (0)

/* The arguments, from the memory of the current process. A failed read clears what it read into. */
static __always_inline void argv_copy(void *argv, __u32 room, __u32 *flags,
				      const struct process_text *text)
{
	__u32 bytes = text->argv_bytes;

	/* Reading address 0 fails, and a failed read clears its target: memset of any size. */
	bpf_probe_read_kernel(argv, room, 0);
	if (bytes > room) {
		bytes = room;
		*flags |= PROCESS_ARGV_TRUNCATED;
	}
	if (bytes && bpf_probe_read_user(argv, bytes, (void *)text->argv_start)) {
		*flags |= PROCESS_ARGV_UNREADABLE;
		COUNT(argv_unreadable);
	}
}

static __always_inline bool text_small(const struct process_text *text)
{
	return text->path.at > TEXT_BYTES - PROCESS_PATH_SMALL &&
	       text->cwd.at > TEXT_BYTES - PROCESS_PATH_SMALL &&
	       text->argv_bytes <= PROCESS_ARGV_SMALL;
}

#define EXEC_EMIT(ring, record_type)                                                               \
	do {                                                                                       \
		record_type *exec = record_reserve(ring, sizeof(*exec));                           \
                                                                                                   \
		if (!exec)                                                                         \
			return 0;                                                                  \
		image_fill(exec, task, text, PROCESS_EXEC);                                        \
		exec->argc = BPF_CORE_READ(bprm, argc);                                            \
		LINE_COPY(exec->path, text->path);                                                 \
		LINE_COPY(exec->cwd, text->cwd);                                                   \
		LINE_COPY(exec->cgroup, text->cgroup);                                             \
		argv_copy(exec->argv, sizeof(exec->argv), &exec->flags, text);                     \
		record_submit(exec);                                                               \
	} while (0)

SEC("tp_btf/sched_process_exec")
int process_exec(struct sched_exec *ctx)
{
	__u64 thread = bpf_get_current_pid_tgid() >> 32 << 32 | (__u32)ctx->old_pid;
	struct linux_binprm *bprm = ctx->bprm;
	struct task_struct *task = ctx->task;
	struct process_wanted *wanted = wanted_get();
	struct process_text *text = text_get(TEXT_OF_EXEC);
	char comm[16] = {};

	COUNT(exec);
	if (!wanted || !text)
		return 0;
	if (wanted->events & 1 << PROCESS_EXEC_FAILED)
		bpf_map_delete_elem(&process_calls, &thread);
	text_find(text, task, wanted->capture);
	bpf_probe_read_kernel_str(comm, sizeof(comm), &task->comm);
	if (name_ignored(wanted, comm) || path_ignored(wanted, text)) {
		text->flags |= PROCESS_IGNORED;
		COUNT(filtered);
	}
	if (BPF_CORE_READ(bprm, filename) != BPF_CORE_READ(bprm, interp))
		text->flags |= PROCESS_SCRIPT;
	if (text_small(text))
		EXEC_EMIT(execs, struct process_exec);
	else
		EXEC_EMIT(execs_large, struct process_exec_large);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int process_fork(struct sched_fork *ctx)
{
	struct task_struct *child = ctx->child;
	struct process_fork *fork;

	if (BPF_CORE_READ(child, pid) != BPF_CORE_READ(child, tgid)) {
		COUNT(thread);
		return 0;
	}
	COUNT(fork);
	fork = record_reserve(forks, sizeof(*fork));
	if (!fork)
		return 0;
	subject_fill(fork, child, PROCESS_FORK);
	fork->cgroup_id = BPF_CORE_READ(task_cgroup(child), id);
	record_submit(fork);
	return 0;
}

/* The last thread of a process goes: what its parent will learn by wait(2). */
static __always_inline int process_gone(struct task_struct *task)
{
	struct process_exit *exit;
	int status;

	COUNT(exit);
	exit = record_reserve(exits, sizeof(*exit));
	if (!exit)
		return 0;
	if (BPF_CORE_READ(task, signal, flags) & SIGNAL_GROUP_EXIT)
		status = BPF_CORE_READ(task, signal, group_exit_code);
	else
		status = BPF_CORE_READ(task, group_leader, exit_code);
	subject_fill(exit, task, PROCESS_EXIT);
	if (status & 0x80)
		exit->flags |= PROCESS_CORE_DUMPED;
	exit->code = status >> 8 & 0xff;
	exit->signal = status & 0x7f;
	record_submit(exit);
	return 0;
}

/* Linux 6.16 and later say which thread is the last. */
SEC("tp_btf/sched_process_exit")
int process_exit(struct sched_exit *ctx)
{
	return ctx->group_dead & 1 ? process_gone(ctx->task) : 0;
}

/*
 * Before 6.16 the count of live threads tells. Two last threads that exit at the same instant can
 * both read 0: the process is then reported twice, which the tree ignores.
 */
SEC("tp_btf/sched_process_exit")
int process_exit_old(struct sched_exit *ctx)
{
	struct task_struct *task = ctx->task;

	return BPF_CORE_READ(task, signal, live.counter) ? 0 : process_gone(task);
}

static __always_inline int call_save(__u64 first, __u64 second, __u64 third)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	const struct cred *cred = BPF_CORE_READ(task, cred);
	__u64 thread = bpf_get_current_pid_tgid();
	struct process_call call = {
		.first = first,
		.second = second,
		.third = third,
		.uid = BPF_CORE_READ(cred, uid.val),
		.gid = BPF_CORE_READ(cred, gid.val),
		.euid = BPF_CORE_READ(cred, euid.val),
		.egid = BPF_CORE_READ(cred, egid.val),
	};

	if (bpf_map_update_elem(&process_calls, &thread, &call, BPF_ANY))
		COUNT(call_unsaved);
	return 0;
}

/* Take the saved entry of the call that returns now; false when nobody wanted it. */
static __always_inline bool call_take(struct process_call *call)
{
	__u64 thread = bpf_get_current_pid_tgid();
	struct process_call *saved = bpf_map_lookup_elem(&process_calls, &thread);

	if (!saved)
		return false;
	*call = *saved;
	bpf_map_delete_elem(&process_calls, &thread);
	return true;
}

static __always_inline int exec_enter(__s32 dirfd, __u64 filename)
{
	struct process_wanted *wanted = wanted_get();

	if (!wanted || !(wanted->events & 1 << PROCESS_EXEC_FAILED))
		return 0;
	return call_save(dirfd, filename, 0);
}

/* Only failures come by here: what succeeded was reported by process_exec. */
static __always_inline int exec_leave(__s64 ret)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct process_wanted *wanted = wanted_get();
	struct process_exec_failed *failed;
	struct process_call call;

	if (ret >= 0)
		return 0;
	COUNT(exec_failed);
	if (!wanted || !call_take(&call))
		return 0;
	failed = record_reserve(exec_fails, sizeof(*failed));
	if (!failed)
		return 0;
	subject_fill(failed, task, PROCESS_EXEC_FAILED);
	if (subject_ignored(wanted, (void *)failed, task)) {
		COUNT(filtered);
		record_discard(exec_fails, failed);
		return 0;
	}
	failed->error = -ret;
	failed->dirfd = call.first;
	bpf_probe_read_kernel(failed->filename, sizeof(failed->filename), 0);
	/* Read at the exit: by now the kernel itself has brought the page in. */
	if (bpf_probe_read_user_str(failed->filename, sizeof(failed->filename),
				    (void *)call.second) < 0)
		COUNT(filename_unreadable);
	record_submit(failed);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_execve")
int execve_enter(struct syscall_enter *ctx)
{
	return exec_enter(AT_FDCWD, ctx->args[0]);
}

SEC("tracepoint/syscalls/sys_exit_execve")
int execve_exit(struct syscall_exit *ctx)
{
	return exec_leave(ctx->ret);
}

SEC("tracepoint/syscalls/sys_enter_execveat")
int execveat_enter(struct syscall_enter *ctx)
{
	return exec_enter(ctx->args[0], ctx->args[1]);
}

SEC("tracepoint/syscalls/sys_exit_execveat")
int execveat_exit(struct syscall_exit *ctx)
{
	return exec_leave(ctx->ret);
}

static __always_inline bool ptrace_wanted(const struct process_wanted *wanted, __u64 request)
{
	__u64 bit = request < 32 ? request : request - PTRACE_FIRST_NEW + 32;

	return bit < 64 && wanted->ptrace_requests >> bit & 1;
}

/*
 * The traced thread: after an attach it is the first of the tracer's list, after the other requests
 * anywhere in it. Null when the kernel refused, or when it is not among the first PTRACED_STEPS.
 */
static __always_inline struct task_struct *ptrace_target(struct task_struct *task, __u64 request,
							 __u32 asked)
{
	unsigned int level = BPF_CORE_READ(task, thread_pid, level);
	struct list_head *entry = BPF_CORE_READ(task, ptraced.next);

	if (request == PTRACE_TRACEME)
		return task;
	for (int step = 0; step < PTRACED_STEPS && entry != &task->ptraced; step++) {
		struct task_struct *traced =
			(void *)entry - bpf_core_field_offset(struct task_struct, ptrace_entry);
		struct pid *pid = BPF_CORE_READ(traced, thread_pid);
		struct upid seen = {};

		bpf_probe_read_kernel(&seen, sizeof(seen), &pid->numbers[level]);
		if ((__u32)seen.nr == asked)
			return traced;
		entry = BPF_CORE_READ(entry, next);
	}
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_ptrace")
int ptrace_enter(struct syscall_enter *ctx)
{
	struct process_wanted *wanted = wanted_get();

	if (!wanted || !ptrace_wanted(wanted, ctx->args[0]))
		return 0;
	return call_save(ctx->args[0], ctx->args[1], 0);
}

SEC("tracepoint/syscalls/sys_exit_ptrace")
int ptrace_exit(struct syscall_exit *ctx)
{
	struct task_struct *target, *task = (struct task_struct *)bpf_get_current_task();
	struct process_wanted *wanted = wanted_get();
	struct process_ptrace *ptrace;
	struct process_call call;

	COUNT(ptrace);
	if (!wanted || !call_take(&call))
		return 0;
	ptrace = record_reserve(ptraces, sizeof(*ptrace));
	if (!ptrace)
		return 0;
	subject_fill(ptrace, task, PROCESS_PTRACE);
	if (subject_ignored(wanted, (void *)ptrace, task)) {
		COUNT(filtered);
		record_discard(ptraces, ptrace);
		return 0;
	}
	target = ptrace_target(task, call.first, call.second);
	if (target)
		ptrace->flags |= PROCESS_TARGET_KNOWN;
	ptrace->target_start_ns = target ? task_start_ns(target) : 0;
	ptrace->request = call.first;
	ptrace->result = ctx->ret;
	ptrace->asked_pid = call.second;
	ptrace->target_pid = BPF_CORE_READ(target, tgid);
	ptrace->target_tid = BPF_CORE_READ(target, pid);
	ptrace->target_uid = BPF_CORE_READ(target, cred, uid.val);
	__builtin_memset(ptrace->target_comm, 0, sizeof(ptrace->target_comm));
	if (target)
		bpf_probe_read_kernel_str(ptrace->target_comm, sizeof(ptrace->target_comm),
					  &target->comm);
	record_submit(ptrace);
	return 0;
}

/* The kernel refuses a program that reads more arguments than the system call has. */
static __always_inline int ids_enter(struct syscall_enter *ctx, __u32 number, const int arguments)
{
	struct process_wanted *wanted = wanted_get();

	if (!wanted || !(wanted->setuid_calls >> number & 1))
		return 0;
	return call_save(ctx->args[0], arguments > 1 ? ctx->args[1] : 0,
			 arguments > 2 ? ctx->args[2] : 0);
}

static __noinline int ids_leave(struct syscall_exit *ctx, __u32 number)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct process_wanted *wanted = wanted_get();
	struct process_setuid *setuid;
	struct process_call call;

	COUNT(setuid);
	if (!wanted || !call_take(&call))
		return 0;
	setuid = record_reserve(setuids, sizeof(*setuid));
	if (!setuid)
		return 0;
	subject_fill(setuid, task, PROCESS_SETUID);
	if (subject_ignored(wanted, (void *)setuid, task)) {
		COUNT(filtered);
		record_discard(setuids, setuid);
		return 0;
	}
	setuid->call = number;
	setuid->result = ctx->ret;
	setuid->asked_1 = call.first;
	setuid->asked_2 = call.second;
	setuid->asked_3 = call.third;
	setuid->old_uid = call.uid;
	setuid->old_gid = call.gid;
	setuid->old_euid = call.euid;
	setuid->old_egid = call.egid;
	setuid->new_uid = setuid->uid;
	setuid->new_gid = setuid->gid;
	setuid->new_euid = setuid->euid;
	setuid->new_egid = setuid->egid;
	setuid->reserved = 0;
	record_submit(setuid);
	return 0;
}

#define SETUID_CALL(call, number, arguments)                                                       \
	SEC("tracepoint/syscalls/sys_enter_" #call)                                                \
	int call##_enter(struct syscall_enter *ctx)                                                \
	{                                                                                          \
		return ids_enter(ctx, number, arguments);                                          \
	}                                                                                          \
	SEC("tracepoint/syscalls/sys_exit_" #call)                                                 \
	int call##_exit(struct syscall_exit *ctx)                                                  \
	{                                                                                          \
		return ids_leave(ctx, number);                                                     \
	}

SETUID_CALL(setuid, CALL_SETUID, 1)
SETUID_CALL(setgid, CALL_SETGID, 1)
SETUID_CALL(setreuid, CALL_SETREUID, 2)
SETUID_CALL(setregid, CALL_SETREGID, 2)
SETUID_CALL(setresuid, CALL_SETRESUID, 3)
SETUID_CALL(setresgid, CALL_SETRESGID, 3)
SETUID_CALL(setfsuid, CALL_SETFSUID, 1)
SETUID_CALL(setfsgid, CALL_SETFSGID, 1)
SETUID_CALL(setgroups, CALL_SETGROUPS, 1)

/* Not 0 when the output is full: the kernel then shows the same task again, so nothing is lost. */
static __noinline long seed_show(struct seq_file *seq, struct task_struct *task)
{
	struct process_text *text = text_get(TEXT_OF_SEED);
	struct process_wanted *wanted = wanted_get();
	struct process_task *seed;
	__u32 zero = 0;

	seed = bpf_map_lookup_elem(&process_seed, &zero);
	if (!seed || !text || !wanted)
		return 0;
	text_find(text, task, CAPTURE_CWD);
	image_fill(seed, task, text, PROCESS_TASK);
	if (name_ignored(wanted, seed->comm) || path_ignored(wanted, text))
		seed->flags |= PROCESS_IGNORED;
	LINE_COPY(seed->path, text->path);
	LINE_COPY(seed->cwd, text->cwd);
	LINE_COPY(seed->cgroup, text->cgroup);
	return bpf_seq_write(seq, seed, sizeof(*seed));
}

/*
 * One record for every process that is there now, to start the tree from. There are hosts whose
 * iterator leaves out process 1 (a Firecracker guest did): it is shown, once in a run, as the
 * parent of the first process that it is the parent of. User space takes the same process twice.
 */
SEC("iter/task")
int process_tasks(struct bpf_iter__task *ctx)
{
	struct task_struct *parent, *task = ctx->task;
	__u64 *last_run;
	__u32 zero = 0;

	if (!task || BPF_CORE_READ(task, pid) != BPF_CORE_READ(task, tgid) ||
	    !BPF_CORE_READ(task, signal, live.counter))
		return 0;
	parent = BPF_CORE_READ(task, real_parent, group_leader);
	last_run = bpf_map_lookup_elem(&process_run, &zero);
	if (last_run && *last_run != ctx->meta->session_id && BPF_CORE_READ(parent, tgid) == 1) {
		if (seed_show(ctx->meta->seq, parent) || seed_show(ctx->meta->seq, task))
			return 0;
		*last_run = ctx->meta->session_id;
		return 0;
	}
	seed_show(ctx->meta->seq, task);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
