/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whom we know: what keeps real users in while others are thrown out.
 *
 * A packet is of a flow that this host has, when the kernel finds a socket for exactly its addresses
 * and ports. A source is known, when it has shown that it is where it says: such a flow over TCP, or an ACK
 * with a valid SYN cookie. None of this is asked of packets that nothing would be done to.
 */
#ifndef EBPFSENTINEL_DDOS_KNOWN_H
#define EBPFSENTINEL_DDOS_KNOWN_H

#include "ddos.h"
#include "flows.h"
#include "syncookie.h"

#define SOCKET_ESTABLISHED 1
#define FIB_NOT_FORWARDED 4
#define FIB_FORWARDING_DISABLED 5
#define FAMILY_INET 2
#define FAMILY_INET6 10

/* What of this host a packet is for. */
enum owned { OWNED_NOT, OWNED_LISTENER, OWNED_FLOW };

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, DDOS_KNOWN);
	__type(key, struct ddos_known);
	__type(value, __u64);
} ddos_known SEC(".maps");

static __always_inline struct ddos_known known_key(const struct packet *packet)
{
	struct ddos_known key = {.family = packet->family};

	__builtin_memcpy(key.addr, packet->src_addr, sizeof(key.addr));
	return key;
}

static __always_inline bool is_known(const struct ddos_head *head, struct packet *packet)
{
	struct ddos_known key = known_key(packet);
	__u64 *seen_ns = bpf_map_lookup_elem(&ddos_known, &key);

	return seen_ns && packet_now(packet) - *seen_ns < head->known_ns;
}

static __always_inline void make_known(struct packet *packet, struct ddos_count *count)
{
	struct ddos_known key = known_key(packet);
	__u64 now_ns = packet_now(packet);
	__u64 *seen_ns = bpf_map_lookup_elem(&ddos_known, &key);

	if (seen_ns) {
		*seen_ns = now_ns;
		return;
	}
	if (!bpf_map_update_elem(&ddos_known, &key, &now_ns, BPF_ANY))
		count->new_known++;
}

/* The flow of a TCP packet; on OWNED_LISTENER, is its acknowledgement a cookie of ours? */
static __noinline enum owned tcp_flow(void *ctx, const struct packet *packet,
				      struct syncookie *copy, bool *cookie)
{
	struct bpf_sock *socket = tcp_socket(ctx, packet);
	enum owned found = OWNED_FLOW;

	if (!socket)
		return OWNED_NOT;
	if (socket->state == TCP_LISTENING) {
		found = OWNED_LISTENER;
		if (copy)
			*cookie = !bpf_tcp_check_syncookie(socket, copy->ip, sizeof(copy->ip),
							   (void *)copy->tcp, 20);
	}
	bpf_sk_release(socket);
	return found;
}

/* A UDP socket that is connected to the packet's source. */
static __noinline enum owned udp_flow(void *ctx, const struct packet *packet)
{
	struct bpf_sock_tuple tuple = {};
	__u32 bytes = put_tuple(&tuple, packet);
	struct bpf_sock *socket = bpf_sk_lookup_udp(ctx, &tuple, bytes, BPF_F_CURRENT_NETNS, 0);
	enum owned found = OWNED_NOT;

	if (!socket)
		return OWNED_NOT;
	if (socket->state == SOCKET_ESTABLISHED)
		found = OWNED_FLOW;
	bpf_sk_release(socket);
	return found;
}

/* A flow of a socket; or, where connections are tracked, one that is forwarded, or has no such socket. */
static __noinline bool has_flow(void *ctx, struct packet *packet, void *data, void *end)
{
	if (packet->protocol == PROTOCOL_UDP && udp_flow(ctx, packet) == OWNED_FLOW)
		return true;
	if (packet->flags & PACKET_TCP && tcp_flow(ctx, packet, 0, 0) == OWNED_FLOW)
		return true;
	return flow_is_wanted(packet, data, end);
}

/*
 * Is the packet for this host, and not to be forwarded to another? What passes through has no socket
 * here, which says nothing about it.
 */
static __noinline bool is_for_us(void *ctx, const struct packet *packet)
{
	struct bpf_fib_lookup way = {.ifindex = packet->ifindex};
	int word;
	long found;

	way.l4_protocol = packet->protocol;
	if (packet->family == 4) {
		way.family = FAMILY_INET;
		way.ipv4_src = bpf_htonl(packet->src_addr[0]);
		way.ipv4_dst = bpf_htonl(packet->dst_addr[0]);
	} else {
		way.family = FAMILY_INET6;
		for (word = 0; word < 4; word++) {
			way.ipv6_src[word] = bpf_htonl(packet->src_addr[word]);
			way.ipv6_dst[word] = bpf_htonl(packet->dst_addr[word]);
		}
	}
	found = bpf_fib_lookup(ctx, &way, sizeof(way), 0);
	return found == FIB_NOT_FORWARDED || found == FIB_FORWARDING_DISABLED;
}

#endif
