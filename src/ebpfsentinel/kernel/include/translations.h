/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The table of address translations, for the programs that translate and for those that only read.
 *
 * A translation is two entries, one for each direction: the tuple as a packet has it when it comes
 * to a hook, and what is made of it there. SNAT of a forwarded flow has one entry at egress (the
 * way out) and one at ingress (the answers); DNAT has them the other way round. Flows that rules
 * were asked about and do not translate have a pair too, that changes nothing: so only a flow's first
 * packet is judged by the rules, and an answer is never taken for a flow of its own.
 *
 * Not a hash map of the kernel: an LRU forgets the oldest in batches, live or not, without telling, and
 * a plain one refuses when it is full of what has lapsed. Here a key has two sets of eight
 * ways ("two choices", Azar et al., 1994), by a secret keyed hash (multilinear, as Lemire and Kaser,
 * Strongly universal string hashing is fast, 2014). What has lapsed gives way first; see binding.h for
 * the rest of the order. Memory is flat.
 *
 * A reader takes no lock. The tag of a way has a generation, which moves on before the entry is
 * written over: who finds the same generation after it has read has read one entry, not half of two.
 */
#ifndef EBPFSENTINEL_TRANSLATIONS_H
#define EBPFSENTINEL_TRANSLATIONS_H

#include "packet.h"
#include "record.h"

#define TR_SETS 32768
#define TR_WAYS 8
#define TR_HASH_KEYS 12
#define TR_CLASSES 4
#define TR_STATES 4

/*
 * A tag, from its upper end: 16 bits of the hash; the generation; when the entry lapses, in 2^30 ns, so that
 * one line of tags says which ways are free; and two flags. The entry itself has the exact time.
 */
#define TR_TAG_USED 1
#define TR_TAG_BUSY 2
#define TR_TAG_UNTIL 2       /* shift; 30 bits */
#define TR_TAG_GENERATION 32 /* shift; 16 bits */
#define TR_TAG_FIRST (1ull << TR_TAG_GENERATION)
#define TR_TAG_SAME 0xffff000000000003ull
#define TR_TAG_GENERATIONS 0x0000ffff00000000ull
#define TR_TAG_TIME 0x00000000fffffffcull
#define TR_TICK 30

enum tr_hook { TR_INGRESS, TR_EGRESS };

/* What kind of packets a tuple is of; a fragment's ports are its identification. */
enum tr_kind { TR_WHOLE, TR_FRAGMENT };

enum tr_state {
	TR_NEW,         /* nothing has come back */
	TR_REPLIED,     /* something has */
	TR_ESTABLISHED, /* and was answered */
	TR_CLOSING,     /* TCP: a FIN or a RST */
};

/* By which timeouts. */
enum tr_class { TR_CLASS_TCP, TR_CLASS_UDP, TR_CLASS_ICMP, TR_CLASS_OTHER };

/* Bits of tr_entry.flags. */
#define TR_REPLY 1      /* of the answers */
#define TR_IDENTITY 2   /* changes nothing */
#define TR_MASQUERADE 4 /* good for as long as the interface has that address */
#define TR_SOURCE 8     /* the translation is one of the source (snat); else of the destination */

/*
 * Addresses and ports in host order, as in struct packet. Of an ICMP echo request the identifier is
 * src_port, of an answer dst_port, so that the answer's tuple is the request's, reversed.
 */
struct tr_tuple {
	__u32 src_addr[4];
	__u32 dst_addr[4];
	__u16 src_port;
	__u16 dst_port;
	__u8 protocol;
	__u8 family;
	__u8 hook; /* enum tr_hook */
	__u8 kind; /* enum tr_kind */
};

/* Two cache lines: what is compared, and what becomes of it. */
struct tr_entry {
	struct tr_tuple from;
	__u64 until_ns; /* boot clock */
	__u32 serial;   /* both entries of a translation have the same */
	__u32 peer;     /* place of the other one */
	__u8 state;
	__u8 flags;
	__u16 rule;       /* number; 0: none */
	__u16 masquerade; /* of which generation the interface's address is */
	__u16 ifindex_slot;
	struct tr_tuple to;
	__u64 packets; /* these two may miss some where two CPUs have packets of one direction */
	__u64 bytes;
	__u64 since_ns;
};

struct tr_set {
	__u64 tags[TR_WAYS];
	struct tr_entry entries[TR_WAYS];
};

/*
 * What all packets need to know, one value; active: there are rules, or translations. judged_since_ns: by
 * interface, since when there are rules for what comes in or leaves there (boot clock); 0: there are none.
 */
struct tr_head {
	__u64 hash_keys[TR_HASH_KEYS];
	__u64 timeout_ns[TR_CLASSES][TR_STATES];
	__u32 active;
	__u16 masquerade; /* generation of the interfaces' addresses */
	__u8 prefixes;    /* there are NPTv6 rules */
	__u8 pad;
	__u64 judged_since_ns[INTERFACE_SLOTS];
};

/* What tr_tuples are compared by: five words. */
struct tr_words {
	__u64 word[5];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tr_head);
} tr_head SEC(".maps");

static __always_inline const struct tr_head *tr_head_now(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&tr_head, &zero);
}

static __always_inline __u64 tr_hash(const struct tr_head *head, const struct tr_tuple *key)
{
	const __u64 *keys = head->hash_keys;
	__u64 sum = keys[0];

	sum += keys[1] * ((__u32)key->src_port << 16 | key->dst_port);
	sum += keys[2] * ((__u32)key->protocol << 16 | key->hook << 8 | key->kind);
	sum += keys[3] * key->src_addr[0];
	sum += keys[4] * key->dst_addr[0];
	if (key->family == 4)
		return sum;
	sum += keys[5];
	sum += keys[6] * key->src_addr[1] + keys[7] * key->src_addr[2] + keys[8] * key->src_addr[3];
	sum += keys[9] * key->dst_addr[1] + keys[10] * key->dst_addr[2] +
	       keys[11] * key->dst_addr[3];
	return sum;
}

static __always_inline __u32 tr_first_set(__u64 hash)
{
	return hash >> 49;
}

static __always_inline __u32 tr_second_set(__u64 hash)
{
	return hash >> 34 & (TR_SETS - 1);
}

static __always_inline __u64 tr_tag(__u64 hash)
{
	return (hash >> 18) << 48 | TR_TAG_USED;
}

static __always_inline bool tr_same(const struct tr_tuple *one, const struct tr_tuple *other)
{
	const struct tr_words *a = (const void *)one, *b = (const void *)other;

	return !((a->word[0] ^ b->word[0]) | (a->word[1] ^ b->word[1]) | (a->word[2] ^ b->word[2]) |
		 (a->word[3] ^ b->word[3]) | (a->word[4] ^ b->word[4]));
}

/*
 * The way of a key, and above it the generation; TR_WAYS: it is not there. A function of its own, so
 * that the verifier follows the loop once.
 */
static __noinline __attribute__((unused)) __u32 tr_way(struct tr_set *set, __u64 tag,
						       const struct tr_tuple *key)
{
	__u32 way;

	if (!set || !key)
		return TR_WAYS;
	for (way = 0; way < TR_WAYS; way++) {
		__u64 found = OPAQUE(set->tags[way]);

		if ((found & TR_TAG_SAME) == tag && tr_same(&set->entries[way].from, key))
			return way | (__u32)(found >> TR_TAG_GENERATION & 0xffff) << 8;
	}
	return TR_WAYS;
}

static __always_inline bool tr_is_hit(__u32 found)
{
	return !(found & TR_WAYS);
}

/*
 * May a key whose first set this is stand in its second? The lowest free way is taken, and the second set
 * only where none is free: so not while the last way has never been used, which saves a cache line.
 */
static __always_inline bool tr_was_full(const struct tr_set *set)
{
	return OPAQUE(set->tags[TR_WAYS - 1]);
}

/* That is said before a key goes to its second set, also where another CPU was only faster in the first. */
static __always_inline void tr_mark_full(struct tr_set *set)
{
	__sync_val_compare_and_swap(&set->tags[TR_WAYS - 1], 0, TR_TAG_FIRST);
}

/* The live entry of a key in a table, with what it says copied to `to`; 0: there is none. */
static __always_inline struct tr_entry *tr_look_up(void *table, const struct tr_head *head,
						   const struct tr_tuple *key, struct tr_tuple *to,
						   __u64 now_ns)
{
	__u64 hash = tr_hash(head, key), tag = tr_tag(hash);
	__u32 index = tr_first_set(hash), found, way;
	struct tr_set *set = bpf_map_lookup_elem(table, &index);
	struct tr_entry *entry;

	if (!set)
		return 0;
	found = tr_way(set, tag, key);
	if (!tr_is_hit(found)) {
		if (!tr_was_full(set))
			return 0;
		index = tr_second_set(hash);
		set = bpf_map_lookup_elem(table, &index);
		if (!set)
			return 0;
		found = tr_way(set, tag, key);
		if (!tr_is_hit(found))
			return 0;
	}
	way = found & (TR_WAYS - 1);
	entry = &set->entries[way];
	__builtin_memcpy(to, &entry->to, sizeof(*to));
	if ((OPAQUE(set->tags[way]) >> TR_TAG_GENERATION & 0xffff) != found >> 8 ||
	    entry->until_ns <= now_ns)
		return 0;
	return entry;
}

/* The tuple of what comes back. */
static __always_inline void tr_reverse(struct tr_tuple *back, const struct tr_tuple *tuple)
{
	__builtin_memcpy(back->src_addr, tuple->dst_addr, 16);
	__builtin_memcpy(back->dst_addr, tuple->src_addr, 16);
	back->src_port = tuple->dst_port;
	back->dst_port = tuple->src_port;
	back->protocol = tuple->protocol;
	back->family = tuple->family;
	back->hook = tuple->hook;
	back->kind = tuple->kind;
}

/* Of a packet that has ports; the identifier of an ICMP packet is not in the scratch. */
static __always_inline void tr_tuple_of(struct tr_tuple *tuple, const struct packet *packet,
					enum tr_hook hook)
{
	__builtin_memcpy(tuple->src_addr, packet->src_addr, 32);
	tuple->src_port = packet->src_port;
	tuple->dst_port = packet->dst_port;
	tuple->protocol = packet->protocol;
	tuple->family = packet->family;
	tuple->hook = hook;
	tuple->kind = TR_WHOLE;
}

struct tr_table {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* begins at a page: sets lie on cache lines */
	__uint(max_entries, TR_SETS);
	__type(key, __u32);
	__type(value, struct tr_set);
};

EMIT_TYPE(tr_set, struct tr_set);

/* For readers: behind slot 0 is the table, while addresses are translated; else it costs no memory. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct tr_table);
} tr_tables SEC(".maps");

#endif
