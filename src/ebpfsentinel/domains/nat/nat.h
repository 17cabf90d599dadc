/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The translator's vocabulary: rules, counters and records, for both halves. The table of
 * translations is in translations.h, because others read it too.
 */
#ifndef EBPFSENTINEL_NAT_H
#define EBPFSENTINEL_NAT_H

#include "translations.h"

#define NAT_RULES 576 /* of one direction: 256, as many of both ways, and those of hairpin */
#define NAT_PREFIXES 64
#define NAT_NUMBERS 1024
#define NAT_LINKS 64
#define NAT_LOCKS 4096
#define NAT_MARKS 4096

#define NAT_EVENT_TYPE 16 /* of packet_event */

/* Of packet_event. */
#define NAT_ACTION_WOULD 20
#define NAT_ACTION_EXHAUSTED 21

enum nat_what {
	NAT_SNAT,
	NAT_DNAT,
	NAT_MASQ,
	NAT_REDIRECT,
	NAT_HAIRPIN,
};

/* Bits of nat_rule.asks. */
#define NAT_ASKS_SOURCE 1
#define NAT_ASKS_DESTINATION 2
#define NAT_ASKS_PORT 4
#define NAT_ASKS_PROTOCOL 8
#define NAT_ASKS_INTERFACE 16
#define NAT_ASKS_FAMILY 32
#define NAT_ASKS_LOCAL 64       /* the destination is an address of this host */
#define NAT_ASKS_TRANSLATED 128 /* the destination was translated when the packet came in */

/*
 * One rule of one direction. The new address is to_addr with the bits of the old one that keep_mask has.
 * to_port: the lowest, and how many more to_ports; 0: the port stays where it can. With
 * NAT_PORT_SAME, port dst_port + n becomes to_port + n.
 */
struct nat_rule {
	__u32 src_addr[4];
	__u32 src_mask[4];
	__u32 dst_addr[4];
	__u32 dst_mask[4];
	__u32 to_addr[4];
	__u32 keep_mask[4];
	__u64 interfaces;
	__u16 dst_port;
	__u16 dst_ports;
	__u16 to_port;
	__u16 to_ports;
	__u16 number;
	__u8 what; /* enum nat_what */
	__u8 asks;
	__u8 family;
	__u8 protocol;
	__u8 shift_port; /* port dst_port + n becomes to_port + n */
	__u8 pad;
};

/* RFC 6296: the prefix alone is replaced, and a word adjusted so that checksums stay true. */
struct nat_prefix {
	__u32 inside[4];
	__u32 outside[4];
	__u32 mask[4];
	__u64 interfaces; /* 0: any */
	__u16 adjust_out; /* what is added (ones' complement) on the way out, in network order */
	__u16 adjust_in;
	__u16 number;
	__u8 short_prefix; /* up to 48 bits: the adjusted word is bits 48 to 63 */
	__u8 pad;
};

/* The addresses of an interface, by slot. */
struct nat_link {
	__u32 v4;
	__u32 v6[4];
	__u8 has_v4;
	__u8 has_v6;
	__u16 pad;
};

/* All rules in force, in the order of their priority, replaced whole by one pointer. */
struct nat_rules {
	__u16 source_count;
	__u16 destination_count;
	__u16 prefix_count;
	__u8 alert;
	__u8 asks; /* NAT_ASKS_LOCAL, NAT_ASKS_TRANSLATED: a rule does */
	struct nat_rule source[NAT_RULES];
	struct nat_rule destination[NAT_RULES];
	struct nat_prefix prefixes[NAT_PREFIXES];
	struct nat_link links[NAT_LINKS];
};

/* Per CPU. Packets, unless said otherwise. */
struct nat_count {
	__u64 total_seen;
	__u64 snat_applied;
	__u64 dnat_applied;
	__u64 masq_applied;
	__u64 nptv6_translated;
	__u64 icmp_errors;          /* ICMP errors translated, with what they quote */
	__u64 fragments;            /* later fragments translated */
	__u64 untouched;            /* of flows that no rule translates */
	__u64 port_alloc_fail;      /* dropped: no port was free */
	__u64 table_full;           /* dropped: no place but those of established translations */
	__u64 no_address;           /* dropped: the interface has no address to masquerade with */
	__u64 fragment_unknown;     /* dropped: a later fragment whose first one was not seen */
	__u64 nptv6_untranslatable; /* dropped: RFC 6296 knows no address for it */
	__u64 errors;               /* dropped: a packet that could not be written */
	__u64 spared;  /* flows that rules would have sent elsewhere, left alone by the floor */
	__u64 created; /* translations */
	__u64 clashed; /* flows that got another port because theirs was taken */
	__u64 evicted_untouched; /* entries in use that gave way: of flows left as they are, */
	__u64 evicted_closing;   /* of TCP that was closing, */
	__u64 evicted_unreplied; /* of those without an answer yet, */
	__u64 evicted_replied;   /* of those with one */
	__u64 contended;         /* dropped: a lock was not to be had */
};

/* Of one rule, per CPU. */
struct nat_rule_count {
	__u64 translations;
	__u64 packets; /* of NPTv6 alone, which has no translations */
	__u64 failed;
	__u64 would;
	__u64 told_ns;
};

/* What a slow path is handed, per CPU. */
struct nat_work {
	struct tr_tuple key;
	struct tr_tuple to;
	struct tr_tuple back;
	struct tr_entry entry;
	struct tr_entry answer;
	__u32 serial;
	__u32 local; /* is the destination an address of this host? 0: not asked yet */
	__u16 identifier;
	__u16 pad[3];
};

/*
 * By hook, and by a hash of the address at the near end (where a packet comes in, its destination; where
 * it leaves, its source): was an entry ever put in with such a one? Else there is none to look for.
 */
struct nat_marks {
	__u8 put[2][NAT_MARKS];
};

/* A locked home: a key is put in by one CPU at a time. */
struct nat_lock {
	__u64 held;
};

struct nat_event {
	struct packet_event packet;
	__u32 to_addr[4];
	__u16 to_port;
	__u16 pad;
	__u32 count;
};

#endif
