/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How a translation gets into the table: both its entries, or none.
 *
 * The answers' entry goes in first: it is the reservation of the port. Two flows cannot have the
 * same one, on however many CPUs they begin, because a key is put in under the lock of its home, and
 * only where it is not there yet. A lock is held for some tens of nanoseconds, by programs that
 * nothing interrupts on their CPU but other hooks' interrupts, which take no lock.
 *
 * Where both sets of a key are full, what is worth least gives way, and is counted: what has
 * lapsed; entries that change nothing, of flows not yet established; TCP that is closing; what has no
 * answer yet; what has one; established flows that are left as they are. An established translation
 * never gives way: the new flow's packet is dropped instead, and counted.
 */
#ifndef EBPFSENTINEL_BINDING_H
#define EBPFSENTINEL_BINDING_H

#include "nat.h"

#include <bpf/bpf_helpers.h>

#define LOCK_TRIES 256
#define CLAIM_TRIES 4
#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* What became of an attempt to put an entry in; else it is its place. */
#define PUT_EXISTS (1u << 24) /* with the place of the entry that has the key */
#define PUT_FULL (1u << 25)
#define PUT_CONTENDED (1u << 26)
#define PLACE_MASK (TR_SETS * TR_WAYS - 1)

#define RANK_SHIFT 60
enum rank {
	RANK_FREE,
	RANK_UNTOUCHED,
	RANK_CLOSING,
	RANK_UNREPLIED,
	RANK_REPLIED,
	RANK_UNTOUCHED_ESTABLISHED,
	RANK_NEVER,
};

struct tr_table nat_table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, NAT_LOCKS);
	__type(key, __u32);
	__type(value, struct nat_lock);
} nat_locks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nat_marks);
} nat_marks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct nat_count);
} nat_count SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2); /* what leaves may be judged while what came in is */
	__type(key, __u32);
	__type(value, struct nat_work);
} nat_work SEC(".maps");

static __always_inline struct nat_count *counters(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&nat_count, &zero);
}

static __always_inline struct nat_work *work_of(enum tr_hook hook)
{
	__u32 key = hook;

	return bpf_map_lookup_elem(&nat_work, &key);
}

static __always_inline enum tr_class class_of(__u8 protocol)
{
	if (protocol == PROTOCOL_TCP)
		return TR_CLASS_TCP;
	if (protocol == PROTOCOL_UDP)
		return TR_CLASS_UDP;
	if (protocol == PROTOCOL_ICMP || protocol == PROTOCOL_ICMPV6)
		return TR_CLASS_ICMP;
	return TR_CLASS_OTHER;
}

/* The mark of what passes this hook with these addresses; 0: there is no map. */
static __always_inline __u8 *mark_of(const struct tr_head *head, const __u32 *src, const __u32 *dst,
				     enum tr_hook hook)
{
	const __u32 *near = hook == TR_INGRESS ? dst : src;
	const __u64 *keys = head->hash_keys;
	__u64 sum = keys[0] + keys[1] * near[0] + keys[2] * near[1] + keys[3] * near[2] +
		    keys[4] * near[3];
	__u32 zero = 0;
	struct nat_marks *marks = bpf_map_lookup_elem(&nat_marks, &zero);

	return marks ? &marks->put[hook & 1][sum >> 52] : 0;
}

static __always_inline struct tr_entry *entry_at(__u32 place)
{
	__u32 index = place >> 3 & (TR_SETS - 1);
	struct tr_set *set = bpf_map_lookup_elem(&nat_table, &index);

	return set ? &set->entries[place & (TR_WAYS - 1)] : 0;
}

static __always_inline struct tr_entry *
look_up(const struct tr_head *head, const struct tr_tuple *key, struct tr_tuple *to, __u64 now_ns)
{
	return tr_look_up(&nat_table, head, key, to, now_ns);
}

static __always_inline __u64 rank_of(const struct tr_entry *entry, __u64 now_ns)
{
	bool established = entry->state == TR_ESTABLISHED;

	if (entry->until_ns <= now_ns)
		return RANK_FREE;
	if (entry->from.kind == TR_FRAGMENT)
		return RANK_UNTOUCHED;
	if (entry->flags & TR_IDENTITY)
		return established ? RANK_UNTOUCHED_ESTABLISHED : RANK_UNTOUCHED;
	if (entry->state == TR_CLOSING)
		return RANK_CLOSING;
	if (entry->state == TR_NEW)
		return RANK_UNREPLIED;
	return established ? RANK_NEVER : RANK_REPLIED;
}

/* A way that is free, or has lapsed, by the tags alone; TR_WAYS: there is none. */
__noinline __u32 nat_free_way(struct tr_set *set, __u64 now_ns)
{
	__u64 now = now_ns >> TR_TICK << TR_TAG_UNTIL & TR_TAG_TIME, tag;
	__u32 way;

	if (!set)
		return TR_WAYS;
	for (way = 0; way < TR_WAYS; way++) {
		tag = OPAQUE(set->tags[way]);
		if (tag & TR_TAG_BUSY)
			continue;
		if (!(tag & TR_TAG_USED) ||
		    ((tag & TR_TAG_TIME) < now && set->entries[way].until_ns <= now_ns))
			return way;
	}
	return TR_WAYS;
}

/* The way of a set that is worth least: rank, when it lapses, and way, comparable as one number. */
__noinline __u64 nat_cheapest(struct tr_set *set, __u64 now_ns)
{
	__u64 least = -1, score, tag;
	__u32 way;

	if (!set)
		return least;
	for (way = 0; way < TR_WAYS; way++) {
		tag = OPAQUE(set->tags[way]);
		if (tag & TR_TAG_BUSY)
			continue;
		score = way;
		if (tag & TR_TAG_USED)
			score |=
				rank_of(&set->entries[way], now_ns) << RANK_SHIFT |
				(set->entries[way].until_ns >> 8 << 3 & ((1ull << RANK_SHIFT) - 1));
		if (score < least)
			least = score;
	}
	return least;
}

/* A free way's tag after this one; never 0, which only a way has that was never used. */
static __always_inline __u64 next_generation(__u64 tag)
{
	return ((tag + TR_TAG_FIRST) & TR_TAG_GENERATIONS) ?: TR_TAG_FIRST;
}

static __always_inline __u64 tag_time(__u64 until_ns)
{
	return until_ns >> TR_TICK << TR_TAG_UNTIL & TR_TAG_TIME;
}

/* Let go of an entry, if it is still that of this translation. */
__noinline int nat_clear(__u32 place, __u32 serial)
{
	__u32 index = place >> 3 & (TR_SETS - 1), way = place & (TR_WAYS - 1);
	struct tr_set *set = bpf_map_lookup_elem(&nat_table, &index);
	__u64 tag;

	if (!set)
		return 0;
	tag = OPAQUE(set->tags[way]);
	if (!(tag & TR_TAG_USED) || tag & TR_TAG_BUSY || set->entries[way].serial != serial)
		return 0;
	return __sync_val_compare_and_swap(&set->tags[way], tag, next_generation(tag)) == tag;
}

static __always_inline void count_eviction(__u64 rank)
{
	struct nat_count *count = counters();

	if (!count)
		return;
	if (rank == RANK_UNTOUCHED || rank == RANK_UNTOUCHED_ESTABLISHED)
		count->evicted_untouched++;
	else if (rank == RANK_CLOSING)
		count->evicted_closing++;
	else if (rank == RANK_UNREPLIED)
		count->evicted_unreplied++;
	else if (rank == RANK_REPLIED)
		count->evicted_replied++;
}

static __always_inline bool take_lock(struct nat_lock *lock)
{
	int attempt;

	for (attempt = 0; attempt < LOCK_TRIES; attempt++) {
		if (!OPAQUE(lock->held) && !__sync_val_compare_and_swap(&lock->held, 0, 1))
			return true;
	}
	return false;
}

static __always_inline void give_lock(struct nat_lock *lock)
{
	__sync_val_compare_and_swap(&lock->held, 1, 0);
}

/* Write the entry over a way of this tag; false: another CPU was faster. */
static __always_inline bool write_way(struct tr_set *set, __u32 way, __u64 tag,
				      const struct tr_entry *made)
{
	__u64 before = OPAQUE(set->tags[way]);
	__u64 after = tag | next_generation(before) | tag_time(made->until_ns);
	struct tr_entry *entry = &set->entries[way];
	__u32 peer = entry->peer, serial = entry->serial;
	bool used = before & TR_TAG_USED;

	if (before & TR_TAG_BUSY ||
	    __sync_val_compare_and_swap(&set->tags[way], before, after | TR_TAG_BUSY) != before)
		return false;
	__builtin_memcpy(entry, made, sizeof(*entry));
	__sync_val_compare_and_swap(&set->tags[way], after | TR_TAG_BUSY, after);
	if (used)
		nat_clear(peer, serial);
	return true;
}

/* Under the lock: where the key is, or where it has been put now. */
__noinline __u32 nat_put_locked(const struct tr_entry *made, __u64 hash, __u64 now_ns)
{
	__u32 first = tr_first_set(hash), second = tr_second_set(hash), found, attempt, way;
	struct tr_set *one = bpf_map_lookup_elem(&nat_table, &first);
	struct tr_set *other = bpf_map_lookup_elem(&nat_table, &second);
	__u64 tag = tr_tag(hash), here, there;

	if (!made || !one || !other)
		return PUT_FULL;
	found = tr_way(one, tag, &made->from);
	way = found & (TR_WAYS - 1);
	if (tr_is_hit(found)) {
		if (one->entries[way].until_ns > now_ns)
			return PUT_EXISTS | first << 3 | way;
		nat_clear(first << 3 | way, one->entries[way].serial);
	}
	found = tr_was_full(one) ? tr_way(other, tag, &made->from) : TR_WAYS;
	way = found & (TR_WAYS - 1);
	if (tr_is_hit(found)) {
		if (other->entries[way].until_ns > now_ns)
			return PUT_EXISTS | second << 3 | way;
		nat_clear(second << 3 | way, other->entries[way].serial);
	}
	way = nat_free_way(one, now_ns);
	if (way < TR_WAYS && write_way(one, way, tag, made))
		return first << 3 | way;
	tr_mark_full(one);
	way = nat_free_way(other, now_ns);
	if (way < TR_WAYS && write_way(other, way, tag, made))
		return second << 3 | way;
	for (attempt = 0; attempt < CLAIM_TRIES; attempt++) {
		here = nat_cheapest(one, now_ns);
		there = nat_cheapest(other, now_ns);
		if (there >> 3 < here >> 3) {
			here = there;
			one = other;
			first = second;
		}
		if (here >> RANK_SHIFT >= RANK_NEVER)
			return PUT_FULL;
		way = here & (TR_WAYS - 1);
		if (write_way(one, way, tag, made)) {
			count_eviction(here >> RANK_SHIFT);
			return first << 3 | way;
		}
	}
	return PUT_CONTENDED;
}

/* Say that there is an entry for its address. A function of its own: the stack of a program is small. */
__noinline int nat_mark(const struct tr_entry *made)
{
	const struct tr_head *head = tr_head_now();
	__u8 *mark = 0;

	if (head && made)
		mark = mark_of(head, made->from.src_addr, made->from.dst_addr, made->from.hook);
	if (mark)
		*mark = 1;
	return 0;
}

/* Put an entry in where its key is not there yet; its place, or PUT_EXISTS, PUT_FULL, PUT_CONTENDED. */
__noinline __u32 nat_put(const struct tr_entry *made, __u64 now_ns)
{
	const struct tr_head *head = tr_head_now();
	struct nat_lock *lock;
	__u32 home, place;
	__u64 hash;

	if (!head || !made)
		return PUT_FULL;
	nat_mark(made);
	hash = tr_hash(head, &made->from);
	home = tr_first_set(hash) & (NAT_LOCKS - 1);
	lock = bpf_map_lookup_elem(&nat_locks, &home);
	if (!lock || !take_lock(lock))
		return PUT_CONTENDED;
	place = nat_put_locked(made, hash, now_ns);
	give_lock(lock);
	return place;
}

static __always_inline void link_entries(__u32 way_out, __u32 way_back)
{
	struct tr_entry *entry = entry_at(way_out), *answer = entry_at(way_back);

	if (!entry || !answer)
		return;
	answer->serial = entry->serial;
	answer->peer = way_out;
	entry->peer = way_back;
}

enum bound { BOUND, BOUND_TAKEN, BOUND_RACED, BOUND_FULL, BOUND_CONTENDED };

/*
 * Put work->entry and work->answer in. BOUND_TAKEN: another flow has the answers' tuple. One that
 * is of this very flow is taken over: another CPU is binding it, or its own half was pushed out.
 */
__noinline int nat_bind(struct nat_work *work, __u64 now_ns)
{
	__u32 answer, entry;
	struct tr_entry *known;

	if (!work)
		return BOUND_FULL;
	answer = nat_put(&work->answer, now_ns);
	if (answer & PUT_EXISTS) {
		known = entry_at(answer);
		if (!known || !tr_same(&known->to, &work->answer.to))
			return BOUND_TAKEN;
		entry = nat_put(&work->entry, now_ns);
		if (entry & PUT_EXISTS)
			return BOUND_RACED;
		if (entry & (PUT_FULL | PUT_CONTENDED))
			return entry & PUT_FULL ? BOUND_FULL : BOUND_CONTENDED;
		link_entries(entry, answer & PLACE_MASK);
		return BOUND;
	}
	if (answer & (PUT_FULL | PUT_CONTENDED))
		return answer & PUT_FULL ? BOUND_FULL : BOUND_CONTENDED;
	entry = nat_put(&work->entry, now_ns);
	if (entry & (PUT_EXISTS | PUT_FULL | PUT_CONTENDED)) {
		nat_clear(answer, work->answer.serial);
		if (entry & PUT_EXISTS)
			return BOUND_RACED;
		return entry & PUT_FULL ? BOUND_FULL : BOUND_CONTENDED;
	}
	link_entries(entry, answer);
	return BOUND;
}

#endif
