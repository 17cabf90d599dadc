// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Which process uses which socket. The rule: it is the process that made the socket, until another one
 * binds, listens, connects, accepts or (of an unconnected UDP socket) sends by it. A descriptor that was
 * inherited or handed over changes nothing by itself.
 *
 * A packet that leaves is a socket's, and so a process's, from the first one on. One that comes in is
 * looked up (flow_name_ends() of owner.h). What is accepted begins as its listener's; when accept()
 * returns, the flow gets the process that has it: of a pre-forked server, the one that serves.
 */
#include "sockets.h"

#define DEVICE_MINOR_BITS 20 /* of the kernel's own dev_t */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sockets_count);
} sockets_count SEC(".maps");

EMIT_TYPE(flow_entry, struct flow_entry);

static __always_inline struct sockets_count *count_of(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&sockets_count, &zero);
}

#define COUNT(what)                                                                                \
	do {                                                                                       \
		struct sockets_count *count = count_of();                                          \
		if (count)                                                                         \
			count->what++;                                                             \
	} while (0)

static __always_inline void read_owner(struct task_struct *task, struct flow_owner *owner)
{
	owner->start_ns = task_start_ns(task);
	owner->cgroup_id = BPF_CORE_READ(task_cgroup(task), id);
	owner->pid = BPF_CORE_READ(task, tgid);
	owner->uid = BPF_CORE_READ(task, cred, uid.val);
}

/* Write down what a process is; it may run another image by the next time. */
static __always_inline void note_facts(struct task_struct *task, const struct flow_owner *owner)
{
	struct inode *inode = BPF_CORE_READ(task, mm, exe_file, f_inode);
	struct owner_key key = {.start_ns = owner->start_ns, .pid = owner->pid};
	struct owner_facts facts = {.cgroup_id = owner->cgroup_id, .uid = owner->uid}, *known;

	facts.exe_inode = BPF_CORE_READ(inode, i_ino);
	known = bpf_map_lookup_elem(&owners, &key);
	if (known && known->exe_inode == facts.exe_inode)
		return;
	facts.exe_device = BPF_CORE_READ(inode, i_sb, s_dev);
	BPF_CORE_READ_STR_INTO(&facts.comm, task, group_leader, comm);
	bpf_map_update_elem(&owners, &key, &facts, BPF_ANY);
}

static __always_inline void own(struct flow_owner *owner, struct task_struct *task)
{
	read_owner(task, owner);
	note_facts(task, owner);
}

/* The current process uses this socket. Returns whether another one did before. */
static __always_inline bool use(void *sk)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct flow_owner *owner =
		bpf_sk_storage_get(&sock_owner, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);

	if (!owner) {
		COUNT(errors);
		return false;
	}
	if (owner->pid == (__u32)BPF_CORE_READ(task, tgid))
		return false;
	own(owner, task);
	return true;
}

SEC("cgroup/sock_create")
int sockets_create(struct bpf_sock *ctx)
{
	use(ctx);
	return 1;
}

static __always_inline int connects(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (sk) {
		use(sk);
		COUNT(connected);
	}
	return 1;
}

SEC("cgroup/connect4")
int sockets_connect4(struct bpf_sock_addr *ctx)
{
	return connects(ctx);
}

SEC("cgroup/connect6")
int sockets_connect6(struct bpf_sock_addr *ctx)
{
	return connects(ctx);
}

static __always_inline int sends(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (sk && use(sk))
		COUNT(sent);
	return 1;
}

SEC("cgroup/sendmsg4")
int sockets_sendmsg4(struct bpf_sock_addr *ctx)
{
	return sends(ctx);
}

SEC("cgroup/sendmsg6")
int sockets_sendmsg6(struct bpf_sock_addr *ctx)
{
	return sends(ctx);
}

static __always_inline bool put_listener_key(struct listener_key *key, const struct sock *sk)
{
	struct sock_end local;

	read_local_end(sk, &local);
	if (!local.family || !local.port)
		return false;
	__builtin_memcpy(key->addr, local.addr, 16);
	key->netns = sock_netns(sk);
	key->port = local.port;
	key->protocol = BPF_CORE_READ(sk, sk_protocol);
	key->family = local.family;
	return true;
}

/* An IPv6 socket that is bound to no address takes IPv4 too, unless it says otherwise. */
static __always_inline bool takes_both(const struct listener_key *key, const struct sock *sk)
{
	return key->family == 6 && !(key->addr[0] | key->addr[1] | key->addr[2] | key->addr[3]) &&
	       !BPF_CORE_READ_BITFIELD_PROBED(&sk->__sk_common, skc_ipv6only);
}

static __always_inline void listen(const struct sock *sk, const struct flow_owner *owner)
{
	struct listener entry = {.owner = *owner, .sock = (__u64)sk};
	struct listener_key key;

	if (!put_listener_key(&key, sk))
		return;
	bpf_map_update_elem(&listeners, &key, &entry, BPF_ANY);
	if (takes_both(&key, sk)) {
		key.family = 4;
		bpf_map_update_elem(&listeners, &key, &entry, BPF_ANY);
	}
	COUNT(listened);
}

static __always_inline void stop_listening(struct listener_key *key, const struct sock *sk)
{
	const struct listener *known = bpf_map_lookup_elem(&listeners, key);

	if (known && known->sock == (__u64)sk)
		bpf_map_delete_elem(&listeners, key);
}

static __always_inline void close_listener(const struct sock *sk)
{
	struct listener_key key;

	if (!put_listener_key(&key, sk))
		return;
	stop_listening(&key, sk);
	if (takes_both(&key, sk)) {
		key.family = 4;
		stop_listening(&key, sk);
	}
}

static __always_inline int binds(struct bpf_sock *ctx)
{
	struct flow_owner owner = {};

	use(ctx);
	if (ctx->protocol != PROTOCOL_UDP)
		return 1;
	read_owner((void *)bpf_get_current_task(), &owner);
	listen((const struct sock *)ctx, &owner);
	return 1;
}

SEC("cgroup/post_bind4")
int sockets_bind4(struct bpf_sock *ctx)
{
	return binds(ctx);
}

SEC("cgroup/post_bind6")
int sockets_bind6(struct bpf_sock *ctx)
{
	return binds(ctx);
}

SEC("cgroup/sock_release")
int sockets_release(struct bpf_sock *ctx)
{
	if (ctx->protocol == PROTOCOL_UDP)
		close_listener((const struct sock *)ctx);
	return 1;
}

/* Put the owner into the socket's flow; over another one only where that is known to be older. */
static __always_inline void name_flow(const struct sock *sk, const struct flow_owner *owner,
				      bool over)
{
	struct flow_search search;
	struct flow_entry *entry = flow_of_sock(sk, &search);

	if (!entry || (!over && entry->end[search.from & 1].owner.start_ns))
		return;
	entry->end[search.from & 1].owner = *owner;
	COUNT(named);
}

struct state_change {
	struct sock *sk;
	__u64 before;
	__u64 after;
};

/*
 * TCP listens from here on; and a connection is there, whose SYN may have left out of our sight. It is
 * looked at again when it ends: the kernel does not run the program for a packet that interrupts it.
 */
SEC("tp_btf/inet_sock_set_state")
int sockets_state(struct state_change *ctx)
{
	int before = ctx->before, after = ctx->after;
	struct sock *sk = ctx->sk;
	struct flow_owner *owner;

	if (after == TCP_LISTEN) {
		use(sk);
		owner = bpf_sk_storage_get(&sock_owner, sk, 0, 0);
		if (owner)
			listen(sk, owner);
	} else if (before == TCP_LISTEN) {
		close_listener(sk);
	} else if (before == TCP_ESTABLISHED ||
		   (before == TCP_SYN_SENT && after == TCP_ESTABLISHED)) {
		owner = bpf_sk_storage_get(&sock_owner, sk, 0, 0);
		if (owner)
			name_flow(sk, owner, false);
	}
	return 0;
}

struct fdtable {
	struct file **fd;
} CORE;

struct files_struct {
	struct fdtable *fdt;
} CORE;

struct task_struct___files {
	struct files_struct *files;
} CORE;

struct file___private {
	void *private_data;
} CORE;

static __always_inline const struct sock *sock_of_fd(struct task_struct *task, __s64 fd)
{
	struct file **table = BPF_CORE_READ((struct task_struct___files *)task, files, fdt, fd);
	struct file___private *file = 0;
	struct socket *socket;

	bpf_probe_read_kernel(&file, sizeof(file), table + fd);
	socket = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(socket, sk);
}

static __always_inline int accepts(const struct syscall_exit *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct flow_owner owner = {};
	const struct sock *sk;
	__u16 family;

	if (ctx->ret < 0)
		return 0;
	sk = sock_of_fd(task, ctx->ret);
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (family != AF_INET && family != AF_INET6)
		return 0;
	own(&owner, task);
	name_flow(sk, &owner, true);
	COUNT(accepted);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_accept")
int sockets_accept(struct syscall_exit *ctx)
{
	return accepts(ctx);
}

SEC("tracepoint/syscalls/sys_exit_accept4")
int sockets_accept4(struct syscall_exit *ctx)
{
	return accepts(ctx);
}

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	__u32 fd;
	struct file *file;
} CORE;

RECORD(sockets_seed, struct sockets_seed);

static __always_inline void put_seed(struct sockets_seed *seed, const struct sock *sk,
				     const struct flow_owner *owner)
{
	struct sock_end local;

	__builtin_memset(seed, 0, sizeof(*seed));
	read_local_end(sk, &local);
	seed->owner = *owner;
	__builtin_memcpy(seed->addr, local.addr, 16);
	seed->port = local.port;
	seed->family = local.family;
	seed->remote_port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	seed->protocol = BPF_CORE_READ(sk, sk_protocol);
	seed->state = BPF_CORE_READ(sk, __sk_common.skc_state);
}

/* Of several processes that hold a socket, the first is taken: the one that has it from nobody. */
SEC("iter/task_file")
int sockets_seed(struct bpf_iter__task_file *ctx)
{
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct flow_owner *owner;
	struct sockets_seed seed;
	struct socket *socket;
	struct sock *sk;

	if (!task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = socket->sk;
	if (!sk)
		return 0;
	owner = bpf_sk_storage_get(&sock_owner, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!owner)
		return 0;
	if (owner->start_ns) {
		name_flow(sk, owner, false);
		return 0;
	}
	own(owner, task);
	put_seed(&seed, sk, owner);
	if (!seed.family)
		return 0;
	name_flow(sk, owner, false);
	if (seed.state == TCP_LISTEN || (seed.protocol == PROTOCOL_UDP && !seed.remote_port))
		listen(sk, owner);
	bpf_seq_write(ctx->meta->seq, &seed, sizeof(seed));
	COUNT(seeded);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
