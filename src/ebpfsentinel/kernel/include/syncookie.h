/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * SYN cookies at XDP (RFC 4987, 3.6): a SYN is answered without remembering it, before the stack has
 * made anything of it; the ACK that completes the handshake carries the cookie, and goes up to the
 * stack, which makes the connection of it.
 *
 * The cookie is the stack's own (bpf_tcp_gen_syncookie), of the listener that the SYN asks for: it
 * is right for that listener's MSS, and the stack knows that it must look for cookies. The kernel
 * gives one when it would send one itself: always with net.ipv4.tcp_syncookies=2, with 1 (the
 * usual) when the listener's queue of half-open connections is full. Until then a SYN goes up:
 * COOKIE_ROOM. A cookie has no room for window scaling and SACK: connections made so are slower, and
 * they are made.
 *
 * The helpers want the whole TCP header, which may reach beyond what a verifier can follow in the
 * packet: it is copied to a per-CPU buffer first.
 */
#ifndef EBPFSENTINEL_SYNCOOKIE_H
#define EBPFSENTINEL_SYNCOOKIE_H

#include "answering.h"
#include "lookup.h"

#define COOKIE_WINDOW 65535
#define COOKIE_OPTION_BYTES 4
#define COOKIE_MSS4 1460 /* Ethernet, RFC 9293 3.7.1 */
#define COOKIE_MSS6 1440
#define TCP_WORDS 15
#define TCP_LISTENING 10 /* enum of <net/tcp_states.h> */

enum cookie {
	COOKIE_NONE, /* nobody listens, or the packet is cut short */
	COOKIE_ROOM, /* the listener's queue has room */
	COOKIE_MADE,
};

/* A packet's headers in one piece, and the answer made of them. */
struct syncookie {
	__u32 ip[10];
	__u32 tcp[TCP_WORDS];
	__u32 tcp_bytes;
	struct answer answer;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct syncookie);
} syncookie SEC(".maps");

static __always_inline bool copy_words(__u32 *to, const void *from, const void *end, int words)
{
	const __u32 *word = from;
	int at;

	for (at = 0; at < words; at++) {
		if ((const void *)(word + at + 1) > end)
			return false;
		to[at] = word[at];
	}
	return true;
}

/* The headers of a TCP packet; 0: they are not whole. */
static __always_inline struct syncookie *copy_headers(const struct packet *packet, void *data,
						      void *end)
{
	__u32 zero = 0;
	struct syncookie *copy = bpf_map_lookup_elem(&syncookie, &zero);
	void *ip = data + (packet->l3_offset & L3_OFFSET_MAX);
	const __u32 *tcp = data + (packet->l4_offset & OFFSET_MAX);
	__u32 bytes;
	int word;

	if (!copy || (void *)(tcp + 5) > end)
		return 0;
	if (!copy_words(copy->ip, ip, end, packet->family == 6 ? 10 : 5))
		return 0;
	bytes = (((const struct tcp *)tcp)->offset >> 4) * 4;
	if (bytes < 20)
		return 0;
	for (word = 0; word < TCP_WORDS && word * 4 < (int)bytes; word++) {
		if ((void *)(tcp + word + 1) > end)
			return 0;
		copy->tcp[word] = tcp[word];
	}
	copy->tcp_bytes = bytes;
	return copy;
}

/* The socket that the packet is for: to be released. */
static __always_inline struct bpf_sock *tcp_socket(void *ctx, const struct packet *packet)
{
	struct bpf_sock_tuple tuple = {};
	__u32 bytes = put_tuple(&tuple, packet);

	return bpf_skc_lookup_tcp(ctx, &tuple, bytes, BPF_F_CURRENT_NETNS, 0);
}

/* The SYN and ACK that carries the cookie; its only option is the MSS. */
static __always_inline void put_syn_ack(struct syncookie *copy, const struct packet *packet,
					__u32 cookie)
{
	bool ipv6 = packet->family == 6;
	struct answer *answer = &copy->answer;
	struct tcp *tcp = (void *)&answer->words[ipv6 ? 10 : 5];
	const struct tcp *syn = (const void *)copy->tcp;
	__u32 bytes = sizeof(*tcp) + COOKIE_OPTION_BYTES;

	__builtin_memset(answer->words, 0, sizeof(answer->words));
	tcp->src_port = syn->dst_port;
	tcp->dst_port = syn->src_port;
	tcp->seq = bpf_htonl(cookie);
	tcp->ack = bpf_htonl(bpf_ntohl(syn->seq) + 1);
	tcp->offset = bytes / 4 << 4;
	tcp->flags = TCP_SYN | TCP_ACK;
	tcp->window = bpf_htons(COOKIE_WINDOW);
	answer->words[ipv6 ? 15 : 10] =
		bpf_htonl(2 << 24 | COOKIE_OPTION_BYTES << 16 | (ipv6 ? COOKIE_MSS6 : COOKIE_MSS4));
	if (ipv6) {
		put_ipv6(answer, packet, PROTOCOL_TCP, bytes);
		tcp->checksum =
			checksum(&answer->words[2], 32 + bytes, pseudo(PROTOCOL_TCP, bytes));
	} else {
		put_ipv4(answer, packet, PROTOCOL_TCP, bytes);
		tcp->checksum = checksum(&answer->words[3], 8 + bytes, pseudo(PROTOCOL_TCP, bytes));
	}
}

/* Answer a SYN with a cookie: on COOKIE_MADE the frame has become the answer, for XDP_TX. */
static __always_inline enum cookie answer_with_cookie(struct xdp_md *ctx,
						      const struct packet *packet)
{
	struct syncookie *copy =
		copy_headers(packet, (void *)(long)ctx->data, (void *)(long)ctx->data_end);
	enum cookie made = COOKIE_NONE;
	struct bpf_sock *socket;
	__u32 tcp_bytes;
	__s64 cookie;

	if (!copy)
		return COOKIE_NONE;
	tcp_bytes = OPAQUE(copy->tcp_bytes);
	if (tcp_bytes < sizeof(struct tcp) || tcp_bytes > sizeof(copy->tcp))
		return COOKIE_NONE;
	socket = tcp_socket(ctx, packet);
	if (!socket)
		return COOKIE_NONE;
	if (socket->state == TCP_LISTENING) {
		cookie = bpf_tcp_gen_syncookie(socket, copy->ip, sizeof(copy->ip),
					       (void *)copy->tcp, tcp_bytes);
		made = cookie < 0 ? COOKIE_ROOM : COOKIE_MADE;
	}
	bpf_sk_release(socket);
	if (made != COOKIE_MADE)
		return made;
	put_syn_ack(copy, packet, (__u32)cookie);
	return xdp_become(ctx, packet, &copy->answer) ? COOKIE_MADE : COOKIE_NONE;
}

#endif
