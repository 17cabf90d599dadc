/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The vocabulary of scrubbing: records, map keys and values, for both halves.
 */
#ifndef EBPFSENTINEL_SCRUB_H
#define EBPFSENTINEL_SCRUB_H

#include "report.h"

#define SC_EVENT 20                 /* event_type of packet_event */
#define SC_EVENT_GAP_NS 20000000ULL /* between events of one reason on one CPU */

enum sc_mode { SC_MODE_ALERT, SC_MODE_BLOCK };

/* Which way a packet goes. */
enum sc_way { SC_INGRESS, SC_EGRESS, SC_WAYS };

/* What is to be done: bits of sc_head.changes, and of what was done to a packet. */
enum sc_change {
	SC_TTL = 0x1,
	SC_HOP_LIMIT = 0x2,
	SC_TOS = 0x4,
	SC_ECN = 0x8,
	SC_DF = 0x10,
	SC_ID = 0x20,
	SC_RESERVED = 0x40, /* TCP's reserved bits */
	SC_ILLEGAL = 0x80,  /* combinations of TCP flags, see sc_head.tcp_flags */
	SC_MSS = 0x100,
	SC_TIMESTAMPS = 0x200,
	SC_FRAGMENTS = 0x400,     /* all of them are dropped */
	SC_BAD_FRAGMENTS = 0x800, /* only those that no honest sender makes */
};

/* Why a packet is dropped. */
enum sc_reason { SC_REASON_FRAGMENT, SC_REASON_TCP_FLAGS, SC_REASONS };

#define SC_FLAGS_DROP 0xff

/* What is in force, swapped whole. */
struct sc_head {
	__u64 interfaces;       /* by slot */
	__u32 changes[SC_WAYS]; /* enum sc_change */
	__u16 max_mss;          /* 0: what fits into the interface's MTU */
	__u8 min_ttl;
	__u8 min_hop_limit;
	__u8 tos; /* the upper six bits: DSCP */
	__u8 mode;
	__u8 pad[2];
	/* By the lower six flags (URG ACK PSH RST SYN FIN): what they become, or SC_FLAGS_DROP. */
	__u8 tcp_flags[64];
};

/*
 * What was done to packets on this CPU. There are SC_COUNTS of these: 2 * way + mode; those of alert
 * mode are what would have been done.
 */
#define SC_COUNTS 4

struct sc_count {
	__u64 ttl_fixed;
	__u64 hop_fixed;
	__u64 tos_normalized;
	__u64 ecn_stripped;
	__u64 df_cleared;
	__u64 ipid_randomized;
	__u64 tcp_flags_scrubbed;
	__u64 tcp_flags_dropped;
	__u64 mss_clamped;
	__u64 tcp_ts_stripped;
	__u64 fragments_dropped;
	__u64 spared; /* not dropped: it stands on the never-block floor */
	__u64 errors; /* the kernel refused a change */
};

/* A packet that was dropped, or would be. */
struct sc_event {
	struct packet_event packet;
	__u32 suppressed; /* others of that reason on this CPU, not reported, since the last event */
	__u8 reason;      /* enum sc_reason */
	__u8 way;         /* enum sc_way */
	__u8 pad[2];
};

/* Of this CPU: when it last told of a reason, and how often it has not since. */
struct sc_told {
	__u64 event_ns[SC_REASONS];
	__u32 suppressed[SC_REASONS];
};

#define SC_OPTION_BYTES 40

/* TCP options in the making, on this CPU. */
struct sc_options {
	__u8 was[SC_OPTION_BYTES];
	__u8 now[80]; /* more than there are: so that what is behind an offset below 64 is in bounds */
	__u32 at;
	__u32 bytes;
	__u32 mss_at;
	__u32 timestamps_at;
};

#endif
