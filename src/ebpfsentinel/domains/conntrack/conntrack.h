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
#define CT_PATHS 2048              /* ways of the fast path, of each CPU; 64 bytes each */
#define CT_PAUSE_NS 100000000ull   /* how long none is learned, after */
#define CT_IN_VAIN 64              /* so many packets of which none was */

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

/* Who else looks at forwarded packets, so that they go through the stack. */
enum ct_onlooker {
	CT_ONLOOKER_NETFILTER, /* hooks of nftables, iptables, IPVS, SELinux and the like */
	CT_ONLOOKER_TC,        /* programs or filters of others, where packets come in */
	CT_ONLOOKER_DEVICE,    /* one of the two interfaces is a port or the base of another */
	CT_ONLOOKER_NONE,
};

/*
 * The way of packets from one address to another that are of one service: as the host itself sent the
 * last one. Also the key, up to family.
 */
struct ct_path {
	__u32 src_addr[4];
	__u32 dst_addr[4];
	__u16 port; /* the lower one: that of the service */
	__u8 protocol;
	__u8 family;
	__u8 interface; /* slot of that where it comes in */
	__u8 tos;
	__u16 largest; /* payload of IP, of those that the host let pass */
	__u32 until;   /* is it good? In 2^20 ns of the boot clock, a millisecond */
	__u32 ifindex; /* where it leaves */
	__u8 macs[12]; /* destination and source */
	__u32 pad;
};

/* Per CPU. */
struct ct_fast_count {
	__u64 packets;                   /* that went past the stack */
	__u64 learned;                   /* ways */
	__u64 watched[CT_ONLOOKER_NONE]; /* how often somebody was found looking */
};

/* Per CPU and interface: nothing is learned of what comes in there until then, as it would be in vain. */
struct ct_fast_pause {
	__u64 until_ns; /* boot clock */
	__u64 asked;    /* packets whose way might have been learned, since one was */
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
