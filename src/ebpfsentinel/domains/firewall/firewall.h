/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The firewall's vocabulary: records, map keys and values, for both halves.
 */
#ifndef EBPFSENTINEL_FIREWALL_H
#define EBPFSENTINEL_FIREWALL_H

#include "packet.h"

#define FW_RULES 4096 /* per address family */
#define FW_WORDS (FW_RULES / 64)
#define FW_BOUNDS (2 * FW_RULES + 2)
#define FW_BUCKETS 65536
/*
 * Rows at most: a rule begins and ends one interval of each field, so each of the two port and two
 * address fields has no more than this; the direct fields have one per value, no ports one more.
 */
#define FW_ROWS (4 * (2 * FW_RULES + 1) + 4096 + 256 + INTERFACE_SLOTS + 1)
#define FW_COUNTERS 16384

enum fw_mode { FW_MODE_ALERT, FW_MODE_BLOCK };

/* Which rules one class of one field's values satisfies: bit r of words is rule r. */
struct fw_row {
	__u64 words[FW_WORDS];
};

/*
 * One address field: sorted lower bounds of intervals, and the row of each interval. base is the
 * index of the interval that a bucket begins in; a key's bucket is (key - origin) >> shift.
 */
struct fw_addresses {
	__u64 origin;
	__u32 shift;
	__u32 pad;
	__u16 base[FW_BUCKETS + 8];
	__u64 high[FW_BOUNDS];
	__u64 low[FW_BOUNDS];
	__u16 row[FW_BOUNDS + 2];
};

struct fw_rule {
	__u32 rule_id; /* index into fw_count; 0 is the default policy */
	__u8 action;   /* enum packet_action */
	__u8 mirror;   /* slot of fw_mirrors; 0: no copy */
	__u16 cpu;     /* 1 + the CPU it is steered to; 0: stays where it is */
};

/* One generation of the rules of one address family, whole. */
struct fw_tables {
	__u32 mode;           /* enum fw_mode */
	__u32 default_action; /* enum packet_action */
	__u8 any_vlan;        /* no rule asks for a VLAN: rows of it need not be looked at */
	__u8 any_interface;   /* the same of interfaces */
	__u16 no_port_row;    /* of packets without ports */
	__u16 protocol_row[256];
	__u16 interface_row[INTERFACE_SLOTS];
	__u16 vlan_row[4096]; /* 0: untagged */
	__u16 src_port_row[65536];
	__u16 dst_port_row[65536];
	__u16 pad[2];
	struct fw_addresses src;
	struct fw_addresses dst;
	struct fw_rule rules[FW_RULES];
	__u64 summary[65536]; /* of each row; bit w: words[w] is not zero. Any u16 is in bounds */
	struct fw_row rows[FW_ROWS];
};

/*
 * Hits of one rule, per CPU. When the last one was, user space knows to the second, from reading
 * this; a clock for every packet would cost 5 of some 50 ns.
 */
struct fw_count {
	__u64 packets;
	__u64 bytes;
};

#endif
