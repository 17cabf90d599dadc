/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reject: a denied packet is answered, so that its sender need not wait for a timeout. The packet
 * itself becomes the answer and leaves where it came in: a TCP reset (RFC 9293, 3.10.7.1), or an
 * ICMP error that quotes the beginning of the packet (RFC 792, RFC 4443).
 *
 * Programs of their own, reached by tail call, so that packets which are not rejected pay nothing
 * and the verifier sees the classifier once. If one does not load, reject is deny.
 *
 * Never answered: resets, ICMP other than requests, later fragments, what was sent to or from a
 * group or from no host (RFC 1122, 3.2.2; RFC 4443, 2.4). Each source has a token bucket; beyond
 * it, silence. The bucket is one clock that the answers wind forward (GCRA): sums need no lock and
 * no exchange, which Linux 5.10 lacks. CPUs that look at the same instant may each let one through.
 */
#ifndef EBPFSENTINEL_REJECT_H
#define EBPFSENTINEL_REJECT_H

#include "answer.h"

#include <bpf/bpf_core_read.h>

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, FW_CALLS);
	__type(key, __u32);
	__type(value, __u32);
} fw_xdp_calls SEC(".maps"), fw_tc_calls SEC(".maps");

SEC("xdp")
int xdp_reject(struct xdp_md *ctx)
{
	struct packet *packet = packet_of(&xdp_packet);
	struct answer *answer;

	if (!packet)
		return XDP_DROP;
	packet_count(packet, true);
	answer = answer_to(packet, (void *)(long)ctx->data, (void *)(long)ctx->data_end);
	if (!answer)
		return XDP_DROP;
	if (!xdp_become(ctx, packet, answer)) {
		COUNT_REJECT(failed);
		return XDP_DROP;
	}
	count_answer(packet);
	return XDP_TX;
}

struct sk_buff {
	__u8 ip_summed : 2;
} CORE;

#define CHECKSUM_PARTIAL 3
#define TC_REDIRECT 7

/* The sum of addresses, protocol and length alone, as a device wants it to complete a checksum. */
static __always_inline __u16 unfinished(struct answer *answer, bool ipv6, __u8 protocol)
{
	if (ipv6)
		return ~checksum(&answer->words[2], 32,
				 pseudo(protocol, answer->bytes - sizeof(struct ipv6)));
	return ~checksum(&answer->words[3], 8,
			 pseudo(protocol, answer->bytes - sizeof(struct ipv4)));
}

/*
 * A packet from this machine may come without its checksum, for the device to fill in, and stays so
 * marked: where the checksum of the packet was, the device will put the complement of the sum from
 * there on. In a reset that is the place of its checksum. In an ICMP error it is the end of the
 * unused word, and the sum comes out right if there stood what the message's own sum leaves out:
 * nothing in ICMP, addresses, protocol and length in ICMPv6. False: it is neither.
 */
static __always_inline bool leave_checksum(const struct packet *packet, struct answer *answer)
{
	bool ipv6 = packet->family == 6;
	void *l4 = &answer->words[ipv6 ? 10 : 5];
	struct tcp *reset = l4;
	__be16 *unused = l4 + 6;

	if (packet->l4_offset - packet->l3_offset != (ipv6 ? 40 : 20))
		return false;
	if (packet->protocol == PROTOCOL_TCP)
		reset->checksum = unfinished(answer, ipv6, PROTOCOL_TCP);
	else if (packet->protocol != PROTOCOL_UDP)
		return false;
	else if (ipv6)
		*unused = unfinished(answer, ipv6, PROTOCOL_ICMPV6);
	return true;
}

static __always_inline bool tc_answer(struct __sk_buff *ctx, const struct packet *packet,
				      struct answer *answer)
{
	struct sk_buff *skb = (void *)ctx;
	__u32 bytes = answer->bytes;
	__u8 macs[12], swapped[12];

	if (BPF_CORE_READ_BITFIELD_PROBED(skb, ip_summed) == CHECKSUM_PARTIAL &&
	    !leave_checksum(packet, answer))
		return false;
	if (bytes < sizeof(struct ipv4) || bytes > sizeof(answer->words))
		return false;
	if (bpf_skb_load_bytes(ctx, 0, macs, sizeof(macs)) ||
	    bpf_skb_change_tail(ctx, packet->l3_offset + bytes, 0))
		return false;
	__builtin_memcpy(swapped, macs + 6, 6);
	__builtin_memcpy(swapped + 6, macs, 6);
	return !bpf_skb_store_bytes(ctx, 0, swapped, sizeof(swapped), BPF_F_RECOMPUTE_CSUM) &&
	       !bpf_skb_store_bytes(ctx, packet->l3_offset, answer->words, bytes,
				    BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH);
}

SEC("tc")
int tc_reject(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&tc_packet);
	struct answer *answer;

	if (!packet)
		return TC_SHOT;
	packet_count(packet, true);
	answer = answer_to(packet, (void *)(long)ctx->data, (void *)(long)ctx->data_end);
	if (!answer)
		return TC_SHOT;
	if (!tc_answer(ctx, packet, answer)) {
		COUNT_REJECT(failed);
		return TC_SHOT;
	}
	count_answer(packet);
	return bpf_redirect(ctx->ifindex, 0);
}

#endif
