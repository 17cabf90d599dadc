/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Tasks, credentials, namespaces, control groups and paths as CO-RE declarations: only the fields
 * that programs read. Differences between kernels stand here, next to each other, and nowhere else.
 *
 * Everything is read with BPF_CORE_READ and not by following typed pointers, so that one function
 * serves tracing, tracepoint and iterator programs on every kernel from 5.10 on.
 */
#ifndef EBPFSENTINEL_TASK_H
#define EBPFSENTINEL_TASK_H

#include <stdbool.h>

#include "vmlinux.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define PF_KTHREAD 0x00200000
#define SIGNAL_GROUP_EXIT 0x00000004

typedef struct {
	__u32 val;
} task_id_t;

struct list_head {
	struct list_head *next;
} CORE;

struct ns_common {
	unsigned int inum;
} CORE;

struct pid_namespace {
	struct ns_common ns;
} CORE;

struct mnt_namespace {
	struct ns_common ns;
} CORE;

struct net {
	struct ns_common ns;
} CORE;

struct user_namespace {
	struct ns_common ns;
} CORE;

struct uts_namespace {
	struct ns_common ns;
} CORE;

struct ipc_namespace {
	struct ns_common ns;
} CORE;

struct nsproxy {
	struct uts_namespace *uts_ns;
	struct ipc_namespace *ipc_ns;
	struct mnt_namespace *mnt_ns;
	struct net *net_ns;
} CORE;

/* Not CORE: an element of an array whose layout every kernel shares. */
struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
} CORE;

struct cred {
	task_id_t uid, gid, suid, sgid, euid, egid, fsuid, fsgid;
	struct user_namespace *user_ns;
} CORE;

/* Not CORE: a hash and length word, then the name, since Linux 3.6. */
struct qstr {
	__u32 hash;
	__u32 len;
	const unsigned char *name;
};

struct hlist_bl_node {
	struct hlist_bl_node *next, **pprev;
} CORE;

struct super_block {
	__u32 s_dev;
} CORE;

struct inode {
	unsigned long i_ino;
	struct super_block *i_sb;
} CORE;

struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
	struct inode *d_inode;
} CORE;

struct vfsmount {
	struct dentry *mnt_root;
} CORE;

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
} CORE;

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
} CORE;

struct file {
	struct path f_path;
	struct inode *f_inode;
} CORE;

struct fs_struct {
	struct path pwd;
} CORE;

struct mm_struct {
	unsigned long arg_start, arg_end;
	struct file *exe_file;
} CORE;

/* kernfs_node.parent became __parent in Linux 6.15. */
struct kernfs_node {
	struct kernfs_node *__parent;
	const char *name;
	__u64 id;
} CORE;

struct kernfs_node___before_6_15 {
	struct kernfs_node *parent;
} CORE;

struct cgroup {
	struct kernfs_node *kn;
} CORE;

struct css_set {
	struct cgroup *dfl_cgrp;
} CORE;

struct tty_struct;

typedef struct {
	int counter;
} task_count_t;

struct signal_struct {
	task_count_t live;
	int group_exit_code;
	unsigned int flags;
	struct tty_struct *tty;
} CORE;

struct task_struct {
	unsigned int flags;
	int exit_code;
	int pid;
	int tgid;
	struct task_struct *real_parent;
	struct list_head ptraced;
	struct list_head ptrace_entry;
	struct task_struct *group_leader;
	struct pid *thread_pid;
	__u64 start_boottime;
	const struct cred *cred;
	char comm[16];
	struct fs_struct *fs;
	struct nsproxy *nsproxy;
	struct signal_struct *signal;
	task_id_t loginuid;
	unsigned int sessionid;
	struct mm_struct *mm;
	struct css_set *cgroups;
} CORE;

/* task_struct.start_boottime was real_start_time before Linux 5.5. */
struct task_struct___before_5_5 {
	__u64 real_start_time;
} CORE;

struct linux_binprm {
	int argc;
	const char *filename;
	const char *interp;
} CORE;

struct seq_file;

/* Contexts: the layouts are those of the tracepoints' format files and of the iterators. */
struct syscall_enter {
	__u64 common;
	__s64 nr;
	__u64 args[6];
};

struct syscall_exit {
	__u64 common;
	__s64 nr;
	__s64 ret;
};

struct sched_exec {
	struct task_struct *task;
	__u64 old_pid;
	struct linux_binprm *bprm;
};

struct sched_fork {
	struct task_struct *parent;
	struct task_struct *child;
};

struct sched_exit {
	struct task_struct *task;
	__u64 group_dead; /* since Linux 6.16 */
};

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
} CORE;

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
} CORE;

/* Start of the process on the boot clock, nanoseconds; with the pid it names a process for ever. */
static __always_inline __u64 task_start_ns(struct task_struct *task)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);

	if (bpf_core_field_exists(leader->start_boottime))
		return BPF_CORE_READ(leader, start_boottime);
	return BPF_CORE_READ((struct task_struct___before_5_5 *)leader, real_start_time);
}

/* The pid as the process itself sees it, and its innermost pid namespace. */
static __always_inline struct upid task_own_pid(struct task_struct *task)
{
	struct pid *pid = BPF_CORE_READ(task, group_leader, thread_pid);
	unsigned int level = BPF_CORE_READ(pid, level);
	struct upid own = {};

	bpf_probe_read_kernel(&own, sizeof(own), &pid->numbers[level]);
	return own;
}

static __always_inline struct kernfs_node *kernfs_parent(struct kernfs_node *node)
{
	if (bpf_core_field_exists(node->__parent))
		return BPF_CORE_READ(node, __parent);
	return BPF_CORE_READ((struct kernfs_node___before_6_15 *)node, parent);
}

/* The cgroup of the unified (v2) hierarchy. */
static __always_inline struct kernfs_node *task_cgroup(struct task_struct *task)
{
	return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn);
}

#endif
