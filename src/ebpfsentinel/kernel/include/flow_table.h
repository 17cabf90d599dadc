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
 * The table is behind a map of maps: while connections are not tracked there is none, and it costs no
 * memory; its size follows the settings. Its first element is no set, but struct flow_head. Slot 1 is
 * the table from before, while its flows move over.
 */
#ifndef EBPFSENTINEL_FLOW_TABLE_H
#define EBPFSENTINEL_FLOW_TABLE_H

#include "packet.h"
#include "record.h"

#define FLOW_WAYS 8
#define FLOW_ENOUGH 4 /* ways of a first set that are free: the second is not asked */
#define FLOW_STAGES 32
#define FLOW_HASH_KEYS 11
#define FLOW_SOURCES 131072
#define FLOW_VERSION 2

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

#endif
