/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where in the flow table a flow stands.
 *
 * The hash is multilinear with secret random keys (Lemire and Kaser, Strongly universal string
 * hashing is fast, 2014), and mixed: of its 64 bits come both sets and the tag. The key is compared.
 *
 * While a table is filled loosely, its second sets are not looked at, whether a flow is there or not: each
 * of them would be one more cache line, and in a table this large hardly ever one that is at hand.
 */
#ifndef EBPFSENTINEL_FLOW_SEARCH_H
#define EBPFSENTINEL_FLOW_SEARCH_H

#include "flow_table.h"

#define FLOW_MIX 0xd6e8feb86659fd93ull
#define FLOW_GOLDEN 0x9e3779b97f4a7c15ull /* the golden ratio */

/* A key, where it may be, and which of its ends sent the packet. */
struct flow_search {
	struct flow_key key;
	__u32 from;
	__u32 tag;
	__u32 index[2];
} __attribute__((aligned(8))); /* keys are compared by eight bytes */

static __always_inline __u32 flow_ticks(__u64 now_ns)
{
	return now_ns >> FLOW_TICK;
}

/* The table: 0: connections are not tracked. */
static __always_inline void *flow_table_in_force(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&flow_tables, &zero);
}

static __always_inline struct flow_head *flow_head_of(void *table)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(table, &zero);
}

static __always_inline struct flow_set *flow_set_at(void *table, __u32 index)
{
	__u32 at = index + 1;

	return bpf_map_lookup_elem(table, &at);
}

/* Is the first end the greater one? */
static __always_inline bool flow_in_turn(const __u32 *one, const __u32 *other, __u16 port,
					 __u16 other_port)
{
	__u64 high = (__u64)one[0] << 32 | one[1], other_high = (__u64)other[0] << 32 | other[1];
	__u64 low = (__u64)one[2] << 32 | one[3], other_low = (__u64)other[2] << 32 | other[3];

	if (high != other_high)
		return high > other_high;
	if (low != other_low)
		return low > other_low;
	return port > other_port;
}

static __always_inline void flow_put_ends(struct flow_search *search, const __u32 *src,
					  const __u32 *dst, __u16 src_port, __u16 dst_port)
{
	if (flow_in_turn(src, dst, src_port, dst_port)) {
		__builtin_memcpy(search->key.addr[0], dst, 16);
		__builtin_memcpy(search->key.addr[1], src, 16);
		search->key.port[0] = dst_port;
		search->key.port[1] = src_port;
		search->from = 1;
	} else {
		__builtin_memcpy(search->key.addr[0], src, 16);
		__builtin_memcpy(search->key.addr[1], dst, 16);
		search->key.port[0] = src_port;
		search->key.port[1] = dst_port;
		search->from = 0;
	}
}

/* A sum as good as random, whatever keys have in common: sums of keys in a row stand in a row. */
static __always_inline __u64 flow_mix(__u64 sum)
{
	sum = (sum ^ sum >> 32) * FLOW_MIX;
	sum = (sum ^ sum >> 32) * FLOW_MIX;
	return sum ^ sum >> 32;
}

static __always_inline __u64 flow_hash(const __u64 *keys, const struct flow_key *key)
{
	__u32 ports = (__u32)key->port[0] << 16 | key->port[1];
	__u32 what = (__u32)key->zone << 16 | key->family << 8 | key->protocol;
	__u64 sum = keys[0] + keys[1] * key->addr[0][0] + keys[2] * key->addr[1][0] +
		    keys[3] * ports + keys[4] * what;

	if (key->family != 4)
		sum += keys[5] * key->addr[0][1] + keys[6] * key->addr[0][2] +
		       keys[7] * key->addr[0][3] + keys[8] * key->addr[1][1] +
		       keys[9] * key->addr[1][2] + keys[10] * key->addr[1][3];
	return flow_mix(sum);
}

/* Where the key may be; place() in kernel/flows.py does the same. */
static __always_inline void flow_place(struct flow_search *search, const struct flow_head *head)
{
	__u64 hash = flow_hash(head->hash_keys, &search->key);

	search->tag = ((__u32)hash & ~FLOW_BUSY) | FLOW_USED;
	search->index[0] = (hash >> 32) * head->sets >> 32;
	search->index[1] = (hash * FLOW_GOLDEN >> 32) * head->sets >> 32;
}

/*
 * The way with this tag plus FLOW_WAYS; less, or twice as much: there is none, or none alone. Without
 * a branch: a processor would guess it wrongly, and a verifier would follow each way out of a loop.
 */
static __always_inline __u32 flow_way(const struct flow_set *set, __u32 tag)
{
	__u64 found = 0, alike;
	__u32 way;

#pragma unroll
	for (way = 0; way < FLOW_WAYS; way++) {
		alike = OPAQUE(set->tags[way]) ^ tag;
		asm volatile(""
			     : "+r"(alike)); /* or the compiler makes branches of what it knows, */
		alike = (alike - 1) >> 63;
		asm volatile("" : "+r"(alike)); /* or the verifier of a mask */
		found += alike * (way + FLOW_WAYS);
	}
	return found;
}

static __always_inline bool flow_same(const struct flow_key *one, const struct flow_key *other)
{
	const __u64 *a = (const void *)one, *b = (const void *)other;

	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) | (a[4] ^ b[4]));
}

/* The way of the key in the set, lapsed or not; FLOW_WAYS: it is not there. */
static __always_inline __u32 flow_find_in(const struct flow_set *set,
					  const struct flow_search *search)
{
	__u32 way = flow_way(set, search->tag) - FLOW_WAYS;

	if (way >= FLOW_WAYS || !flow_same(&set->entries[way].key, &search->key))
		return FLOW_WAYS;
	return way;
}

static __always_inline bool flow_lives(const struct flow_set *set, __u32 way, __u64 now_ns)
{
	return set->lapse[way & (FLOW_WAYS - 1)] >> FLOW_CLASS_BITS > flow_ticks(now_ns);
}

/*
 * May a flow whose first set this is stand in its second? That is taken where fewer than FLOW_ENOUGH ways
 * are free, and of those that are the lowest: so not while the way above them has never been used.
 */
static __always_inline bool flow_was_crowded(const struct flow_set *set)
{
	return OPAQUE(set->lapse[FLOW_WAYS - FLOW_ENOUGH]);
}

/* The set where a flow that was placed stands, lapsed or not, and its way there; 0: it stands nowhere. */
static __always_inline struct flow_set *flow_stands(void *table, const struct flow_search *search,
						    __u32 *way)
{
	struct flow_set *set;
	__u32 choice;

	for (choice = 0; choice < 2; choice++) {
		set = flow_set_at(table, search->index[choice]);
		if (!set)
			return 0;
		*way = flow_find_in(set, search);
		if (*way < FLOW_WAYS)
			return set;
		if (!flow_was_crowded(set))
			return 0;
	}
	return 0;
}

/* The same, of a flow that is to be placed first. */
static __always_inline struct flow_set *flow_seek(void *table, struct flow_search *search,
						  __u32 *way)
{
	const struct flow_head *head = flow_head_of(table);

	if (!head)
		return 0;
	flow_place(search, head);
	return flow_stands(table, search, way);
}

/* The entry of a flow that is there; 0: there is none. */
static __always_inline struct flow_entry *flow_find(void *table, struct flow_search *search,
						    __u64 now_ns)
{
	__u32 way;
	struct flow_set *set = flow_seek(table, search, &way);

	return set && flow_lives(set, way, now_ns) ? &set->entries[way] : 0;
}

#endif
