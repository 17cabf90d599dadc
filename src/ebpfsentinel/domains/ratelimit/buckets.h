/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where the state of limits is.
 *
 * Limits of a single host, and limits that all packets of a rule share, have a bucket by their
 * number: nobody can push it out. The others, one for each source or destination, share a table of
 * 65,536 sets with eight ways, and memory is flat whatever comes.
 *
 * Not an LRU map of the kernel: that one forgets the oldest in batches, live or not, without
 * telling, and its locks are taken for every new source of a flood. Here what is not in use (it
 * would admit a full burst, so that nothing is lost) gives way first; where all eight ways are in
 * use, the one that would be free soonest does, and that is counted as an eviction.
 *
 * The hash is multilinear with secret random keys (Lemire and Kaser, Strongly universal string
 * hashing is fast, 2014): for any two keys the chance of one set is 1 in 65,536, whoever chose
 * them. What is compared is the key itself.
 *
 * Two CPUs that want to put in the same key choose the same way; one of them wins the exchange
 * and the other finds what that one put in.
 */
#ifndef EBPFSENTINEL_BUCKETS_H
#define EBPFSENTINEL_BUCKETS_H

#include "gcra.h"
#include "windows.h"

#include <bpf/bpf_helpers.h>

#define CLAIM_TRIES 2
#define RL_IN_USE 0x100

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags,
	       BPF_F_MMAPABLE); /* begins at a page: sets and buckets lie on cache lines */
	__uint(max_entries, RL_NUMBERS);
	__type(key, __u32);
	__type(value, struct rl_own);
} rl_own SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, RL_SETS);
	__type(key, __u32);
	__type(value, struct rl_set);
} rl_table SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rl_table_count);
} rl_table_count SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct rl_scratch);
} rl_scratch SEC(".maps");

/* 1 of an IPv6 packet, 0 of an IPv4 one, without a branch. */
static __always_inline __u32 is_ipv6(const struct packet *packet)
{
	return packet->family >> 1 & 1;
}

/* Upper 32 bits of the sum are the hash. Of an IPv4 address the other words are 0. */
static __always_inline __u32 hash_of(const struct rl_limits *limits, const __u32 *addr, __u32 what)
{
	const __u64 *keys = limits->hash_keys;

	return (keys[0] + keys[1] * what + keys[2] * addr[0] + keys[3] * addr[1] +
		keys[4] * addr[2] + keys[5] * addr[3]) >>
	       32;
}

/* 0: they are the same. One branch instead of four, for the verifier's sake and the processor's. */
static __always_inline __u32 differ(const __u32 *one, const __u32 *other)
{
	return (one[0] ^ other[0]) | (one[1] ^ other[1]) | (one[2] ^ other[2]) |
	       (one[3] ^ other[3]);
}

/* How long a bucket will still know something of its past; nanoseconds. */
static __always_inline __u64 time_left(__u64 tag, __u64 state, __u64 now_ns)
{
	__u32 algorithm = tag >> RL_TAG_ALGORITHM & 3;

	if (!(tag & RL_TAG_USED))
		return 0;
	if (algorithm == RL_FIXED_WINDOW)
		return fixed_window_left(state, now_ns);
	if (algorithm == RL_SLIDING_WINDOW)
		return sliding_window_left(state, now_ns);
	return gcra_ahead(state, now_ns) >> GCRA_SHIFT;
}

/*
 * The way of a key; RL_WAYS: it is not there. One that another CPU is putting in counts as it. A
 * function of its own, as rl_choose_way.
 */
__noinline __u32 rl_look_up(struct rl_set *set, __u64 tag, const struct rl_address *address)
{
	__u32 way;

	if (!set || !address)
		return RL_WAYS;
	for (way = 0; way < RL_WAYS; way++) {
		__u64 found = OPAQUE(set->tags[way]);

		if ((found & ~(__u64)RL_TAG_BUSY) != tag)
			continue;
		if (found & RL_TAG_BUSY || !differ(set->entries[way].addr, address->words))
			break;
	}
	return way;
}

/*
 * The way that is free, or will be soonest; with RL_IN_USE it is not free. A function of its own, so
 * that the verifier of Linux 6.1 follows the loop once, and not once for every limit of a packet.
 */
__noinline __u32 rl_choose_way(struct rl_set *set, __u64 now_ns)
{
	__u64 least = -1, left, tag;
	__u32 way, chosen = 0;

	if (!set)
		return 0;
	for (way = 0; way < RL_WAYS; way++) {
		tag = OPAQUE(set->tags[way]);
		left = tag & RL_TAG_BUSY ? -1
					 : time_left(tag, set->entries[way].bucket.state, now_ns);
		if (left < least) {
			least = left;
			chosen = way;
		}
	}
	return chosen | (least ? RL_IN_USE : 0);
}

static __always_inline void count_claim(bool evicted, __u32 untold)
{
	__u32 zero = 0;
	struct rl_table_count *count = bpf_map_lookup_elem(&rl_table_count, &zero);

	if (!count)
		return;
	count->claimed++;
	count->evicted += evicted;
	count->untold += untold;
}

static __always_inline void count_crowded(void)
{
	__u32 zero = 0;
	struct rl_table_count *count = bpf_map_lookup_elem(&rl_table_count, &zero);

	if (count)
		count->crowded++;
}

/* Put the key in; 0: another CPU was faster. */
static __always_inline struct rl_bucket *claim(struct rl_set *set, __u64 tag, const __u32 *addr,
					       __u64 now_ns)
{
	__u32 chosen = rl_choose_way(set, now_ns), way = chosen & (RL_WAYS - 1);
	struct rl_entry *entry;
	__u64 before, *place;

	place = &set->tags[way];
	entry = &set->entries[way];
	before = OPAQUE(*place);
	if (before & RL_TAG_BUSY || /* also where all are */
	    __sync_val_compare_and_swap(place, before, tag | RL_TAG_BUSY) != before)
		return 0;
	__builtin_memcpy(entry->addr, addr, 16);
	count_claim(chosen & RL_IN_USE, entry->bucket.told);
	OPAQUE(entry->bucket.state) = 0;
	OPAQUE(entry->bucket.told) = 0;
	__sync_val_compare_and_swap(place, tag | RL_TAG_BUSY, tag);
	return &entry->bucket;
}

/* The bucket of a key of rl_table; with make it is made where there is none. */
static __always_inline struct rl_bucket *table_bucket(const struct rl_limits *limits, __u32 number,
						      __u32 algorithm,
						      const struct rl_address *address, __u32 ipv6,
						      __u64 now_ns, bool make)
{
	__u64 tag = number | RL_TAG_USED | algorithm << RL_TAG_ALGORITHM | ipv6 * RL_TAG_IPV6;
	__u32 hash = hash_of(limits, address->words, number << 1 | ipv6), index = hash >> 16;
	__u32 attempt, way;
	struct rl_set *set = bpf_map_lookup_elem(&rl_table, &index);
	struct rl_bucket *bucket = 0;

	if (!set)
		return 0;
	tag |= (__u64)hash << 32;
	for (attempt = 0; attempt < CLAIM_TRIES && !bucket; attempt++) {
		way = rl_look_up(set, tag, address);
		if (way < RL_WAYS)
			return &set->entries[way].bucket;
		if (make)
			bucket = claim(set, tag, address->words, now_ns);
	}
	if (!bucket && make)
		count_crowded();
	return bucket;
}

/* The bucket of a limit for a packet. */
static __always_inline struct rl_bucket *bucket_of(const struct rl_limits *limits, __u32 number,
						   const struct rl_rule *rule,
						   const struct packet *packet, __u64 now_ns,
						   bool make)
{
	const __u32 *from = rule->key == RL_KEY_DESTINATION ? packet->dst_addr : packet->src_addr;
	__u32 ipv6 = is_ipv6(packet), keep = -rule->whole;
	struct rl_address address;

	if (rule->key == RL_KEY_RULE) {
		struct rl_own *own = bpf_map_lookup_elem(&rl_own, &number);

		return own ? &own->bucket : 0;
	}
	address.words[0] = from[0] & (keep | ~(0xff & (ipv6 - 1)));
	address.words[1] = from[1];
	address.words[2] = from[2] & keep;
	address.words[3] = from[3] & keep;
	return table_bucket(limits, number, rule->algorithm, &address, ipv6, now_ns, make);
}

#endif
