/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Packets to sockets: what bpf_sk_lookup_tcp() and the like are asked with.
 */
#ifndef EBPFSENTINEL_LOOKUP_H
#define EBPFSENTINEL_LOOKUP_H

#include "packet.h"

/* What sockets are looked up by; returns its size. */
static __always_inline __u32 put_tuple(struct bpf_sock_tuple *tuple, const struct packet *packet)
{
	int word;

	if (packet->family == 4) {
		tuple->ipv4.saddr = bpf_htonl(packet->src_addr[0]);
		tuple->ipv4.daddr = bpf_htonl(packet->dst_addr[0]);
		tuple->ipv4.sport = bpf_htons(packet->src_port);
		tuple->ipv4.dport = bpf_htons(packet->dst_port);
		return sizeof(tuple->ipv4);
	}
	for (word = 0; word < 4; word++) {
		tuple->ipv6.saddr[word] = bpf_htonl(packet->src_addr[word]);
		tuple->ipv6.daddr[word] = bpf_htonl(packet->dst_addr[word]);
	}
	tuple->ipv6.sport = bpf_htons(packet->src_port);
	tuple->ipv6.dport = bpf_htons(packet->dst_port);
	return sizeof(tuple->ipv6);
}

#endif
