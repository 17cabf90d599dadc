/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The vocabulary of DDoS defence: records, map keys and values, for both halves.
 */
#ifndef EBPFSENTINEL_DDOS_H
#define EBPFSENTINEL_DDOS_H

#include "report.h"

#define DDOS_SOURCES 65536
#define DDOS_METERS 131072
#define DDOS_KNOWN 65536
#define DDOS_BLOCKED 16384
#define DDOS_PORTS 64
#define DDOS_EVENT_GAP_NS 20000000ULL  /* between events of one type on one CPU */
#define DDOS_COOKIE_NS 120000000000ULL /* the stack takes a cookie for so long */

/* Of packet_event. */
enum ddos_event_type {
	DDOS_EVENT_SYN = 10,
	DDOS_EVENT_ICMP,
	DDOS_EVENT_AMPLIFICATION,
	DDOS_EVENT_CONNECTION,
};

enum ddos_mode { DDOS_MODE_ALERT, DDOS_MODE_BLOCK };

/* What a packet may be part of; all are part of a volumetric flood. */
enum ddos_type {
	DDOS_SYN_FLOOD,
	DDOS_UDP_AMPLIFICATION,
	DDOS_ICMP_FLOOD,
	DDOS_RST_FLOOD,
	DDOS_FIN_FLOOD,
	DDOS_ACK_FLOOD,
	DDOS_VOLUMETRIC,
	DDOS_TYPES,
};

/* Why a packet is refused. */
enum ddos_reason {
	DDOS_WANTED,
	DDOS_COOKIE,    /* answered with a SYN cookie instead of going up */
	DDOS_OVERSIZE,  /* an echo request with too much in it */
	DDOS_LIMIT,     /* its source is over the guard's limit */
	DDOS_THROTTLE,  /* a mitigation: unknown sources share what is left */
	DDOS_BLOCK,     /* a mitigation: its source or prefix is blocked */
	DDOS_HALF_OPEN, /* its source has too many connections that are half open */
	DDOS_REASONS,
};

/* A limit as of gcra.h; interval 0: there is none. */
struct ddos_limit {
	__u64 interval;
	__u64 tolerance;
};

/*
 * What is in force, swapped whole. A throttle lapses by itself (boot clock): an agent that is dead
 * does not keep an attack's measures alive.
 */
struct ddos_head {
	struct ddos_limit guard[DDOS_TYPES];    /* of one source; of all SYNs: see cookies */
	struct ddos_limit throttle[DDOS_TYPES]; /* of all unknown sources together */
	struct ddos_limit share[DDOS_TYPES];    /* of one known source, meanwhile */
	__u64 throttle_until_ns[DDOS_TYPES];
	__u32 sample_every
		[DDOS_TYPES];     /* packets per one that is put down to its source; 0: none */
	__u32 icmp_payload_bytes; /* at most; 0: any */
	__u64 known_ns;           /* a source is known so long after its last handshake */
	__u64 port_filter;        /* bit p % 64 of each port in ddos_ports */
	__u8 mode;                /* enum ddos_mode */
	__u8 cookies;             /* the SYN guard is on; its limit is of all SYNs: 0 is none */
	__u8 blocking;            /* there is something in ddos_blocked */
	__u8 every_ack;           /* is looked at: there are too many */
	__u32 half_open;          /* connections of a source, from which on none is begun; 0: any */
};

/* A source or a target, for one type. port is the source's for amplification, else the target's. */
struct ddos_party {
	__u32 addr[4];
	__u16 port;
	__u8 family;
	__u8 type; /* enum ddos_type */
};

struct ddos_traffic {
	__u64 packets; /* sampled, and multiplied */
	__u64 bytes;
};

struct ddos_prefix {
	__u32 addr[4];
	__u16 family;
	__u16 bits;
};

struct ddos_block {
	__u64 until_ns; /* boot clock; from then on it means nothing */
	__u64 packets;
	__u32 attack;
	__u8 type; /* enum ddos_type */
	__u8 pad[3];
};

struct ddos_known {
	__u32 addr[4];
	__u32 family;
};

/* Packets by type, on this CPU. */
struct ddos_count {
	__u64 packets[DDOS_TYPES];
	__u64 bytes[DDOS_TYPES];
	__u64 refused[DDOS_TYPES]; /* in alert mode: would be */
	__u64 stray[DDOS_TYPES];   /* of no flow of this host: sampled, and multiplied */
	__u64 by_reason[DDOS_REASONS];
	__u64 spared; /* over a limit, but of a flow that this host has */
	__u64 cookies_sent;
	__u64 cookies_room; /* not sent: the listener's queue had room */
	__u64 cookies_none; /* not sent: nobody listens here */
	__u64 cookies_valid;
	__u64 cookies_invalid;
	__u64 new_sources; /* written to a table that forgets the least used */
	__u64 new_meters;
	__u64 new_known;
};

/* What a CPU keeps for itself. */
struct ddos_cpu {
	__u64 event_ns[DDOS_TYPES];
	__u32 suppressed[DDOS_TYPES];
	__u32 until_sample[DDOS_TYPES];
};

/* State that all CPUs share, each word in a cache line of its own. */
struct ddos_bucket {
	__u64 tat;
	__u64 pad[7];
};

struct ddos_shared {
	struct ddos_bucket throttle[DDOS_TYPES];
	struct ddos_bucket syn;
	__u64 cookie_ns; /* when one was sent last */
	__u64 pad[7];
};

struct ddos_event {
	struct packet_event packet;
	__u8 type;   /* enum ddos_type */
	__u8 reason; /* enum ddos_reason */
	__u16 pad;
	__u32 suppressed; /* refused on this CPU since its last event of this type */
};

#endif
