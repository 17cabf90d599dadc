/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A flow begins: by a packet that can, or because it was in the table from before.
 */
#ifndef EBPFSENTINEL_CT_BEGIN_H
#define EBPFSENTINEL_CT_BEGIN_H

#include "owner.h"
#include "packet.h"
#include "tcp.h"
#include "table.h"
#include "windows.h"

/* One packet on its way. */
struct track {
	struct __sk_buff *ctx;
	struct packet *packet;
	void *table;
	const void *head; /* struct flow_head, of which BTF would know the name alone */
	struct flow_count *count;
	__u64 now_ns;
	bool leaves; /* and was made here */
	struct flow_search search;
};

static __always_inline const struct flow_head *ct_head(const struct track *track)
{
	return track->head;
}

static __always_inline void ct_is(struct track *track, enum flow_state state)
{
	track->packet->flow_state = state;
	if (state == FLOW_INVALID)
		track->count->invalid++;
}

static __always_inline __u32 ct_first_stage(const struct packet *packet)
{
	if (packet->flags & PACKET_TCP)
		return (packet->tcp_flags & FLOW_TCP_KINDS) == FLOW_TCP_SYN ? FLOW_SYN_SENT
									    : FLOW_PICKED_UP;
	if (packet->protocol == PROTOCOL_UDP)
		return FLOW_UDP_NEW;
	return flow_is_icmp(packet) ? FLOW_ICMP_NEW : FLOW_OTHER_NEW;
}

/*
 * Which end opened it? That which sent this; but of a connection that is picked up from its midst,
 * the one with the higher port: servers have the lower one.
 */
static __always_inline __u32 ct_guess_opener(const struct flow_search *search, __u32 stage)
{
	if (stage != FLOW_PICKED_UP)
		return search->from;
	if (search->key.port[0] == search->key.port[1])
		return search->from;
	return search->key.port[1] > search->key.port[0];
}

/* An established flow gives way only to one that this host opens itself. */
static __always_inline __u32 ct_most(const struct track *track, __u32 stage)
{
	bool opens = stage == FLOW_SYN_SENT || (stage == FLOW_ICMP_NEW);

	return track->leaves && opens ? FLOW_CLASS_ASSURED : FLOW_CLASS_REPLIED;
}

static __always_inline void ct_first_packet(struct track *track, struct flow_entry *entry,
					    __u32 stage)
{
	__u32 from = track->search.from & 1, opener = ct_guess_opener(&track->search, stage);

	__builtin_memset(entry, 0, sizeof(*entry));
	entry->key = track->search.key;
	entry->start_ns = entry->end[from].last_ns = track->now_ns;
	entry->ifindex = track->packet->ifindex;
	entry->status = stage | opener << FLOW_OPENED_BY | 1u << (FLOW_SEEN + from);
	if (stage == FLOW_PICKED_UP)
		entry->status |= FLOW_MIDSTREAM;
	entry->end[from].packets = 1;
	entry->end[from].bytes = track->packet->bytes;
}

/*
 * Move a flow of the table from before, with all that it has; 0: it stays there, or is lost. `search` is
 * room for its key: the stack of a program is small.
 */
static __noinline int ct_move(void *table, struct flow_set *from, __u32 way, __u64 now_ns,
			      struct flow_search *search)
{
	const struct flow_head *head = flow_head_of(table);
	struct flow_count *count = ct_count();
	struct flow_entry *entry;
	struct ct_claim claim = {};
	__u32 tag;

	if (!head || !count || !from)
		return 0;
	way &= FLOW_WAYS - 1;
	tag = OPAQUE(from->tags[way]);
	if (!(tag & FLOW_USED) || tag & FLOW_BUSY ||
	    __sync_val_compare_and_swap(&from->tags[way], tag, tag | FLOW_BUSY) != tag)
		return 0;
	search->key = from->entries[way].key;
	flow_place(search, head);
	if (ct_claim(table, search, now_ns, FLOW_CLASS_REPLIED, &claim) != CT_CLAIMED ||
	    !claim.set) {
		if (from->entries[way].status & FLOW_ENDED)
			return 0;
		CT_ADD(count->move_lost);
		ct_uncount_source(&from->entries[way], from->entries[way].status & FLOW_HALF_OPEN,
				  !!(from->entries[way].status & FLOW_COUNTED));
		return 0;
	}
	entry = &claim.set->entries[claim.way & (FLOW_WAYS - 1)];
	*entry = from->entries[way];
	claim.set->lapse[claim.way & (FLOW_WAYS - 1)] = from->lapse[way];
	ct_publish(&claim, search->tag);
	from->tags[way] = 0;
	CT_ADD(count->moved_in);
	return 1;
}

/* The flow of this packet moves over, if it is in the table from before. */
static __noinline int ct_take_over(struct track *track)
{
	struct flow_search *search = &track->search;
	__u32 slot = 1, way;
	void *before = bpf_map_lookup_elem(&flow_tables, &slot);
	struct flow_set *set;

	if (!before)
		return 0;
	set = flow_seek(before, search, &way);
	if (set && flow_lives(set, way, track->now_ns))
		ct_move(track->table, set, way, track->now_ns, search);
	flow_place(search, ct_head(track));
	return 0;
}

/* A packet of no flow: it begins one, or is invalid. 1: another CPU was at the place. */
static __noinline int ct_begin(struct track *track)
{
	enum ct_claimed claimed;
	__u32 stage = ct_first_stage(track->packet);
	struct ct_claim claim = {};
	struct flow_entry *entry;

	if (!flow_may_begin(track->packet, ct_head(track)->pickup)) {
		ct_is(track, FLOW_INVALID);
		return 0;
	}
	ct_is(track, FLOW_NEW);
	claimed = ct_claim(track->table, &track->search, track->now_ns, ct_most(track, stage),
			   &claim);
	if (claimed != CT_CLAIMED || !claim.set)
		return claimed == CT_RACED;
	claim.way &= FLOW_WAYS - 1;
	entry = &claim.set->entries[claim.way];
	ct_first_packet(track, entry, stage);
	if (ct_head(track)->names)
		flow_name_ends(track->ctx, track->packet, entry, track->search.from);
	if (stage == FLOW_SYN_SENT && ct_head(track)->windows)
		ct_in_window(track->ctx, track->packet, entry, track->search.from);
	if (ct_head(track)->count_sources)
		ct_count_source(entry, track->now_ns);
	claim.set->lapse[claim.way] = ct_lapse(ct_head(track), stage, track->now_ns);
	ct_publish(&claim, track->search.tag);
	CT_ADD(track->count->created);
	ct_tell(entry, track->now_ns, CT_NEW, 0);
	return 0;
}

#endif
