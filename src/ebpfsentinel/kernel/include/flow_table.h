/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The flow table: which flows there are, for every program and domain to read.
 *
 * A flow is one entry, whichever way its packets go: of its two ends the lower one stands first in the
 * key. Connection tracking writes the table, and NAT stands outside of it: addresses and ports are
 * those that the host itself sees.
 *
 * It is a table of our own and not an LRU map of the kernel, because that one forgets the oldest, live
 * or not, in batches and without telling: a flood of SYNs would push established flows out. Here a flow
 * has two sets of eight ways where it may be ("two choices": Azar et al., Balanced allocations, 1994),
 * so that the table fills well; and what gives way to a new flow is chosen by what it is
 * (enum flow_class), and counted.
 *
 * What a look-up reads is the cache line of tags, and the entry. The same line says of all ways when
 * they lapse and what class they are of, so that one line is also enough to choose a victim, or to see
 * what has lapsed. A flow that has lapsed is not there, whether an agent is alive or not.
 *
 * The hash is multilinear with secret random keys (Lemire and Kaser, Strongly universal string
 * hashing is fast, 2014), and mixed: of its 64 bits come both sets and the tag. The key is compared.
 *
 * The table is behind a map of maps: while connections are not tracked there is none, and it costs no
 * memory; its size follows the settings. Its first element is no set, but struct flow_head. Slot 1 is
 * the table from before, while its flows move over.
 */
#ifndef EBPFSENTINEL_FLOW_TABLE_H
#define EBPFSENTINEL_FLOW_TABLE_H

#include "packet.h"
#include "record.h"

#define FLOW_WAYS 8
#define FLOW_STAGES 32
#define FLOW_HASH_KEYS 11
#define FLOW_SOURCES 131072
#define FLOW_VERSION 2
#define FLOW_MIX 0xd6e8feb86659fd93ull
#define FLOW_GOLDEN 0x9e3779b97f4a7c15ull /* the golden ratio */

/* Times of lapsing are in ticks of 2^28 ns, a quarter of a second; they last for nine years. */
#define FLOW_TICK 28
#define FLOW_CLASS_BITS 2

/* What a packet is to the flows there are; as netfilter says it (nf_conntrack, ctinfo). */
enum flow_state {
	FLOW_UNKNOWN, /* not asked, or no table, or nothing that is tracked */
	FLOW_NEW,     /* no flow of it yet, or no answer to it yet */
	FLOW_ESTABLISHED,
	FLOW_RELATED, /* an ICMP error about a packet of a flow */
	FLOW_INVALID, /* no packet that could be of a flow, or begin one */
};

/* Where in its life a flow is. Each has a timeout of its own. */
enum flow_stage {
	FLOW_NONE,
	FLOW_SYN_SENT,
	FLOW_SYN_SENT_BOTH, /* simultaneous open */
	FLOW_SYN_RECV,
	FLOW_TCP_ESTABLISHED,
	FLOW_FIN_WAIT,
	FLOW_CLOSE_WAIT,
	FLOW_LAST_ACK,
	FLOW_TIME_WAIT,
	FLOW_CLOSE,
	FLOW_PICKED_UP, /* TCP from its midst, heard from one end so far */
	FLOW_UDP_NEW,
	FLOW_UDP_REPLIED,
	FLOW_UDP_STREAM,
	FLOW_ICMP_NEW,
	FLOW_ICMP_REPLIED,
	FLOW_OTHER_NEW,
	FLOW_OTHER_REPLIED,
	FLOW_STAGE_MAX,
};

/* In this order flows give way to a new one; within a class, the one that would lapse soonest. */
enum flow_class {
	FLOW_CLASS_CLOSING,
	FLOW_CLASS_UNREPLIED,
	FLOW_CLASS_REPLIED, /* but no stream yet */
	FLOW_CLASS_ASSURED, /* never to a flow that is unreplied itself, unless this host opens it */
};

struct flow_key {
	__u32 addr[2][4]; /* as in struct packet; the lower end first, by address, then by port */
	__u16 port[2];    /* of ICMP, both are the identifier of the echo */
	__u8 protocol;
	__u8 family;
	__u16 zone;
};

/* The process at one end of the flow, if it is on this host. */
struct flow_owner {
	__u64 start_ns; /* of the process, boot clock; 0: not known */
	__u64 cgroup_id;
	__u32 pid;
	__u32 uid;
};

/* What one end of a TCP connection has sent, and may send; see windows.h of connection tracking. */
struct flow_window {
	__u32 end;   /* the highest sequence number sent, plus one */
	__u32 limit; /* up to where the other end takes it */
	__u32 most;  /* the largest window that this end offered */
	__u8 scale;
	__u8 flags;
	__u16 pad;
};

/* Bits of flow_entry.status; below them is the enum flow_stage. */
#define FLOW_STAGE_MASK 0x1f
#define FLOW_OPENED_BY 5 /* the end that opened it: bit */
#define FLOW_SEEN 6      /* bit FLOW_SEEN + e: there was a packet from end e */
#define FLOW_FIN 8       /* bit FLOW_FIN + e: end e has sent FIN */
#define FLOW_LAST_FIN 10 /* the end whose FIN came last: bit */
#define FLOW_BOTH_OPENED (1u << 11)
#define FLOW_COUNTED (1u << 12)   /* in flow_sources */
#define FLOW_HALF_OPEN (1u << 13) /* there too */
#define FLOW_MIDSTREAM (1u << 14)
#define FLOW_ENDED (1u << 15) /* and barred: there is no flow, but not any packet begins it anew */

/* What one end has sent, and who it is. A cache line: often another CPU has the packets of the other end. */
struct flow_end {
	__u64 last_ns; /* boot clock; 0: nothing yet */
	__u64 packets;
	__u64 bytes;
	struct flow_window window;
	struct flow_owner owner;
};

/* What is read for each packet, and seldom written; then what is written for each. */
struct flow_entry {
	struct flow_key key;
	__u64 start_ns; /* boot clock */
	__u32 status;
	__u32 ifindex; /* where its first packet was seen */
	__u64 spare;
	struct flow_end end[2];
};

/* Of a tag: the rest is of the hash. */
#define FLOW_USED 1u
#define FLOW_BUSY 2u /* being put in, or taken out */

/* lapse: the tick in which the flow is not there any more, and its class below that. */
struct flow_set {
	__u32 tags[FLOW_WAYS];
	__u32 lapse[FLOW_WAYS];
	struct flow_entry entries[FLOW_WAYS];
};

/* The first element of a table. */
struct flow_head {
	__u32 version;
	__u32 sets;
	__u64 hash_keys[FLOW_HASH_KEYS];
	__u32 timeout[FLOW_STAGES]; /* by enum flow_stage, in ticks */
	__u8 pickup;                /* of TCP flows from their midst */
	__u8 windows;               /* are sequence numbers checked? */
	__u8 count_sources;
	__u8 tell;  /* of flows that begin, come about and end, though nobody listens */
	__u8 names; /* somebody knows whose sockets are */
	__u8 pad[3];
};

/* The flows that a source has opened and that are there; see flow_source_of(). */
struct flow_source_key {
	__u32 addr[4];
	__u32 family;
};

struct flow_source {
	__u32 flows;
	__u32 half_open; /* of them: TCP, without the third packet of the handshake */
	__u64 opened_ns; /* when it opened the last one that was half open */
};

/* What became of flows, per CPU: created less all that ended is what there is. */
struct flow_count {
	__u64 created;
	__u64 moved_in; /* from a table of another size, and what was lost on the way */
	__u64 move_lost;
	__u64 expired;
	__u64 replaced; /* closed, and opened anew under the same key */
	__u64 ended;    /* on demand */
	__u64 evicted[4];
	__u64 full;    /* not taken: only flows that do not give way were in its place */
	__u64 raced;   /* packets that were not counted, as another CPU was at the place */
	__u64 tracked; /* packets */
	__u64 invalid;
	__u64 related;
	__u64 fragments_lost; /* without the first of them, which has the ports */
	__u64 sources_full;
	__u64 sweep_ns;   /* of this CPU: when it looks for lapsed flows next, */
	__u64 sweep_next; /* and where */
};

struct flow_table {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP); /* of any size; sets on cache lines */
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_set);
};

EMIT_TYPE(flow_set, struct flow_set);
EMIT_TYPE(flow_head, struct flow_head);
EMIT_TYPE(flow_state, enum flow_state);
EMIT_TYPE(flow_stage, enum flow_stage);
EMIT_TYPE(flow_class, enum flow_class);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct flow_table);
} flow_tables SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct flow_count);
} flow_count SEC(".maps");

/* No LRU: what is counted here is taken off again when the flow ends, and then the entry goes. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FLOW_SOURCES);
	__type(key, struct flow_source_key);
	__type(value, struct flow_source);
} flow_sources SEC(".maps");

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

/* The entry of a flow that is there; 0: there is none. */
static __always_inline struct flow_entry *flow_find(void *table, struct flow_search *search,
						    __u64 now_ns)
{
	const struct flow_head *head = flow_head_of(table);
	struct flow_set *set;
	__u32 choice, way;

	if (!head)
		return 0;
	flow_place(search, head);
	for (choice = 0; choice < 2; choice++) {
		set = flow_set_at(table, search->index[choice]);
		if (!set)
			return 0;
		way = flow_find_in(set, search);
		if (way < FLOW_WAYS)
			return flow_lives(set, way, now_ns) ? &set->entries[way] : 0;
	}
	return 0;
}

#endif
