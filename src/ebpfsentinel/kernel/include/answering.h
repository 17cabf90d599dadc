/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A packet becomes the answer to itself, and leaves where it came in.
 *
 * The answer is put together in a per-CPU buffer, in words from the IP header on: lengths vary with
 * options and extension headers, and words up to a packet's end are what all verifiers from 5.10 on
 * can follow.
 */
#ifndef EBPFSENTINEL_ANSWERING_H
#define EBPFSENTINEL_ANSWERING_H

#include "parse.h"

#include <bpf/bpf_helpers.h>

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

#define ANSWER_TTL 64
#define DO_NOT_FRAGMENT 0x4000
#define ANSWER_WORDS 44 /* an IPv6 header, an ICMP header, and what it quotes */
#define L3_OFFSET_MAX 31
#define LINK_BYTES 22 /* with two tags */

struct tcp {
	__be16 src_port;
	__be16 dst_port;
	__be32 seq;
	__be32 ack;
	__u8 offset;
	__u8 flags;
	__be16 window;
	__be16 checksum;
	__be16 urgent;
};

/* An answer from its IP header on, in network order, zeros behind it. */
struct answer {
	__u32 words[ANSWER_WORDS];
	__u32 bytes;
};

static __always_inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffff) + (sum >> 16 & 0xffff);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* The internet checksum (RFC 1071) of words, with what is to be added to it. */
static __always_inline __u16 checksum(__u32 *words, __u32 bytes, __u32 seed)
{
	return ~fold(bpf_csum_diff(0, 0, words, bytes, seed));
}

/* The IP header of the answer: from the packet's destination to its source. */
static __always_inline void put_ipv4(struct answer *answer, const struct packet *packet,
				     __u8 protocol, __u32 payload_bytes)
{
	struct ipv4 *ip = (void *)answer->words;

	answer->bytes = sizeof(*ip) + payload_bytes;
	ip->version_ihl = 0x45;
	ip->bytes = bpf_htons(answer->bytes);
	ip->fragment = bpf_htons(DO_NOT_FRAGMENT);
	ip->ttl = ANSWER_TTL;
	ip->protocol = protocol;
	ip->src_addr = bpf_htonl(packet->dst_addr[0]);
	ip->dst_addr = bpf_htonl(packet->src_addr[0]);
	ip->checksum = checksum(answer->words, sizeof(*ip), 0);
}

static __always_inline void put_ipv6(struct answer *answer, const struct packet *packet,
				     __u8 protocol, __u32 payload_bytes)
{
	struct ipv6 *ip = (void *)answer->words;
	int word;

	answer->bytes = sizeof(*ip) + payload_bytes;
	ip->version_class_flow = bpf_htonl(6U << 28);
	ip->payload_bytes = bpf_htons(payload_bytes);
	ip->next_header = protocol;
	ip->hop_limit = ANSWER_TTL;
	for (word = 0; word < 4; word++) {
		ip->src_addr[word] = bpf_htonl(packet->dst_addr[word]);
		ip->dst_addr[word] = bpf_htonl(packet->src_addr[word]);
	}
}

/* The sum of what TCP and ICMPv6 count besides addresses, header and data: protocol and length. */
static __always_inline __u32 pseudo(__u8 protocol, __u32 bytes)
{
	return bpf_htons(protocol) + bpf_htons(bytes);
}

/* Ethernet header and tags, turned round: where the packet came from is where the answer goes. */
struct link {
	__u8 bytes[LINK_BYTES + 2];
};

static __always_inline void save_link(struct link *link, const __u8 *data, const __u8 *end)
{
	int at;

	for (at = 0; at < LINK_BYTES; at++) {
		if (data + at + 1 > end)
			break;
		link->bytes[at < 6 ? at + 6 : at < 12 ? at - 6 : at] = data[at];
	}
}

static __always_inline void put_link(const struct link *link, __u8 *data, const __u8 *end,
				     __u32 bytes)
{
	__u32 at;

	for (at = 0; at < LINK_BYTES && at < bytes; at++) {
		if (data + at + 1 > end)
			break;
		data[at] = link->bytes[at];
	}
}

/* A frame grows at its head, where XDP always has room; at its tail there may be none. */
static __always_inline bool xdp_resize(struct xdp_md *ctx, int more)
{
	if (more > 0)
		return !bpf_xdp_adjust_head(ctx, -more);
	return !more || !bpf_xdp_adjust_tail(ctx, more);
}

/* The frame becomes the answer, with the link header turned round; false: it does not fit. */
static __always_inline bool xdp_become(struct xdp_md *ctx, const struct packet *packet,
				       const struct answer *answer)
{
	struct link link = {};
	void *end;
	__u32 *to;
	int word;

	save_link(&link, (void *)(long)ctx->data, (void *)(long)ctx->data_end);
	if (!xdp_resize(ctx, (int)(packet->l3_offset + answer->bytes - packet->bytes)))
		return false;
	end = (void *)(long)ctx->data_end;
	put_link(&link, (void *)(long)ctx->data, end, packet->l3_offset);
	to = (void *)(long)ctx->data + (packet->l3_offset & L3_OFFSET_MAX);
	for (word = 0; word < ANSWER_WORDS; word++) {
		if ((void *)(to + word + 1) > end)
			break;
		to[word] = answer->words[word];
	}
	return true;
}

#endif
