/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Sockets as CO-RE declarations, and a socket's two ends as the key of its flow.
 */
#ifndef EBPFSENTINEL_SOCK_H
#define EBPFSENTINEL_SOCK_H

#include "flow_search.h"
#include "task.h"
#include <bpf/bpf_endian.h>

#define AF_INET 2
#define AF_INET6 10
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_LISTEN 10
#define IPV4_MAPPED 0xffff /* third word of such an IPv6 address: RFC 4291 2.5.5.2 */

struct in6_addr {
	union {
		__be32 u6_addr32[4];
	} in6_u;
} CORE;

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	unsigned char skc_state;
	unsigned char skc_ipv6only : 1;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
} CORE;

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol; /* a bit field before Linux 5.6 */
} CORE;

struct inet_sock {
	__be16 inet_sport;
} CORE;

struct socket {
	struct sock *sk;
} CORE;

/* One end of a socket, as in struct packet. */
struct sock_end {
	__u32 addr[4];
	__u16 port;
	__u8 family; /* 4, 6 or 0 */
	__u8 pad;
};

static __always_inline void put_words(__u32 *words, const struct in6_addr *addr)
{
	int word;

	for (word = 0; word < 4; word++)
		words[word] = bpf_ntohl(addr->in6_u.u6_addr32[word]);
}

/* An IPv4 address in IPv6 clothes is an IPv4 address. */
static __always_inline void undress(struct sock_end *end)
{
	if (end->addr[0] || end->addr[1] || end->addr[2] != IPV4_MAPPED)
		return;
	end->addr[0] = end->addr[3];
	end->addr[2] = end->addr[3] = 0;
	end->family = 4;
}

/* This host's end; of a socket that is bound to no address, that is zeros. */
static __always_inline void read_local_end(const struct sock *sk, struct sock_end *end)
{
	struct in6_addr addr = {};
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	__builtin_memset(end, 0, sizeof(*end));
	end->port = BPF_CORE_READ(sk, __sk_common.skc_num);
	if (!end->port) /* given back, when it closes */
		end->port = bpf_ntohs(BPF_CORE_READ((const struct inet_sock *)sk, inet_sport));
	if (family == AF_INET) {
		end->family = 4;
		end->addr[0] = bpf_ntohl(BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
	} else if (family == AF_INET6) {
		end->family = 6;
		BPF_CORE_READ_INTO(&addr, sk, __sk_common.skc_v6_rcv_saddr);
		put_words(end->addr, &addr);
		undress(end);
	}
}

static __always_inline void read_remote_end(const struct sock *sk, struct sock_end *end)
{
	struct in6_addr addr = {};
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	__builtin_memset(end, 0, sizeof(*end));
	end->port = bpf_ntohs(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (family == AF_INET) {
		end->family = 4;
		end->addr[0] = bpf_ntohl(BPF_CORE_READ(sk, __sk_common.skc_daddr));
	} else if (family == AF_INET6) {
		end->family = 6;
		BPF_CORE_READ_INTO(&addr, sk, __sk_common.skc_v6_daddr);
		put_words(end->addr, &addr);
		undress(end);
	}
}

static __always_inline __u32 sock_netns(const struct sock *sk)
{
	return BPF_CORE_READ(sk, __sk_common.skc_net.net, ns.inum);
}

/* The flow of a connected socket, and in search->from its own end. 0: it is not in the table. */
static __always_inline struct flow_entry *flow_of_sock(const struct sock *sk,
						       struct flow_search *search)
{
	void *table = flow_table_in_force();
	struct sock_end local, remote;

	if (!table)
		return 0;
	read_local_end(sk, &local);
	read_remote_end(sk, &remote);
	if (!local.family || !remote.port)
		return 0;
	flow_put_ends(search, local.addr, remote.addr, local.port, remote.port);
	search->key.protocol = BPF_CORE_READ(sk, sk_protocol);
	search->key.family = remote.family;
	search->key.zone = 0;
	return flow_find(table, search, bpf_ktime_get_boot_ns());
}

#endif
