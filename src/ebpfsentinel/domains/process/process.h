/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the process programs and the engine tell each other. Every record starts with the same
 * subject: the process it is about, named for ever by (pid, start_ns). Times are nanoseconds of
 * the boot clock, ids are those of the first namespaces, text is padded with NULs.
 */
#ifndef EBPFSENTINEL_PROCESS_H
#define EBPFSENTINEL_PROCESS_H

#include "vmlinux.h"

#define PROCESS_VERSION 1

enum process_event {
	PROCESS_EXEC = 1,
	PROCESS_EXEC_FAILED = 2,
	PROCESS_FORK = 3,
	PROCESS_EXIT = 4,
	PROCESS_PTRACE = 5,
	PROCESS_SETUID = 6,
	PROCESS_TASK = 7,
};

enum process_flag {
	PROCESS_PATH_TRUNCATED = 1 << 0,
	PROCESS_CWD_TRUNCATED = 1 << 1,
	PROCESS_ARGV_TRUNCATED = 1 << 2,
	PROCESS_CGROUP_TRUNCATED = 1 << 3,
	PROCESS_ARGV_UNREADABLE = 1 << 4,
	PROCESS_DELETED = 1 << 5,  /* the executable has no name in its file system any more */
	PROCESS_MEMFD = 1 << 6,    /* the executable never had one */
	PROCESS_SCRIPT = 1 << 7,   /* started through #! or binfmt_misc */
	PROCESS_TTY = 1 << 8,      /* has a controlling terminal */
	PROCESS_KERNEL = 1 << 9,   /* a kernel thread */
	PROCESS_IGNORED = 1 << 10, /* on the ignore list: for the tree, not for the rules */
	PROCESS_CORE_DUMPED = 1 << 11,
	PROCESS_TARGET_KNOWN = 1 << 12, /* the ptrace target was found in the kernel */
};

/* Which system call of the family; the order is that of the programs. */
enum process_setuid_call {
	CALL_SETUID = 0,
	CALL_SETGID = 1,
	CALL_SETREUID = 2,
	CALL_SETREGID = 3,
	CALL_SETRESUID = 4,
	CALL_SETRESGID = 5,
	CALL_SETFSUID = 6,
	CALL_SETFSGID = 7,
	CALL_SETGROUPS = 8,
};

/* 80 bytes at the start of every record. */
#define PROCESS_SUBJECT                                                                            \
	__u16 version;                                                                             \
	__u16 type;                                                                                \
	__u32 flags;                                                                               \
	__u64 time_ns;                                                                             \
	__u64 start_ns;                                                                            \
	__u64 parent_start_ns;                                                                     \
	__u32 pid;                                                                                 \
	__u32 ppid;                                                                                \
	__u32 uid;                                                                                 \
	__u32 gid;                                                                                 \
	__u32 euid;                                                                                \
	__u32 egid;                                                                                \
	__u32 pid_ns;                                                                              \
	__u32 ns_pid;                                                                              \
	char comm[16];

struct process_subject {
	PROCESS_SUBJECT
};

/* What a process runs and where: 56 bytes after the subject. */
#define PROCESS_IMAGE                                                                              \
	PROCESS_SUBJECT                                                                            \
	__u64 cgroup_id;                                                                           \
	__u64 inode;                                                                               \
	__u32 device;                                                                              \
	__u32 loginuid;                                                                            \
	__u32 sessionid;                                                                           \
	__u32 mnt_ns;                                                                              \
	__u32 net_ns;                                                                              \
	__u32 user_ns;                                                                             \
	__u32 uts_ns;                                                                              \
	__u32 ipc_ns;                                                                              \
	__u32 argc;                                                                                \
	__u32 argv_bytes; /* before truncation */

struct process_image {
	PROCESS_IMAGE
};

#define PROCESS_PATH_SMALL 128
#define PROCESS_ARGV_SMALL 256
#define PROCESS_PATH_LARGE 1024
#define PROCESS_ARGV_LARGE 4096
#define PROCESS_CGROUP 192
#define PROCESS_FILENAME 256

/* A successful exec. Almost all fit the small record; what does not goes by the large one. */
struct process_exec {
	PROCESS_IMAGE
	char path[PROCESS_PATH_SMALL];
	char cwd[PROCESS_PATH_SMALL];
	char cgroup[PROCESS_CGROUP];
	char argv[PROCESS_ARGV_SMALL];
};

struct process_exec_large {
	PROCESS_IMAGE
	char path[PROCESS_PATH_LARGE];
	char cwd[PROCESS_PATH_LARGE];
	char cgroup[PROCESS_CGROUP];
	char argv[PROCESS_ARGV_LARGE];
};

/* A process that was there before us; its arguments cannot be read from here. */
struct process_task {
	PROCESS_IMAGE
	char path[PROCESS_PATH_LARGE];
	char cwd[PROCESS_PATH_LARGE];
	char cgroup[PROCESS_CGROUP];
};

struct process_exec_failed {
	PROCESS_SUBJECT
	__s32 error; /* errno, positive */
	__s32 dirfd; /* of execveat; AT_FDCWD (-100) for execve */
	char filename[PROCESS_FILENAME];
};

/* The subject is the new process. */
struct process_fork {
	PROCESS_SUBJECT
	__u64 cgroup_id;
};

struct process_exit {
	PROCESS_SUBJECT
	__s32 code;
	__u32 signal;
};

struct process_ptrace {
	PROCESS_SUBJECT
	__u64 target_start_ns;
	__u32 request;
	__s32 result;
	__u32 asked_pid; /* as the caller wrote it, in its own pid namespace */
	__u32 target_pid;
	__u32 target_tid;
	__u32 target_uid;
	char target_comm[16];
};

struct process_setuid {
	PROCESS_SUBJECT
	__u32 call;
	__s32 result;
	__u32 asked_1;
	__u32 asked_2;
	__u32 asked_3;
	__u32 old_uid;
	__u32 old_gid;
	__u32 old_euid;
	__u32 old_egid;
	__u32 new_uid;
	__u32 new_gid;
	__u32 new_euid;
	__u32 new_egid;
	__u32 reserved;
};

/* Counted for every event, before any filter; then what the filter held back, and what failed. */
struct process_counts {
	__u64 exec;
	__u64 exec_failed;
	__u64 fork;
	__u64 thread;
	__u64 exit;
	__u64 ptrace;
	__u64 setuid;
	__u64 filtered;
	__u64 argv_unreadable;
	__u64 path_unreadable;
	__u64 filename_unreadable;
	__u64 call_unsaved;
	__u64 text_unread;
};

enum process_capture {
	CAPTURE_ARGV = 1 << 0,
	CAPTURE_CWD = 1 << 1,
};

/* What the rules and settings in force can make use of; nothing else is collected. */
struct process_wanted {
	__u32 events;          /* bit n: enum process_event n */
	__u32 capture;         /* enum process_capture */
	__u64 ptrace_requests; /* bit n: request n < 32; bit 32 + n: request 0x4200 + n */
	__u32 setuid_calls;    /* bit n: enum process_setuid_call n */
	__u32 ignored_names; /* entries of process_names and process_paths: an empty one costs nothing */
	__u32 ignored_paths;
	__u32 reserved;
};

/* Ignored names and executables: an exact one includes its NUL in prefix_bits, a prefix does not. */
struct process_name_key {
	__u32 prefix_bits;
	char name[16];
};

struct process_path_key {
	__u32 prefix_bits;
	char path[PROCESS_PATH_SMALL];
};

/* A system call between its entry and its exit, by thread. */
struct process_call {
	__u64 first;
	__u64 second;
	__u64 third;
	__u32 uid;
	__u32 gid;
	__u32 euid;
	__u32 egid;
};

#endif
