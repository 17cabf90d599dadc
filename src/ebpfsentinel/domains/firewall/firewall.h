/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The firewall's vocabulary: records, map keys and values, for both halves.
 */
#ifndef EBPFSENTINEL_FIREWALL_H
#define EBPFSENTINEL_FIREWALL_H

#include "chain.h"

#define FW_RULES 4096 /* of one bank */
#define FW_WORDS (FW_RULES / 64)
#define FW_LEAF_WORDS 8
#define FW_LEAVES (FW_WORDS / FW_LEAF_WORDS) /* of one bitmap */
#define FW_BANKS 4                           /* of one address family: 16,384 rules */
#define FW_OUT_PLACE (2 * FW_BANKS)          /* behind the banks of IPv4 and those of IPv6 */
#define FW_PLACES (FW_OUT_PLACE + 2)         /* and two for what leaves */
#define FW_POOL 65536                        /* any u16 is in bounds */
#define FW_BUCKETS 262144
#define FW_FIELD_SLOTS 16
#define FW_COUNTERS 32768
#define FW_EVENT_TYPE 0

enum fw_mode { FW_MODE_ALERT, FW_MODE_BLOCK };

/*
 * What a rule can ask for, each a key of at most 64 bits (IPv6 addresses have a lower half too).
 * FW_NOTHING is the key of what a packet does not have: no rule that asks for it holds.
 */
enum fw_field {
	FW_SRC_ADDR,
	FW_DST_ADDR,
	FW_DST_PORT,
	FW_SRC_PORT,
	FW_PROTOCOL,
	FW_DETAIL,  /* ICMP type << 8 | code, or FW_TCP_FLAGS | TCP flags */
	FW_SERVICE, /* enum fw_fragment << 6 | DSCP */
	FW_VLAN,
	FW_INNER_VLAN,
	FW_INTERFACE,
	FW_SRC_MAC,
	FW_DST_MAC,
	FW_TIME,  /* boot clock, seconds */
	FW_STATE, /* enum flow_state */
	FW_OWNER, /* class of the executable << 8 | class of the control group, of the local end */
	FW_FIELDS,
};

#define FW_NOTHING 0x10000
#define FW_TCP_FLAGS 0x20000

/* A set of two bits, so that "any fragment" is one of them. */
enum fw_fragment { FW_WHOLE = 0, FW_FIRST = 1, FW_LATER = 3 };

/* Eight words of a bitmap of rules: bit r of word w is rule 64 w + r. */
struct fw_leaf {
	__u64 words[FW_LEAF_WORDS];
};

/*
 * From its begin to the next one's, all values of a field satisfy the same rules: those of the
 * bitmap that the leaves are. some: bit w says that word w of it is not zero.
 */
struct fw_interval {
	__u64 some;
	__u16 leaf[FW_LEAVES];
};

#define FW_FEW 7

/* All the rules of an interval, best first. count is FW_MANY where there are more. */
struct fw_few {
	__u16 rule[FW_FEW];
	__u16 count;
};

#define FW_MANY 0xffff

/* All the rules of a bucket's intervals, best first; FW_MANY where there are more than three. */
struct fw_near {
	__u16 rule[3];
	__u16 count;
};

#define FW_NEAR 32768

/*
 * Where a field's intervals are: from the high bits of a key, (key - origin) >> shift, to the
 * interval that this bucket begins in, fw_tables.base[base + bucket]. The buckets span where most
 * borders are; keys below them are searched for from the first interval on, and those above in
 * the last bucket.
 */
struct fw_index {
	__u64 origin;
	__u32 shift;
	__u32 base;
	__u32 last;  /* bucket */
	__u32 first; /* interval */
};

/* Where the small fields are in the traits of a packet, and of a rule. */
#define FW_PROTOCOL_AT 0
#define FW_DETAIL_AT 8
#define FW_SERVICE_AT 26
#define FW_VLAN_AT 34
#define FW_INNER_VLAN_AT 46
#define FW_INTERFACE_AT 58

/* Bits of fw_rule.asks. */
#define FW_ASKS_PROTOCOL 1
#define FW_ASKS_PORTS 2
#define FW_ASKS_TRAITS 4 /* more than the protocol */
#define FW_ASKS_SRC_MAC 8
#define FW_ASKS_DST_MAC 16
#define FW_ASKS_TIME 32
#define FW_ASKS_MORE 64 /* than stands here: only the bitmaps know */
#define FW_ASKS_STATE 128
#define FW_ASKS_RARE                                                                               \
	(FW_ASKS_TRAITS | FW_ASKS_SRC_MAC | FW_ASKS_DST_MAC | FW_ASKS_TIME | FW_ASKS_STATE |       \
	 FW_ASKS_MORE)

/*
 * A rule by itself, to check the few candidates that one field leaves without a look at the
 * others. Of pairs the first is the source. Masks are zero where it does not care. Addresses have
 * a lower half, which is all of an IPv4 one, and an upper one. What most checks read is in one
 * cache line, the rest in fw_rest.
 */
struct fw_rule {
	__u16 rule_id; /* index into fw_count; 0 is the default policy */
	__u16 cpu;     /* 1 + the CPU it is steered to; 0: stays where it is */
	__u32 order;   /* priority, enum packet_mirror (fw_mirrors has where to), packet_action */
	__u8 asks;
	__u8 protocol;
	__u16 src_port; /* the lowest, and how many more */
	__u16 src_ports;
	__u16 dst_port;
	__u16 dst_ports;
	__u8 states; /* bit s: of a packet whose enum flow_state is s */
	__u8 pad[5];
	__u64 low[2];
	__u64 low_mask[2];
	__u64 traits;
};

struct fw_rest {
	__u64 traits_mask;
	__u64 high[2];
	__u64 high_mask[2];
	__u64 mac[2];
	__u64 expires_s; /* boot clock */
};

/* In the place of the action in fw_rule.order: of what begins, the rule lets in no more than fw_limits says. */
#define FW_LIMITED 0x80

/* What a rule says is done: the first eight bytes of struct fw_rule. */
struct fw_found {
	__u16 rule_id;
	__u16 cpu;
	__u32 order;
};

/* Parts of fw_rule.order. */
#define FW_MIRROR_AT 8
#define FW_PRIORITY_AT 10

#define FW_FRESH 128
#define FW_GONE 4
#define FW_AHEAD 16

/*
 * Up to FW_RULES rules of one address family, in the order in which they are tried: three elements
 * of an mmapable array, which begins at a page, so that leaves lie on cache lines. Before Linux 5.11
 * an element has at most 4 MiB.
 */
#define FW_PART_BYTES (3 << 20)
#define FW_LEAF_POOL (FW_PART_BYTES / sizeof(struct fw_leaf))

enum fw_part_number { FW_LEAVES_PART, FW_LISTS_PART, FW_TABLES_PART, FW_PARTS };

struct fw_part {
	__u64 words[FW_PART_BYTES / 8];
};

struct fw_leaves {
	struct fw_leaf leaves[FW_LEAF_POOL];
};

struct fw_lists {
	struct fw_interval intervals[FW_POOL];
	struct fw_few few[FW_POOL];
};

/*
 * fresh has rules that were added to a bank in force: each counts from the moment when fresh_count
 * says so, one store. They are in the order in which they came; where they rank, their priority
 * says, and of equal ones the earlier comes first. Up to FW_GONE rules, fresh ones included, may have
 * been removed since: their first eight bytes are 0.
 */
struct fw_tables {
	__u64 begins[FW_POOL];        /* of intervals; of an IPv6 address the upper half */
	__u64 low[FW_POOL];           /* and the lower one */
	struct fw_near near[FW_NEAR]; /* by bucket of narrow_field */
	struct fw_rule rules[FW_RULES];
	struct fw_rest rests[FW_RULES];
	struct fw_rule fresh[FW_FRESH];
	struct fw_rest fresh_rests[FW_FRESH];
	struct fw_index index[FW_FIELD_SLOTS];
	__u8 asked[FW_FIELD_SLOTS]; /* of the rarer fields, those that rules ask for, best first */
	__u32 asked_count;
	__u8 sparse;       /* some intervals of narrow_field have but a few rules */
	__u8 narrow_field; /* an address; few has the rules of its intervals */
	__u8 pad[6];
	__u32 fresh_count;
	__u16 base[FW_BUCKETS + 8];
};

struct fw_bank {
	struct fw_leaves leaves;
	struct fw_lists lists;
	__u64 lists_end[(FW_PART_BYTES - sizeof(struct fw_lists)) / 8];
	struct fw_tables tables;
	__u64 tables_end[(FW_PART_BYTES - sizeof(struct fw_tables)) / 8];
};

/* What some rules ask for that not every packet is looked at for. */
#define FW_HEAD_MACS 1
#define FW_HEAD_STATE 2 /* or have limits, or flows are kept */
#define FW_HEAD_OWNER 4

/*
 * What is in force: which of its two slots (2 * place, 2 * place + 1) of fw_banks is current for
 * each place, and all that is not of one bank. It is replaced whole, by one pointer.
 */
struct fw_head {
	__u32 current;       /* bit p: place p is in its second slot */
	__u8 banks[2];       /* in use, of IPv4 and of IPv6 */
	__u8 mode;           /* enum fw_mode */
	__u8 default_action; /* enum packet_action */
	__u8 asks;           /* FW_HEAD_... */
	__u8 mirrors;        /* some rules have packets copied */
	__u8 keep_state;     /* packets of flows that are there pass where no rule says otherwise */
	__u8 out;            /* bit 0: there are rules for IPv4 packets that leave, bit 1: IPv6 */
	__u32 netns;         /* inode of the network namespace that we guard */
	__u32 sample_every;  /* headers of one packet in so many, on each CPU; 0: of none */
	__u64 serial[FW_PLACES]; /* user space's name for what each place holds */
	__u64 first_ports;       /* bit p % 64 of each destination port that first asks for */
	__u32 first_count;
	__u32 pad;
	struct fw_rule first[FW_AHEAD]; /* for TCP, tried before the banks */
	struct fw_rest first_rests[FW_AHEAD];
};

/* A packet in the places where a rule has what it asks for, worked out once for many rules. */
struct fw_packet {
	__u64 low[2];
	__u64 high[2];
	__u64 mac[2];
	__u64 traits;
	__u64 now_s;
	__u16 src_port;
	__u16 dst_port;
	__u8 lacks; /* FW_ASKS_PORTS: it has none */
	__u8 state; /* enum flow_state */
	__u8 pad[2];
};

/* What a packet has of each field but the addresses, and the intervals that these lie in. */
struct fw_scratch {
	__u64 keys[FW_FIELD_SLOTS];
	__u16 at[FW_FIELD_SLOTS];
	__u16 common[FW_FIELD_SLOTS];
	struct fw_packet packet; /* only for fresh rules */
	__u64 owner;             /* as FW_OWNER, where rules ask for it */
};

/*
 * Hits of one rule, per CPU. When the last one was, user space knows to the second, from reading
 * this; a clock for every packet would cost 5 of some 50 ns.
 */
struct fw_count {
	__u64 packets;
	__u64 bytes;
};

/*
 * So long a reader that was behind is taken to be (a quarter of a second at 250 ticks a second);
 * meanwhile one packet in so many is reported.
 */
#define FW_BEHIND_TICKS 64
#define FW_BEHIND_EVERY 256

#define FW_HEAD_BYTES 128

/* The headers of a packet and nothing behind them: what candidate rules are tried on. */
struct fw_sample {
	__u64 timestamp_ns; /* boot clock */
	__u32 bytes;        /* of the whole packet */
	__u16 captured;     /* bytes of head */
	__u16 vlan_id;      /* outermost; in TC it may have been taken out of the frame */
	__u8 interface;     /* slot */
	__u8 flags;         /* of struct packet */
	__u8 pad[6];
	__u16 head[FW_HEAD_BYTES / 2];
};

/* Places in the tables of programs that the firewall calls. */
enum fw_call { FW_CALL_REJECT, FW_CALL_MIRROR, FW_CALLS };

#define FW_MIRRORS 16384 /* rules */

#define FW_EXES 255
#define FW_CGROUPS 16384

/* An executable. */
struct fw_exe {
	__u64 inode;
	__u32 device; /* major << 20 | minor */
	__u32 pad;
};

#define FW_LIMITS 4096 /* rules */
#define FW_RATES 65536 /* sources, by rule */

/* What a rule lets one source begin; see gcra.h. An interval of 0: at any rate. */
struct fw_limit {
	__u64 interval;
	__u64 tolerance;
	__u32 flows; /* at a time; 0: any number */
	__u32 name;  /* of the rule and its rate: another one does not inherit what was counted */
};

struct fw_rate {
	__u32 addr[4];
	__u32 family;
	__u32 name; /* of the limit */
};

#define FW_REJECT_SOURCES 16384
#define FW_REJECT_BURST 20
#define FW_REJECT_INTERVAL_NS 50000000ULL

/* Whose rejected packets are answered no more often than the bucket allows. */
struct fw_source {
	__u32 addr[4];
	__u32 family;
};

/* What became of rejected packets, per CPU: answered, or why not. */
struct fw_rejects {
	__u64 reset;
	__u64 unreachable;
	__u64 throttled;
	__u64 unanswered; /* a kind of packet that must not be answered */
	__u64 failed;
};

/* What became of copies for other interfaces, per CPU: sent, or why not. */
struct fw_copies {
	__u64 sent;
	__u64 too_big;
	__u64 no_interface;
	__u64 failed;
};

#endif
