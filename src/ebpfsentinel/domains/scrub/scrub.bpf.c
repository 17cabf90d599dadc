// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Scrubbing: what comes in, and what leaves, is brought into a form that says nothing false and means
 * one thing to everybody. First it is decided whether the packet is dropped, then it is changed, IP
 * before TCP. In alert mode all of that is counted, and nothing is touched.
 *
 * It stands at TC, not at XDP: there the kernel knows of checksums that are still to be made, of
 * segments that are still to be cut, and of what leaves.
 */
#include "chain.h"
#include "fragments.h"
#include "ip.h"
#include "tcp.h"

#define OF_IPV4 (SC_TTL | SC_TOS | SC_ECN | SC_DF | SC_ID)
#define OF_IPV6 (SC_HOP_LIMIT | SC_TOS | SC_ECN)
#define OF_FLAGS (SC_ECN | SC_RESERVED | SC_ILLEGAL)
#define OF_OPTIONS (SC_MSS | SC_TIMESTAMPS)

/* Tell of a packet that is dropped, or would be; no more often than is good for who reads it. */
static __always_inline void report(const struct work *work, enum sc_reason reason, __u8 action)
{
	__u32 zero = 0;
	struct sc_told *told = bpf_map_lookup_elem(&sc_told, &zero);
	struct sc_event *event;

	if (!told)
		return;
	if (packet_now(work->packet) - told->event_ns[reason] < SC_EVENT_GAP_NS) {
		told->suppressed[reason]++;
		return;
	}
	event = record_reserve(sc_events, sizeof(*event));
	if (!event) {
		told->suppressed[reason]++;
		return;
	}
	put_packet_event(&event->packet, work->packet, SC_EVENT);
	event->packet.action = action;
	if (!enforces(work))
		event->packet.flags |= PACKET_WOULD;
	event->suppressed = told->suppressed[reason];
	event->reason = reason;
	event->way = work->way;
	event->pad[0] = event->pad[1] = 0;
	told->suppressed[reason] = 0;
	told->event_ns[reason] = packet_now(work->packet);
	record_submit(event);
}

/* Count a packet that is to be dropped, and tell of it. Returns whether it is dropped indeed. */
static __always_inline bool refuse(const struct work *work, enum sc_reason reason)
{
	bool spared = enforces(work) && packet_spared(work->packet);

	if (spared)
		work->count->spared++;
	else if (reason == SC_REASON_FRAGMENT)
		work->count->fragments_dropped++;
	else
		work->count->tcp_flags_dropped++;
	report(work, reason, spared ? ACTION_SPARED : ACTION_DROP);
	return enforces(work);
}

static __always_inline void change(struct work *work)
{
	__u8 family = work->packet->family;
	__u32 done = 0;

	if (family == 4 && work->changes & OF_IPV4)
		done |= scrub_ipv4(work);
	if (family == 6 && work->changes & OF_IPV6)
		done |= scrub_ipv6(work);
	if (work->packet->flags & PACKET_TCP && !(work->packet->flags & PACKET_MALFORMED)) {
		if (work->packet->tcp_flags & 0x02 && work->changes & OF_OPTIONS)
			done |= scrub_options(work);
		if (work->changes & OF_FLAGS)
			done |= scrub_flags(work);
	}
	if (done)
		count_done(work, done);
}

/* Scrub a packet; returns whether it is to be dropped. */
static __always_inline bool scrub(struct __sk_buff *ctx, struct packet *packet, enum sc_way way)
{
	struct work work = {.ctx = ctx, .packet = packet, .way = way};

	if (!packet->family || !look_up_work(&work))
		return false;
	if (refuses_fragment(&work))
		return refuse(&work, SC_REASON_FRAGMENT);
	if (refuses_flags(&work))
		return refuse(&work, SC_REASON_TCP_FLAGS);
	change(&work);
	return false;
}

SEC("tc")
int tc_scrub(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&tc_packet);

	if (!packet)
		return TC_NEXT;
	if (scrub(ctx, packet, SC_INGRESS))
		return tc_drop(ctx, packet);
	return tc_next(ctx, packet);
}

SEC("tc/egress")
int egress_scrub(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&egress_packet);

	if (!packet)
		return TC_NEXT;
	if (scrub(ctx, packet, SC_EGRESS))
		return egress_drop(ctx, packet);
	return egress_next(ctx, packet);
}

char _license[] SEC("license") = "Dual BSD/GPL";
