/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What connection tracking does to the flow table: put flows in, take them out, and look for those that
 * have lapsed.
 *
 * A way belongs to the CPU that exchanges its tag for one that says busy. Every flow that goes is
 * counted by why it went, by the CPU that took it out, so that what was created less what went is what
 * there is.
 *
 * Functions that are not static are verified once, and not once for every way and caller.
 */
#ifndef EBPFSENTINEL_CT_TABLE_H
#define EBPFSENTINEL_CT_TABLE_H

#include "conntrack.h"
#include "flows.h"

#define CT_RANK 40         /* a rank is above a time of lapsing, and that above a way */
#define CT_ROOM 56         /* and free ways are above a rank */
#define CT_RANK_ROOM 0ull  /* free, or lapsed */
#define CT_RANK_CLASS 1ull /* plus enum flow_class */
#define CT_RANK_NEVER 7ull

/* Two bits for each stage: its enum flow_class. */
#define CT_CLASS(stage, class) ((__u64)(class) << (2 * (stage)))
#define CT_CLASSES                                                                                 \
	(CT_CLASS(FLOW_SYN_SENT, FLOW_CLASS_UNREPLIED) |                                           \
	 CT_CLASS(FLOW_SYN_SENT_BOTH, FLOW_CLASS_UNREPLIED) |                                      \
	 CT_CLASS(FLOW_SYN_RECV, FLOW_CLASS_UNREPLIED) |                                           \
	 CT_CLASS(FLOW_TCP_ESTABLISHED, FLOW_CLASS_ASSURED) |                                      \
	 CT_CLASS(FLOW_FIN_WAIT, FLOW_CLASS_REPLIED) |                                             \
	 CT_CLASS(FLOW_CLOSE_WAIT, FLOW_CLASS_REPLIED) |                                           \
	 CT_CLASS(FLOW_PICKED_UP, FLOW_CLASS_UNREPLIED) |                                          \
	 CT_CLASS(FLOW_UDP_NEW, FLOW_CLASS_UNREPLIED) |                                            \
	 CT_CLASS(FLOW_UDP_REPLIED, FLOW_CLASS_REPLIED) |                                          \
	 CT_CLASS(FLOW_UDP_STREAM, FLOW_CLASS_ASSURED) |                                           \
	 CT_CLASS(FLOW_ICMP_NEW, FLOW_CLASS_UNREPLIED) |                                           \
	 CT_CLASS(FLOW_ICMP_REPLIED, FLOW_CLASS_REPLIED) |                                         \
	 CT_CLASS(FLOW_OTHER_NEW, FLOW_CLASS_UNREPLIED) |                                          \
	 CT_CLASS(FLOW_OTHER_REPLIED, FLOW_CLASS_ASSURED))

EMIT_TYPE(ct_end, enum ct_end);
EMIT_TYPE(ct_change, enum ct_change);

RING(ct_events, struct ct_event, 1 << 19);

/* Until when somebody listens to what becomes of flows; boot clock. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} ct_listen SEC(".maps");

/*
 * What must add up is added as one: user space runs programs too, and before Linux 6.5 a packet may
 * come in between.
 */
#define CT_ADD(counter) __sync_fetch_and_add(&(counter), 1)

static __always_inline struct flow_count *ct_count(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&flow_count, &zero);
}

static __always_inline __u32 ct_class(__u32 stage)
{
	return CT_CLASSES >> (2 * (stage & FLOW_STAGE_MASK)) & 3;
}

/* What stands in flow_set.lapse for a flow of this stage that had a packet now. */
static __always_inline __u32 ct_lapse(const struct flow_head *head, __u32 stage, __u64 now_ns)
{
	__u32 after = head->timeout[stage & (FLOW_STAGES - 1)];

	return (flow_ticks(now_ns) + after) << FLOW_CLASS_BITS | ct_class(stage);
}

static __always_inline bool ct_is_heard(const struct flow_head *head, __u64 now_ns)
{
	__u32 zero = 0;
	const __u64 *until_ns = bpf_map_lookup_elem(&ct_listen, &zero);

	return head->tell || (until_ns && now_ns < *until_ns);
}

/* Tell of a flow, if somebody listens. */
__noinline int ct_tell(const struct flow_entry *entry, __u64 now_ns, __u32 change, __u32 why)
{
	void *table = flow_table_in_force();
	const struct flow_head *head = table ? flow_head_of(table) : 0;
	struct ct_event *event;

	if (!entry || !head || !ct_is_heard(head, now_ns))
		return 0;
	event = record_reserve(ct_events, sizeof(*event));
	if (!event)
		return 0;
	__builtin_memset(event, 0, sizeof(*event));
	event->timestamp_ns = now_ns;
	event->start_ns = entry->start_ns;
	event->key = entry->key;
	event->packets[0] = entry->end[0].packets;
	event->packets[1] = entry->end[1].packets;
	event->bytes[0] = entry->end[0].bytes;
	event->bytes[1] = entry->end[1].bytes;
	event->status = entry->status;
	event->ifindex = entry->ifindex;
	event->change = change;
	event->why = why;
	event->version = 1;
	record_submit(event);
	return 0;
}

static __always_inline void ct_put_source_key(struct flow_source_key *key,
					      const struct flow_entry *entry)
{
	__builtin_memcpy(key->addr, entry->key.addr[ct_opener(entry->status)], 16);
	key->family = entry->key.family;
}

/* One more flow of its source; the entry says so, that it is taken off again once. */
__noinline int ct_count_source(struct flow_entry *entry, __u64 now_ns)
{
	struct flow_source_key key;
	struct flow_source *source, fresh = {};
	struct flow_count *count = ct_count();

	if (!entry || !count)
		return 0;
	ct_put_source_key(&key, entry);
	source = bpf_map_lookup_elem(&flow_sources, &key);
	if (!source) {
		bpf_map_update_elem(&flow_sources, &key, &fresh, BPF_NOEXIST);
		source = bpf_map_lookup_elem(&flow_sources, &key);
	}
	if (!source) {
		CT_ADD(count->sources_full);
		return 0;
	}
	__sync_fetch_and_add(&source->flows, 1);
	entry->status |= FLOW_COUNTED;
	if ((entry->status & FLOW_STAGE_MASK) == FLOW_SYN_SENT) {
		__sync_fetch_and_add(&source->half_open, 1);
		source->opened_ns = now_ns;
		entry->status |= FLOW_HALF_OPEN;
	}
	return 0;
}

/* The flow is half open no more, or is gone. Nothing falls below zero, whatever was lost. */
__noinline int ct_uncount_source(const struct flow_entry *entry, __u32 half_open, __u32 gone)
{
	struct flow_source_key key;
	struct flow_source *source;

	if (!entry)
		return 0;
	ct_put_source_key(&key, entry);
	source = bpf_map_lookup_elem(&flow_sources, &key);
	if (!source)
		return 0;
	if (half_open && OPAQUE(source->half_open))
		__sync_fetch_and_add(&source->half_open, -1);
	if (gone && (!OPAQUE(source->flows) || __sync_fetch_and_add(&source->flows, -1) == 1))
		bpf_map_delete_elem(&flow_sources, &key);
	return 0;
}

/* A flow whose way is ours is gone. */
__noinline int ct_finish(const struct flow_entry *entry, __u64 now_ns, __u32 why)
{
	struct flow_count *count = ct_count();

	if (!entry || !count || why > CT_EVICTED_ASSURED)
		return 0;
	if (entry->status & FLOW_ENDED)
		return 0; /* that was counted when it ended */
	if (entry->status & FLOW_COUNTED)
		ct_uncount_source(entry, entry->status & FLOW_HALF_OPEN, 1);
	if (why == CT_EXPIRED)
		CT_ADD(count->expired);
	else if (why == CT_REPLACED)
		CT_ADD(count->replaced);
	else if (why == CT_ENDED)
		CT_ADD(count->ended);
	else
		CT_ADD(count->evicted[(why - CT_EVICTED_CLOSING) & 3]);
	return ct_tell(entry, now_ns, CT_GONE, why);
}

/* Take the flow of a way out; 0: another CPU does something with it. */
__noinline int ct_release(struct flow_set *set, __u32 way, __u64 now_ns, __u32 why)
{
	__u32 *place, tag;

	if (!set || way >= FLOW_WAYS)
		return 0;
	place = &set->tags[way];
	tag = OPAQUE(*place);
	if (!(tag & FLOW_USED) || tag & FLOW_BUSY ||
	    __sync_val_compare_and_swap(place, tag, tag | FLOW_BUSY) != tag)
		return 0;
	ct_finish(&set->entries[way], now_ns, why);
	__sync_val_compare_and_swap(place, tag | FLOW_BUSY, 0);
	return 1;
}

/* End the flow of a way, and bar it: the entry stays while packets come, so that they do not begin it anew. */
static __noinline int ct_bar(const struct flow_head *head, struct flow_set *set, __u32 way,
			     __u64 now_ns)
{
	struct flow_entry *entry = &set->entries[way & (FLOW_WAYS - 1)];

	if (entry->status & FLOW_ENDED)
		return 0;
	ct_finish(entry, now_ns, CT_ENDED);
	entry->status = (entry->status & (1u << FLOW_OPENED_BY)) | FLOW_ENDED | FLOW_CLOSE;
	set->lapse[way & (FLOW_WAYS - 1)] = ct_lapse(head, FLOW_CLOSE, now_ns);
	return 1;
}

/*
 * What it would cost to put a flow here: how many ways are free or lapsed; the rank of the way that
 * gives way first, the tick in which it lapses, and the way. Of those that are free or lapsed it is the
 * lowest: flow_was_crowded() counts on it.
 */
__noinline __u64 ct_choose(struct flow_set *set, __u32 tick)
{
	__u64 least = CT_RANK_NEVER << CT_RANK, found, room = 0;
	__u32 way, tag, lapse;

	if (!set)
		return least;
	for (way = 0; way < FLOW_WAYS; way++) {
		tag = OPAQUE(set->tags[way]);
		lapse = OPAQUE(set->lapse[way]);
		if (tag & FLOW_BUSY)
			continue;
		found = (CT_RANK_CLASS + (lapse & 3)) << CT_RANK | (__u64)(lapse >> FLOW_CLASS_BITS)
									   << 3;
		if (!tag || lapse >> FLOW_CLASS_BITS <= tick) {
			found = CT_RANK_ROOM;
			room++;
		}
		found |= way;
		if (found < least)
			least = found;
	}
	return least | room << CT_ROOM;
}

/* Take out what has lapsed in a set. */
__noinline int ct_sweep_set(struct flow_set *set, __u64 now_ns)
{
	__u32 way, tag;

	if (!set)
		return 0;
	for (way = 0; way < FLOW_WAYS; way++) {
		tag = OPAQUE(set->tags[way]);
		if (tag & FLOW_USED && !flow_lives(set, way, now_ns))
			ct_release(set, way, now_ns, CT_EXPIRED);
	}
	return 0;
}

/* Some sets more, each CPU at its own pace; without that, what nobody asks for would stay counted. */
static __noinline int ct_sweep(void *table, __u64 now_ns)
{
	const struct flow_head *head = flow_head_of(table);
	struct flow_count *count = ct_count();
	__u32 sets, done;

	if (!head || !count)
		return 0;
	sets = head->sets / CT_SWEEP_PART + 1;
	for (done = 0; done < CT_SWEEP_SETS && done < sets; done++) {
		struct flow_set *set = flow_set_at(table, OPAQUE(count->sweep_next));

		count->sweep_next++;
		if (set)
			ct_sweep_set(set, now_ns);
		else
			count->sweep_next = 0;
	}
	count->sweep_ns = now_ns + CT_SWEEP_NS;
	return 0;
}

enum ct_claimed { CT_FULL, CT_RACED, CT_CLAIMED };

/* A way for a new flow, busy until it is put in. */
struct ct_claim {
	struct flow_set *set;
	__u32 way;
};

/*
 * The second set is for what the first has no room for: while the table is half full at most, a flow is
 * found in the first set it is looked for in. Above that, the emptier one is taken.
 */
static __always_inline bool ct_second_is_better(__u64 costs, __u64 costs_other)
{
	__u64 room = costs >> CT_ROOM, room_other = costs_other >> CT_ROOM;

	if (room | room_other)
		return room_other > room;
	return costs_other >> 3 < costs >> 3;
}

/* Ways of a set that have this tag, or are being given it. */
__noinline __u32 ct_alike(struct flow_set *set, __u32 tag)
{
	__u32 way, found = 0;

	if (!set)
		return 0;
	for (way = 0; way < FLOW_WAYS; way++)
		found += (OPAQUE(set->tags[way]) & ~FLOW_BUSY) == tag;
	return found;
}

/*
 * Two CPUs may put in the same flow, each at another way. Each looks round after its exchange, so that
 * one of them sees the other at least, and lets go of its way. A tag stands in a set once, ever.
 */
static __always_inline bool ct_is_alone(void *table, const struct flow_search *search)
{
	struct flow_set *one = flow_set_at(table, search->index[0]);
	__u32 found = ct_alike(one, search->tag);

	if (search->index[1] != search->index[0] && one && flow_was_crowded(one))
		found += ct_alike(flow_set_at(table, search->index[1]), search->tag);
	return found == 1;
}

/* See flow_was_crowded(): also where that way is about to be used for the first time. */
static __always_inline void ct_mark_crowded(struct flow_set *set)
{
	__sync_val_compare_and_swap(&set->lapse[FLOW_WAYS - FLOW_ENOUGH], 0, 1);
}

/* `most`: the highest class that gives way. A function of its own: the stack of a program is small. */
static __noinline enum ct_claimed ct_claim(void *table, const struct flow_search *search,
					   __u64 now_ns, __u32 most, struct ct_claim *claim)
{
	struct flow_count *count = ct_count();
	struct flow_set *one = flow_set_at(table, search->index[0]);
	struct flow_set *other = flow_set_at(table, search->index[1]);
	__u32 tick = flow_ticks(now_ns), before, rank, way;
	__u64 costs, costs_other;

	if (!one || !other || !count)
		return CT_RACED;
	costs = ct_choose(one, tick);
	if (costs >> CT_ROOM < FLOW_ENOUGH) {
		costs_other = ct_choose(other, tick);
		if (ct_second_is_better(costs, costs_other)) {
			ct_mark_crowded(one);
			one = other;
			costs = costs_other;
		}
	}
	rank = costs >> CT_RANK & 0xff;
	way = costs & (FLOW_WAYS - 1);
	if (rank > CT_RANK_CLASS + most) {
		CT_ADD(count->full);
		return CT_FULL;
	}
	before = OPAQUE(one->tags[way]);
	if (before & FLOW_BUSY ||
	    (before && rank == CT_RANK_ROOM && flow_lives(one, way, now_ns)) ||
	    (!before && rank != CT_RANK_ROOM) ||
	    __sync_val_compare_and_swap(&one->tags[way], before, search->tag | FLOW_BUSY) != before)
		return CT_RACED;
	if (before)
		ct_finish(&one->entries[way], now_ns,
			  rank == CT_RANK_ROOM ? CT_EXPIRED
					       : CT_EVICTED_CLOSING + rank - CT_RANK_CLASS);
	if (!ct_is_alone(table, search)) {
		__sync_val_compare_and_swap(&one->tags[way], search->tag | FLOW_BUSY, 0);
		return CT_RACED;
	}
	claim->set = one;
	claim->way = way;
	return CT_CLAIMED;
}

static __always_inline void ct_publish(const struct ct_claim *claim, __u32 tag)
{
	__sync_val_compare_and_swap(&claim->set->tags[claim->way & (FLOW_WAYS - 1)],
				    tag | FLOW_BUSY, tag);
}

#endif
