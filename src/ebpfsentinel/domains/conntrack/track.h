/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A packet and its flow: found, and followed from state to state.
 */
#ifndef EBPFSENTINEL_CT_TRACK_H
#define EBPFSENTINEL_CT_TRACK_H

#include "begin.h"

static __always_inline bool ct_is_half_open(__u32 stage)
{
	return stage == FLOW_SYN_SENT || stage == FLOW_SYN_SENT_BOTH || stage == FLOW_SYN_RECV;
}

/* What a change is to those who listen; CT_GONE: nothing. */
static __always_inline __u32 ct_change_of(__u32 stage)
{
	if (stage == FLOW_TIME_WAIT || stage == FLOW_CLOSE)
		return CT_CLOSED;
	if (stage == FLOW_TCP_ESTABLISHED || stage == FLOW_UDP_REPLIED ||
	    stage == FLOW_ICMP_REPLIED || stage == FLOW_OTHER_REPLIED)
		return CT_ESTABLISHED;
	return CT_GONE;
}

/* Where two CPUs change a flow at once, the one that comes second leaves it as it is. */
static __noinline int ct_change(struct track *track, struct flow_entry *entry, __u32 status,
				__u32 next)
{
	__u32 stage = next & FLOW_STAGE_MASK, change = ct_change_of(stage);
	bool opened = status & FLOW_HALF_OPEN && !ct_is_half_open(stage);

	if (opened)
		next &= ~FLOW_HALF_OPEN;
	if (__sync_val_compare_and_swap(&entry->status, status, next) != status)
		return 0;
	if (opened)
		ct_uncount_source(entry, 1, 0);
	if (change != CT_GONE && stage != (status & FLOW_STAGE_MASK))
		ct_tell(entry, track->now_ns, change, 0);
	return 0;
}

/* Of all but TCP: a packet from the other end is an answer. */
static __always_inline __u32 ct_other_next(const struct track *track,
					   const struct flow_entry *entry, __u32 status)
{
	__u32 stage = status & FLOW_STAGE_MASK;

	if ((status >> FLOW_SEEN & 3) != 3)
		return status;
	if (stage == FLOW_UDP_NEW || stage == FLOW_ICMP_NEW || stage == FLOW_OTHER_NEW)
		return status + 1;
	if (stage == FLOW_UDP_REPLIED && track->now_ns - entry->start_ns > CT_STREAM_NS)
		return status + 1;
	return status;
}

static __always_inline __u32 ct_next(struct track *track, struct flow_entry *entry, __u32 status)
{
	__u32 from = track->search.from & 1, next = status | 1u << (FLOW_SEEN + from);
	const struct packet *packet = track->packet;
	bool plain;

	if (packet->protocol != PROTOCOL_TCP)
		return ct_other_next(track, entry, next);
	if (!(packet->flags & PACKET_TCP))
		return next;
	plain = (packet->tcp_flags & FLOW_TCP_KINDS) == FLOW_TCP_ACK &&
		(status & FLOW_STAGE_MASK) == FLOW_TCP_ESTABLISHED;
	if (!plain)
		next = ct_tcp_next(next, from, packet->tcp_flags);
	if (ct_head(track)->windows && !(next & (CT_INVALID | CT_REOPEN | CT_PASS_OVER)) &&
	    !(status & FLOW_MIDSTREAM) && !ct_in_window(track->ctx, packet, entry, from))
		return CT_INVALID;
	return next;
}

/* A packet of a flow that was ended and barred: does it bring it back? */
static __always_inline bool ct_brings_back(const struct track *track,
					   const struct flow_entry *entry)
{
	const struct packet *packet = track->packet;

	if (packet->flags & PACKET_TCP && (packet->tcp_flags & FLOW_TCP_KINDS) == FLOW_TCP_SYN)
		return true;
	return !track->leaves && (entry->status >> FLOW_OPENED_BY & 1) == track->search.from;
}

/* 1: the packet begins the flow anew. */
static __noinline int ct_follow_barred(struct track *track, struct flow_set *set, __u32 way)
{
	if (!set)
		return 0;
	way &= FLOW_WAYS - 1;
	if (ct_brings_back(track, &set->entries[way])) {
		ct_release(set, way, track->now_ns, CT_REPLACED);
		return 1;
	}
	ct_is(track, FLOW_INVALID);
	set->lapse[way] = ct_lapse(ct_head(track), FLOW_CLOSE, track->now_ns);
	return 0;
}

/* A packet of a flow that is there. */
static __always_inline void ct_follow(struct track *track, struct flow_set *set, __u32 way)
{
	struct flow_entry *entry = &set->entries[way & (FLOW_WAYS - 1)];
	__u32 from = track->search.from & 1, status = OPAQUE(entry->status);
	__u32 next, lapse;

	if (__builtin_expect(status & FLOW_ENDED, 0)) {
		if (ct_follow_barred(track, set, way))
			ct_begin(track);
		return;
	}
	next = ct_next(track, entry, status);
	if (__builtin_expect(next & CT_INVALID, 0)) {
		ct_is(track, FLOW_INVALID);
		return;
	}
	if (__builtin_expect(next & CT_REOPEN, 0)) {
		ct_release(set, way, track->now_ns, CT_REPLACED);
		ct_begin(track);
		return;
	}
	__sync_fetch_and_add(&entry->end[from].packets, 1);
	__sync_fetch_and_add(&entry->end[from].bytes, track->packet->bytes);
	entry->end[from].last_ns = track->now_ns;
	if (track->leaves && track->packet->protocol == PROTOCOL_UDP && ct_head(track)->names)
		flow_name_sender(track->ctx, entry, from);
	track->packet->flow_state =
		status >> (FLOW_SEEN + (from ^ 1)) & 1 ? FLOW_ESTABLISHED : FLOW_NEW;
	if (__builtin_expect(next & CT_PASS_OVER, 0))
		return;
	if (next != status)
		ct_change(track, entry, status, next);
	lapse = ct_lapse(ct_head(track), next & FLOW_STAGE_MASK, track->now_ns);
	if (set->lapse[way & (FLOW_WAYS - 1)] != lapse)
		set->lapse[way & (FLOW_WAYS - 1)] = lapse;
}

/* 0: the flow is not there. */
static __always_inline bool ct_try(struct track *track)
{
	__u32 way;
	struct flow_set *set = flow_stands(track->table, &track->search, &way);

	if (!set)
		return false;
	if (flow_lives(set, way, track->now_ns)) {
		ct_follow(track, set, way);
		return true;
	}
	ct_release(set, way, track->now_ns, CT_EXPIRED);
	return false;
}

static __always_inline bool ct_is_error(const struct packet *packet)
{
	return flow_is_icmp(packet) && flow_icmp_kind(packet) == FLOW_ICMP_ERROR;
}

/* An ICMP error belongs to the flow that it quotes, and changes nothing of it. */
static __noinline int ct_relate(struct track *track)
{
	struct __sk_buff *ctx = track->ctx;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	enum flow_state state = flow_state_of_error(track->table, track->packet, data, end, false);

	ct_is(track, state);
	track->count->related += state == FLOW_RELATED;
	return 0;
}

/* An echo to oneself has the same ends both ways: the answer is told by its type. */
static __always_inline void ct_turn_echo(struct track *track)
{
	const struct flow_key *key = &track->search.key;

	if (key->addr[0][0] == key->addr[1][0] && key->addr[0][3] == key->addr[1][3] &&
	    flow_icmp_kind(track->packet) == FLOW_ICMP_ANSWERS)
		track->search.from ^= 1;
}

/* The key of the packet; false: it has none, and is invalid. */
static __always_inline bool ct_put_key(struct track *track)
{
	struct __sk_buff *ctx = track->ctx;
	struct packet *packet = track->packet;
	__u16 ports[2];

	if (packet->flags & PACKET_MALFORMED ||
	    (packet->flags & PACKET_TCP && !flow_tcp_legal(packet->tcp_flags))) {
		ct_is(track, FLOW_INVALID);
		return false;
	}
	if (!flow_ports(packet, (void *)(long)ctx->data, (void *)(long)ctx->data_end, ports)) {
		track->count->fragments_lost += !!(packet->flags & PACKET_LATER_FRAGMENT);
		ct_is(track, FLOW_INVALID);
		return false;
	}
	flow_put_key(&track->search, packet, ports);
	if (flow_is_icmp(packet))
		ct_turn_echo(track);
	return true;
}

/*
 * A flow that is not there: it was in the table from before, or begins. Where another CPU was at the
 * place, it may be there by now.
 */
static __noinline int ct_begin_or_find(struct track *track)
{
	__u32 attempt;

	ct_take_over(track);
	for (attempt = 0; attempt < 2; attempt++)
		if (ct_try(track) || !ct_begin(track))
			return 0;
	CT_ADD(track->count->raced);
	return 0;
}

static __always_inline void ct_track(struct track *track)
{
	if (ct_is_error(track->packet)) {
		ct_relate(track);
		return;
	}
	if (!ct_put_key(track))
		return;
	track->count->tracked++;
	flow_place(&track->search, ct_head(track));
	if (!ct_try(track))
		ct_begin_or_find(track);
}

/* Is the table there, and the packet one that is tracked? */
static __always_inline bool ct_prepare(struct track *track, struct __sk_buff *ctx,
				       struct packet *packet, bool leaves)
{
	if (!flow_is_tracked(packet) || packet->dry)
		return false;
	track->ctx = ctx;
	track->packet = packet;
	track->leaves = leaves;
	track->table = flow_table_in_force();
	track->head = track->table ? flow_head_of(track->table) : 0;
	track->count = ct_count();
	if (!track->head || !track->count)
		return false;
	track->now_ns = packet_now(packet);
	if (track->now_ns >= track->count->sweep_ns)
		ct_sweep(track->table, track->now_ns);
	return true;
}

#endif
