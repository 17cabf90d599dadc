/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Connection tracking's vocabulary: its records, and why a flow ends. The table itself is in
 * kernel/include/flow_table.h, where every program can read it.
 */
#ifndef EBPFSENTINEL_CONNTRACK_H
#define EBPFSENTINEL_CONNTRACK_H

#include "flow_search.h"

#define CT_SWEEP_NS 4000000ull     /* a CPU looks for lapsed flows as often as that */
#define CT_SWEEP_SETS 16           /* and never at more sets at a time */
#define CT_SWEEP_PART 2048         /* else at this part of the table: 8 seconds for all of it */
#define CT_END_KEYS 32             /* flows that are ended by one run of flow_end */
#define CT_STREAM_NS 2000000000ull /* UDP both ways for that long is a stream, as in netfilter */

/* Why a flow is not there any more; the order is that of struct flow_count from expired on. */
enum ct_end {
	CT_EXPIRED,
	CT_REPLACED,
	CT_ENDED,
	CT_EVICTED_CLOSING,
	CT_EVICTED_UNREPLIED,
	CT_EVICTED_REPLIED,
	CT_EVICTED_ASSURED,
};

enum ct_change {
	CT_NEW,
	CT_ESTABLISHED, /* there is an answer; of TCP, the handshake is done */
	CT_CLOSED,      /* TCP: both ends have closed, or one has reset it */
	CT_GONE,        /* it lapsed, gave way, or was ended: see why */
};

/* Something became of a flow. The ends are in the order of the key. */
struct ct_event {
	__u64 timestamp_ns; /* boot clock */
	__u64 start_ns;
	struct flow_key key;
	__u64 packets[2];
	__u64 bytes[2];
	__u32 status; /* of struct flow_entry */
	__u32 ifindex;
	__u8 change; /* enum ct_change */
	__u8 why;    /* of CT_GONE: enum ct_end */
	__u8 version;
	__u8 pad[5];
};

#endif
