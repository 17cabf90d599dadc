/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The rate limiter's vocabulary: records, map keys and values, for both halves.
 */
#ifndef EBPFSENTINEL_RATELIMIT_H
#define EBPFSENTINEL_RATELIMIT_H

#include "packet.h"

#define RL_NUMBERS 16384 /* of limits; 0 is none */
#define RL_SHARED 16
#define RL_CHAIN 64   /* limits that are asked for one packet, until one applies */
#define RL_LENGTHS 33 /* different prefix lengths of sources, of one address family */
#define RL_SLOTS 65536
#define RL_PROBES 16
#define RL_SETS 65536
#define RL_WAYS 8
#define RL_HASH_KEYS 6

#define RL_EVENT_TYPE 4 /* of packet_event */

/* Of packet_event: a SYN over the limit was answered by a cookie, as in the reference's events. */
#define RL_ACTION_COOKIE 10

enum rl_mode { RL_MODE_ALERT, RL_MODE_BLOCK };

enum rl_algorithm {
	RL_GCRA, /* token bucket and leaky bucket */
	RL_FIXED_WINDOW,
	RL_SLIDING_WINDOW,
};

/* What becomes of a packet over the limit. */
enum rl_action { RL_DROP, RL_PASS, RL_LOG };

/* Whose bucket it is. */
enum rl_key {
	RL_KEY_RULE, /* one for the rule, in rl_own; the others are in rl_table */
	RL_KEY_SOURCE,
	RL_KEY_DESTINATION,
};

/* Bits of rl_rule.asks. */
#define RL_ASKS_SOURCE 1 /* of shared limits; others are found by their source */
#define RL_ASKS_DESTINATION 2
#define RL_ASKS_PROTOCOL 4
#define RL_ASKS_PORT 8
#define RL_ASKS_VLAN 16
#define RL_ASKS_INTERFACE 32
#define RL_ASKS_TIME 64
#define RL_ASKS_SYN 128

/*
 * A limit. Of GCRA, interval is the time per packet and tolerance the interval times (burst - 1),
 * both in 1/256 ns. Addresses are masked.
 */
struct rl_rule {
	__u64 interval;
	__u64 tolerance;
	__u32 rate; /* packets a second */
	__u32 burst;
	__u16 next; /* the next less specific limit: asked where this one does not apply */
	__u8 algorithm;
	__u8 action;
	__u8 key;
	__u8 asks;
	__u8 src_family; /* 0: any source */
	__u8 src_bits;
	__u64 until_ns; /* boot clock */
	__u64 interfaces;
	__u16 dst_port; /* the lowest, and how many more */
	__u16 dst_ports;
	__u16 vlan_id;
	__u8 protocol;
	__u8 dst_family;
	__u8 cookies; /* over the limit, a SYN is answered by a SYN cookie */
	__u8 whole;   /* a bucket is for an address, not for its /24 or /64 */
	__u8 exact;   /* the burst is too small for the coarse clock */
	__u8 pad[5];
	__u32 src_addr[4];
	__u32 src_mask[4];
	__u32 dst_addr[4];
	__u32 dst_mask[4];
};

/* A prefix length that limits' sources have, longest first. */
struct rl_length {
	__u32 mask[4];
	__u32 bits;
};

/*
 * All limits in force, replaced whole by one pointer. slots is a hash table with open addressing:
 * the number of the first limit to ask for a source network, 0 where there is none. Its keys, and
 * those of rl_table, are hashed with secret random words.
 */
struct rl_limits {
	__u64 hash_keys[RL_HASH_KEYS];
	__u32 salt; /* of slots */
	__u16 lengths[2];
	__u16 first; /* the limit to ask where no network fits */
	__u8 mode;
	__u8 shared_count;
	__u16 shared[RL_SHARED];
	__u32 pad;
	struct rl_length length[2][RL_LENGTHS];
	__u16 slots[RL_SLOTS];
	struct rl_rule rules[RL_NUMBERS];
};

/*
 * state is the algorithm's. told: when an event told last that this bucket is over its limit (in
 * 2^24 ns, upper half), and how many packets over it were not told since (lower half).
 */
struct rl_bucket {
	__u64 state;
	__u64 told;
};

/* A bucket of a single host, or of all that a rule matches: it has its cache line for ever. */
struct rl_own {
	struct rl_bucket bucket;
	__u64 pad[6];
};

/* Bits of a tag: number of the limit, what the bucket is of, and the key's hash. */
#define RL_TAG_NUMBER 0x3fff
#define RL_TAG_IPV6 (1 << 14)
#define RL_TAG_ALGORITHM 15 /* shift; two bits */
#define RL_TAG_BUSY (1 << 17)
#define RL_TAG_USED (1 << 18)

struct rl_address {
	__u32 words[4];
};

struct rl_entry {
	__u32 addr[4];
	struct rl_bucket bucket;
};

/*
 * One of RL_SETS places where a bucket may be. Tag and address are the whole key. A hit reads two
 * cache lines: that of the tags and that of the entry.
 */
struct rl_set {
	__u64 tags[RL_WAYS];
	struct rl_entry entries[RL_WAYS];
};

/* Packets of one limit, per CPU. over are those beyond it, dropped or not. */
struct rl_count {
	__u64 passed;
	__u64 over;
	__u64 dropped;
};

/* What became of SYNs over a limit that answers them, per CPU. */
struct rl_cookies {
	__u64 sent;
	__u64 room; /* went up: the listener's queue has room, and the kernel gives no cookie */
	__u64 none; /* dropped: nobody listens, or the packet is cut short */
};

/* What happened in rl_table, per CPU. */
struct rl_table_count {
	__u64 claimed;
	__u64 evicted; /* of them in place of a bucket that was in use */
	__u64 untold;  /* packets over a limit whose bucket went before it was told of them */
	__u64 crowded; /* a bucket was not to be had: the packet was not charged */
};

/*
 * Of this CPU. What a loop chose passes through memory: of what is read from there the verifier
 * follows one case, and not one for each way out of the loop.
 */
struct rl_scratch {
	__u32 source;
	__u32 pad;
};

/* The first packet of a bucket over its limit, and then one a second. */
struct rl_event {
	struct packet_event packet;
	__u32 suppressed; /* packets of the bucket over the limit since the last event */
	__u32 rate;
	__u32 burst;
	__u32 pad;
};

#endif
