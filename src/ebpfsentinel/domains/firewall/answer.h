/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a rejected packet is answered with, and whether it is: see reject.h. */
#ifndef EBPFSENTINEL_ANSWER_H
#define EBPFSENTINEL_ANSWER_H

#include "answering.h"
#include "firewall.h"

#define ICMP_UNREACHABLE 3
#define ICMP_PORT 3
#define ICMP_PROHIBITED 13
#define ICMP_TIMESTAMP 13
#define ICMPV6_UNREACHABLE 1
#define ICMPV6_PORT 4
#define ICMPV6_PROHIBITED 1

#define QUOTE4_WORDS 17 /* the longest IPv4 header and 8 bytes */
#define QUOTE6_WORDS 32 /* an IPv6 header, 80 bytes of extensions and 8 bytes */
struct icmp {
	__u8 type;
	__u8 code;
	__be16 checksum;
	__be32 unused;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct answer);
} fw_answer SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct fw_rejects);
} fw_rejects SEC(".maps");

/* When a source will have paid for all its answers, on the monotonic clock. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, FW_REJECT_SOURCES);
	__type(key, struct fw_source);
	__type(value, __u64);
} fw_reject_paid SEC(".maps");

#define COUNT_REJECT(field)                                                                        \
	do {                                                                                       \
		__u32 zero = 0;                                                                    \
		struct fw_rejects *count = bpf_map_lookup_elem(&fw_rejects, &zero);                \
                                                                                                   \
		if (count)                                                                         \
			count->field++;                                                            \
	} while (0)

static __always_inline bool is_host4(__u32 address)
{
	__u32 first = address >> 24;

	return first && first != 127 && first < 224;
}

static __always_inline bool is_host6(const __u32 *address)
{
	if (address[0] >> 24 == 0xff)
		return false;
	return address[0] || address[1] || address[2] || address[3] > 1;
}

static __always_inline bool is_request(const struct packet *packet)
{
	if (packet->protocol == PROTOCOL_TCP)
		return packet->flags & PACKET_TCP && !(packet->tcp_flags & TCP_RST);
	if (packet->protocol == PROTOCOL_ICMP)
		return packet->icmp >> 8 == ICMP_ECHO_REQUEST ||
		       packet->icmp >> 8 == ICMP_TIMESTAMP;
	if (packet->protocol == PROTOCOL_ICMPV6)
		return packet->icmp >> 8 == ICMPV6_ECHO_REQUEST;
	return true;
}

/* May this be answered at all? See above. */
static __always_inline bool is_answerable(const struct ethernet *ethernet,
					  const struct packet *packet)
{
	if (ethernet->dst_mac[0] & 1 || packet->flags & (PACKET_LATER_FRAGMENT | PACKET_MALFORMED))
		return false;
	if (!is_request(packet))
		return false;
	if (packet->family == 6)
		return is_host6(packet->src_addr) && is_host6(packet->dst_addr);
	return packet->family == 4 && is_host4(packet->src_addr[0]) &&
	       is_host4(packet->dst_addr[0]);
}

/* One token of the source's bucket; false: it is empty. */
static __always_inline bool take_token(const struct packet *packet)
{
	struct fw_source source = {.family = packet->family};
	__u64 now = bpf_ktime_get_ns(), fresh = now + FW_REJECT_INTERVAL_NS;
	__u64 *paid;

	__builtin_memcpy(source.addr, packet->src_addr, sizeof(source.addr));
	paid = bpf_map_lookup_elem(&fw_reject_paid, &source);
	if (!paid)
		return !bpf_map_update_elem(&fw_reject_paid, &source, &fresh, BPF_ANY);
	if (*paid < now)
		*paid = now;
	else if (*paid - now > (FW_REJECT_BURST - 1) * FW_REJECT_INTERVAL_NS)
		return false;
	__sync_fetch_and_add(paid, FW_REJECT_INTERVAL_NS);
	return true;
}

/* Bytes of the packet from its IP header on, as that says; padding of short frames is not its own. */
static __always_inline __u32 ip_bytes(const void *ip, const void *end, bool ipv6)
{
	if (ip + sizeof(struct ipv6) > end)
		return ip + sizeof(struct ipv4) > end || ipv6
			       ? 0
			       : bpf_ntohs(((const struct ipv4 *)ip)->bytes);
	if (ipv6)
		return sizeof(struct ipv6) + bpf_ntohs(((const struct ipv6 *)ip)->payload_bytes);
	return bpf_ntohs(((const struct ipv4 *)ip)->bytes);
}

/*
 * A reset that the sender will take for one of this connection: it has the sequence number that
 * was acknowledged, or, for a segment without ACK, acknowledges what that occupies.
 */
static __always_inline bool put_reset(struct answer *answer, const struct packet *packet,
				      const void *ip, const void *l4, const void *end)
{
	bool ipv6 = packet->family == 6;
	struct tcp *reset = (void *)&answer->words[ipv6 ? 10 : 5];
	const struct tcp *tcp = l4;
	__u32 occupied, headers;

	if ((const void *)(tcp + 1) > end)
		return false;
	headers = (packet->l4_offset - packet->l3_offset) + (tcp->offset >> 4) * 4;
	occupied = ip_bytes(ip, end, ipv6);
	occupied = occupied > headers ? occupied - headers : 0;
	occupied += !!(tcp->flags & TCP_SYN) + !!(tcp->flags & TCP_FIN);
	reset->src_port = tcp->dst_port;
	reset->dst_port = tcp->src_port;
	reset->offset = sizeof(*reset) / 4 << 4;
	reset->flags = TCP_RST;
	if (tcp->flags & TCP_ACK) {
		reset->seq = tcp->ack;
	} else {
		reset->flags |= TCP_ACK;
		reset->ack = bpf_htonl(bpf_ntohl(tcp->seq) + occupied);
	}
	if (ipv6) {
		put_ipv6(answer, packet, PROTOCOL_TCP, sizeof(*reset));
		reset->checksum = checksum(&answer->words[2], 32 + sizeof(*reset),
					   pseudo(PROTOCOL_TCP, sizeof(*reset)));
	} else {
		put_ipv4(answer, packet, PROTOCOL_TCP, sizeof(*reset));
		reset->checksum = checksum(&answer->words[3], 8 + sizeof(*reset),
					   pseudo(PROTOCOL_TCP, sizeof(*reset)));
	}
	return true;
}

/* The beginning of the packet, whole words of at most `bytes`; returns how many bytes that are. */
static __always_inline __u32 put_quote(__u32 *to, const void *ip, const void *end, __u32 bytes,
				       int words)
{
	const __u32 *from = ip;
	int word;

	for (word = 0; word < words; word++) {
		if ((const void *)(from + word + 1) > end || (__u32)(word * 4 + 4) > bytes)
			break;
		to[word] = from[word];
	}
	return word * 4;
}

/* Port unreachable for what has ports, as from a host without a listener; else prohibited. */
static __always_inline void put_error4(struct answer *answer, const struct packet *packet,
				       const void *ip, const void *end)
{
	struct icmp *error = (void *)&answer->words[5];
	__u32 quoted;

	quoted = put_quote(&answer->words[7], ip, end, ip_bytes(ip, end, false), QUOTE4_WORDS);
	error->type = ICMP_UNREACHABLE;
	error->code = packet->flags & PACKET_PORTS ? ICMP_PORT : ICMP_PROHIBITED;
	error->checksum = checksum(&answer->words[5], sizeof(*error) + 4 * QUOTE4_WORDS, 0);
	put_ipv4(answer, packet, PROTOCOL_ICMP, sizeof(*error) + quoted);
}

static __always_inline void put_error6(struct answer *answer, const struct packet *packet,
				       const void *ip, const void *end)
{
	struct icmp *error = (void *)&answer->words[10];
	__u32 quoted;

	quoted = put_quote(&answer->words[12], ip, end, ip_bytes(ip, end, true), QUOTE6_WORDS);
	error->type = ICMPV6_UNREACHABLE;
	error->code = packet->flags & PACKET_PORTS ? ICMPV6_PORT : ICMPV6_PROHIBITED;
	put_ipv6(answer, packet, PROTOCOL_ICMPV6, sizeof(*error) + quoted);
	error->checksum = checksum(&answer->words[2], 32 + sizeof(*error) + 4 * QUOTE6_WORDS,
				   pseudo(PROTOCOL_ICMPV6, sizeof(*error) + quoted));
}

/* Put the answer together; 0: there is none to be given. Counts why. */
static __always_inline struct answer *answer_to(const struct packet *packet, void *data, void *end)
{
	__u32 zero = 0;
	struct answer *answer = bpf_map_lookup_elem(&fw_answer, &zero);
	void *ip = data + (packet->l3_offset & L3_OFFSET_MAX);
	void *l4 = data + (packet->l4_offset & OFFSET_MAX);
	const struct ethernet *ethernet = data;

	if (!answer || (void *)(ethernet + 1) > end || !is_answerable(ethernet, packet)) {
		COUNT_REJECT(unanswered);
		return 0;
	}
	if (!take_token(packet)) {
		COUNT_REJECT(throttled);
		return 0;
	}
	__builtin_memset(answer->words, 0, sizeof(answer->words));
	if (packet->protocol == PROTOCOL_TCP) {
		if (!put_reset(answer, packet, ip, l4, end)) {
			COUNT_REJECT(unanswered);
			return 0;
		}
	} else if (packet->family == 6) {
		put_error6(answer, packet, ip, end);
	} else {
		put_error4(answer, packet, ip, end);
	}
	return answer;
}

static __always_inline void count_answer(const struct packet *packet)
{
	if (packet->protocol == PROTOCOL_TCP)
		COUNT_REJECT(reset);
	else
		COUNT_REJECT(unreachable);
}

#endif
