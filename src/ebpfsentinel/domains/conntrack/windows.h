/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Can a TCP packet be of this connection, by its sequence numbers? The bounds are those of Guido van
 * Rooij, Real stateful TCP packet filtering in IP Filter (2000): data must not go beyond what the other
 * end takes, nor lie more than a window behind; an acknowledgement must be of something that was sent,
 * and not of the distant past. So a RST is believed only from within the window, where RFC 5961 wants a
 * challenge: the end itself asks for that.
 *
 * Connections picked up from their midst are not checked: their window scale is not known.
 */
#ifndef EBPFSENTINEL_CT_WINDOWS_H
#define EBPFSENTINEL_CT_WINDOWS_H

#include "flows.h"

#define CT_ACK_WINDOW 66000 /* how far back an acknowledgement may reach at least */
#define CT_OPTION_ROUNDS 10
#define CT_SCALE_MAX 14    /* RFC 7323 2.3 */
#define CT_WINDOW_KNOWN 1  /* of flow_window.flags */
#define CT_WINDOW_SCALES 2 /* it has offered to scale */
#define CT_OPTION_NOP 1
#define CT_OPTION_SCALE 3

struct ct_tcp {
	__be16 src_port;
	__be16 dst_port;
	__be32 seq;
	__be32 ack;
	__u8 offset;
	__u8 flags;
	__be16 window;
};

struct ct_segment {
	__u32 seq;
	__u32 end; /* after it */
	__u32 ack;
	__u32 window;
	__u32 header_bytes;
	__u8 flags;
};

static __always_inline bool ct_before(__u32 one, __u32 other)
{
	return (__s32)(one - other) < 0;
}

/* Bytes behind the IP header, by that header; where it says nothing (a large one), by the frame. */
static __always_inline __u32 ct_l4_bytes(struct __sk_buff *ctx, const struct packet *packet)
{
	__u32 header = packet->l4_offset - packet->l3_offset;
	__be16 bytes = 0;
	__u32 whole;

	bpf_skb_load_bytes(ctx, packet->l3_offset + (packet->family == 4 ? 2 : 4), &bytes, 2);
	whole = bpf_ntohs(bytes);
	if (!whole)
		return packet->bytes - packet->l4_offset;
	return packet->family == 4 ? whole - header : whole + 40 - header;
}

static __always_inline bool ct_read_segment(struct __sk_buff *ctx, const struct packet *packet,
					    struct ct_segment *segment)
{
	struct ct_tcp tcp;

	if (bpf_skb_load_bytes(ctx, packet->l4_offset, &tcp, sizeof(tcp)))
		return false;
	segment->seq = bpf_ntohl(tcp.seq);
	segment->ack = bpf_ntohl(tcp.ack);
	segment->window = bpf_ntohs(tcp.window);
	segment->flags = tcp.flags;
	segment->header_bytes = (tcp.offset >> 4) * 4;
	segment->end = segment->seq + ct_l4_bytes(ctx, packet) - segment->header_bytes +
		       !!(tcp.flags & FLOW_TCP_SYN) + !!(tcp.flags & FLOW_TCP_FIN);
	return segment->header_bytes >= 20;
}

/* The window scale that a SYN offers. */
static __always_inline void ct_read_scale(struct __sk_buff *ctx, const struct packet *packet,
					  const struct ct_segment *segment,
					  struct flow_window *sender)
{
	__u32 at = packet->l4_offset + 20, end = packet->l4_offset + segment->header_bytes, round;
	__u8 option[3] = {};

	for (round = 0; round < CT_OPTION_ROUNDS && at + 3 <= end; round++) {
		if (bpf_skb_load_bytes(ctx, at, option, sizeof(option)) || !option[0])
			return;
		if (option[0] == CT_OPTION_SCALE) {
			sender->flags |= CT_WINDOW_SCALES;
			sender->scale = option[2] < CT_SCALE_MAX ? option[2] : CT_SCALE_MAX;
			return;
		}
		at += option[0] == CT_OPTION_NOP ? 1 : option[1] < 2 ? 2 : option[1];
	}
}

static __always_inline void ct_first_of(struct __sk_buff *ctx, const struct packet *packet,
					const struct ct_segment *segment,
					struct flow_window *sender)
{
	sender->flags = CT_WINDOW_KNOWN;
	sender->scale = 0;
	sender->end = segment->end;
	sender->limit = segment->end + segment->window;
	sender->most = segment->window ? segment->window : 1;
	if (segment->flags & FLOW_TCP_SYN)
		ct_read_scale(ctx, packet, segment, sender);
}

static __always_inline bool ct_fits(const struct ct_segment *segment,
				    const struct flow_window *sender,
				    const struct flow_window *receiver)
{
	__u32 back = sender->most > CT_ACK_WINDOW ? sender->most : CT_ACK_WINDOW;

	if (!(receiver->flags & CT_WINDOW_KNOWN))
		return true;
	if (ct_before(sender->limit, segment->seq) ||
	    ct_before(segment->end, sender->end - receiver->most))
		return false;
	if (!(segment->flags & FLOW_TCP_ACK) || (segment->flags & FLOW_TCP_RST && !segment->ack))
		return true;
	return !ct_before(receiver->end, segment->ack) &&
	       !ct_before(segment->ack, receiver->end - back);
}

/* Is the segment within the windows? If it is, they move on. */
static __noinline bool ct_in_window(struct __sk_buff *ctx, const struct packet *packet,
				    struct flow_entry *entry, __u32 from)
{
	struct flow_window *sender = &entry->end[from & 1].window;
	struct flow_window *receiver = &entry->end[~from & 1].window;
	struct ct_segment segment;
	__u32 window;

	if (!ct_read_segment(ctx, packet, &segment))
		return false;
	if (!(sender->flags & CT_WINDOW_KNOWN) && segment.flags & FLOW_TCP_RST)
		return segment.ack == receiver->end;
	if (!(sender->flags & CT_WINDOW_KNOWN) || segment.flags & FLOW_TCP_SYN) {
		ct_first_of(ctx, packet, &segment, sender);
		if (segment.flags & FLOW_TCP_ACK && receiver->flags & CT_WINDOW_KNOWN)
			receiver->limit = segment.ack + segment.window;
		return true;
	}
	if (!ct_fits(&segment, sender, receiver))
		return false;
	window = segment.window;
	if (sender->flags & receiver->flags & CT_WINDOW_SCALES)
		window <<= sender->scale & 15;
	if (window > sender->most)
		sender->most = window;
	if (ct_before(sender->end, segment.end))
		sender->end = segment.end;
	if (segment.flags & FLOW_TCP_ACK && ct_before(receiver->limit, segment.ack + window))
		receiver->limit = segment.ack + window;
	return true;
}

#endif
