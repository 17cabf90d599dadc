/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who is at the end of a flow: the process that last connected, accepted, bound or sent by its
 * socket. Programs that see processes write it down (domains/sockets); those that see packets read it.
 *
 * It stands at the socket itself (sock_owner), which goes when the socket goes, and which a packet that
 * leaves leads to. For programs at XDP, which may not read that, there is a table of those that listen
 * (listeners). What else is known of a process stands in owners.
 */
#ifndef EBPFSENTINEL_OWNER_H
#define EBPFSENTINEL_OWNER_H

#include "flow_search.h"
#include "lookup.h"

#define LISTENERS 16384
#define OWNERS 32768
#define LOOPBACK_INDEX 1

/* Port and address are of this host, as in struct packet; an address of zeros is any. */
struct listener_key {
	__u32 addr[4];
	__u32 netns; /* inode of the network namespace */
	__u16 port;
	__u8 protocol;
	__u8 family;
};

struct listener {
	struct flow_owner owner;
	__u64 sock; /* which socket it is: of several with one port, the last */
};

struct owner_key {
	__u64 start_ns;
	__u32 pid;
	__u32 pad;
};

/* A process as it was when it last did something with a socket. */
struct owner_facts {
	__u64 exe_inode;
	__u64 cgroup_id;
	__u32 exe_device; /* major << 20 | minor */
	__u32 uid;
	char comm[16];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags,
	       BPF_F_NO_PREALLOC | BPF_F_CLONE); /* what is accepted begins as its listener's */
	__type(key, int);
	__type(value, struct flow_owner);
} sock_owner SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, LISTENERS);
	__type(key, struct listener_key);
	__type(value, struct listener);
} listeners SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, OWNERS);
	__type(key, struct owner_key);
	__type(value, struct owner_facts);
} owners SEC(".maps");

/*
 * Who listens for the packet in this network namespace: for XDP, where a packet of no flow has no
 * socket yet. 0: nobody that is known.
 */
static __always_inline const struct flow_owner *listener_of(const struct packet *packet,
							    __u32 netns)
{
	struct listener_key key = {.netns = netns,
				   .port = packet->dst_port,
				   .protocol = packet->protocol,
				   .family = packet->family};
	const struct listener *found;

	__builtin_memcpy(key.addr, packet->dst_addr, 16);
	found = bpf_map_lookup_elem(&listeners, &key);
	if (found)
		return &found->owner;
	__builtin_memset(key.addr, 0, 16);
	found = bpf_map_lookup_elem(&listeners, &key);
	return found ? &found->owner : 0;
}

static __always_inline void put_owner_of(struct bpf_sock *sk, struct flow_entry *entry, __u32 end)
{
	const struct flow_owner *owner = bpf_sk_storage_get(&sock_owner, sk, 0, 0);

	if (owner && owner->start_ns != entry->end[end & 1].owner.start_ns)
		entry->end[end & 1].owner = *owner;
}

/* The socket that a packet leaves by; 0: it was made elsewhere. */
static __always_inline struct bpf_sock *sending_socket(struct __sk_buff *ctx)
{
	struct bpf_sock *sk = ctx->ingress_ifindex ? 0 : ctx->sk;

	return sk ? bpf_sk_fullsock(sk) : 0;
}

/* The socket of this namespace that the packet goes to; to be released. */
static __always_inline struct bpf_sock *receiving_socket(struct __sk_buff *ctx,
							 const struct packet *packet)
{
	struct bpf_sock_tuple tuple = {};
	__u32 bytes = put_tuple(&tuple, packet);

	if (packet->protocol == PROTOCOL_TCP)
		return bpf_sk_lookup_tcp(ctx, &tuple, bytes, BPF_F_CURRENT_NETNS, 0);
	if (packet->protocol == PROTOCOL_UDP)
		return bpf_sk_lookup_udp(ctx, &tuple, bytes, BPF_F_CURRENT_NETNS, 0);
	return 0;
}

/*
 * Name the processes at both ends of a flow that is new in the table: at TC, of what comes in or
 * leaves. `from` is the end that the packet comes from. An end on another host, or in another network
 * namespace, is left as it is.
 */
static __always_inline void flow_name_ends(struct __sk_buff *ctx, const struct packet *packet,
					   struct flow_entry *entry, __u32 from)
{
	struct bpf_sock *sk = sending_socket(ctx);

	if (sk)
		put_owner_of(sk, entry, from);
	if (sk && packet->ifindex != LOOPBACK_INDEX)
		return; /* to another host */
	sk = receiving_socket(ctx, packet);
	if (!sk)
		return;
	put_owner_of(sk, entry, from ^ 1);
	bpf_sk_release(sk);
}

/*
 * The same for a packet of a flow that is there, and leaves: of UDP, whose ports another process may have
 * by now, before the flow has lapsed.
 */
static __always_inline void flow_name_sender(struct __sk_buff *ctx, struct flow_entry *entry,
					     __u32 from)
{
	struct bpf_sock *sk = sending_socket(ctx);

	if (sk)
		put_owner_of(sk, entry, from);
}

#endif
