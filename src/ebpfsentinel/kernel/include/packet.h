/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A packet on its way through a chain (chain.h). The root program of a hook parses it once into the
 * hook's per-CPU scratch, where every domain's program finds it. What XDP found out travels to TC in
 * front of the packet, as struct packet_meta.
 *
 * A packet may also be a question: "what would become of this?" (packet->dry, set by xdp_dry, which
 * only BPF_PROG_RUN ever starts). Every domain judges it as in alert mode and leaves no trace: no
 * counter, no event, no state, no copy. It passes, and the metadata in front of it is the answer.
 *
 * Later fragments carry no ports: what follows their IP header is payload. Only packets with
 * PACKET_PORTS have src_port and dst_port.
 */
#ifndef EBPFSENTINEL_PACKET_H
#define EBPFSENTINEL_PACKET_H

#include "count.h"
#include <stddef.h>
#include <bpf/bpf_endian.h>

#define ETHERTYPE_IPV4 0x0800
#define ETHERTYPE_ARP 0x0806
#define ETHERTYPE_VLAN 0x8100
#define ETHERTYPE_QINQ 0x88a8
#define ETHERTYPE_IPV6 0x86dd

#define PROTOCOL_ICMP 1
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define PROTOCOL_ICMPV6 58

#define ICMP_NONE 0xffff
#define ICMP_ECHO_REQUEST 8
#define ICMPV6_ECHO_REQUEST 128
#define ICMPV6_ROUTER_SOLICITATION 133
#define ICMPV6_NEIGHBOUR_ADVERTISEMENT 136

#define VLAN_DEPTH 2
#define EXTENSION_DEPTH 8
#define INTERFACE_SLOTS 64
#define INTERFACES 65536
#define META_VERSION 1
#define CLOCK_PACKETS 8

/* Bits of packet.flags, packet_event.flags and packet_meta.flags. */
#define PACKET_IPV6 0x01
#define PACKET_VLAN 0x02
#define PACKET_TCP 0x04
#define PACKET_WOULD 0x08          /* alert mode: the verdict was computed, not enforced */
#define PACKET_FRAGMENT 0x10       /* first fragment of several */
#define PACKET_LATER_FRAGMENT 0x20 /* no transport header */
#define PACKET_PORTS 0x40
#define PACKET_MALFORMED 0x80 /* a header is cut short or nested too deeply */

enum packet_action {
	ACTION_PASS,
	ACTION_DROP,
	ACTION_LOG,
	ACTION_REJECT,
	ACTION_SPARED = 8, /* to be dropped, but it stands on the never-block floor */
};

/* Where a packet is met; each has a chain and a scratch of its own. */
enum hook { HOOK_XDP, HOOK_TC, HOOK_EGRESS };

/* Does a copy of the packet leave by another interface? */
enum packet_mirror { MIRROR_NONE, MIRROR_COPY, MIRROR_AND_DROP };

/* What the rate limits say of a packet, in packet.limit_status. */
enum limit_status { LIMIT_NONE, LIMIT_WITHIN, LIMIT_OVER };

/* Addresses are words in host order, the most significant first; IPv4 is the first word. */
struct packet {
	__u32 src_addr[4];
	__u32 dst_addr[4];
	__u16 src_port;
	__u16 dst_port;
	__u8 protocol;
	__u8 family; /* 4, 6, or 0: not IP, or no whole IP header */
	__u8 tcp_flags;
	__u8 tos;      /* or IPv6 traffic class: DSCP and ECN */
	__u32 rule_id; /* of the last rule that matched; 0: none */
	__u8 action;   /* enum packet_action, of that rule */
	__u8 limit_status;
	__u8 slot;           /* place in the chain */
	__u8 mirror;         /* enum packet_mirror */
	__u16 cpu;           /* 1 + the CPU it is steered to at the end of the chain; 0: none */
	__u16 inner_vlan_id; /* of a second tag; 0: none */
	__u32 spared_slots;  /* bit s: what stands at place s of the chain cannot drop it */
	__u64 now_ns;        /* boot clock; 0 until the first program asks, see packet_now() */
	/* Up to here all is set to zero at once, when the packet comes. */
	__u16 ethertype;
	__u16 vlan_id; /* outermost */
	__u16 l3_offset;
	__u16 l4_offset;
	__u32 bytes;
	__u32 ifindex;
	__u16 icmp; /* type << 8 | code; ICMP_NONE where they are not there */
	__u8 flags;
	__u8 interface; /* slot 0..63 */
	__u8 by_xdp;    /* enum interface_xdp: where XDP judges, TC stand-ins keep out */
	__u8 dry;    /* a question (xdp_dry): judged as in alert mode, not counted, not reported */
	__u8 spared; /* a drop was called off, and counted */
	__u8 flow_state;    /* enum flow_state, once asked for: flows.h */
	__u32 until_sample; /* of this CPU: packets more until headers are sampled; never reset */
	__u32 until_event; /* while the firewall's reader is behind: packets more until one is told */
	__u64 behind_until;  /* that is until then, in ticks; 0: it is not. Never reset either */
	__u64 clock_ns;      /* of this CPU, never reset: the last reading of the clock, */
	__u64 clock_jiffies; /* when that was, */
	__u64 clock_left;    /* and for how many packets more it is good */
	__u32 fragment_id;   /* of a packet with PACKET_FRAGMENT or PACKET_LATER_FRAGMENT */
	__u8 flow_there;     /* with flow_state: there is a flow of it, answered or not */
	__u8 tcp_high;       /* with tcp_flags, the byte before them: data offset, reserved bits */
	__u8 learns; /* the fast path is to learn where it leaves: conntrack's fast_path.h */
	__u8 pad;
};

/* What every network domain reports of a packet; the first 56 bytes are the seed's layout. */
struct packet_event {
	__u64 timestamp_ns; /* boot clock */
	__u32 src_addr[4];
	__u32 dst_addr[4];
	__u16 src_port;
	__u16 dst_port;
	__u8 protocol;
	__u8 event_type;
	__u8 action;
	__u8 flags;
	__u32 rule_id;
	__u16 vlan_id;
	__u16 cpu_id;
	__u8 version;
	__u8 tcp_flags;
	__u16 bytes; /* on the wire; 65535: or more */
	__u32 ifindex;
};

/* In front of the packet, from XDP to TC; the first 8 bytes are the seed's layout. */
struct packet_meta {
	__u32 rule_id;
	__u8 action;
	__u8 limit_status;
	__u8 flags; /* bit 0: present */
	__u8 version;
	__u16 l3_offset;
	__u16 l4_offset;
	__u8 packet_flags;
	__u8 protocol;
	__u16 vlan_id;
};

#define META_PRESENT 0x01

/* Which XDP programs run on an interface. */
enum interface_xdp { XDP_NONE, XDP_GENERIC, XDP_NATIVE };

/* An interface as user space set it up. */
struct interface {
	__u8 slot;
	__u8 xdp; /* enum interface_xdp */
};

struct interfaces {
	struct interface by_ifindex[INTERFACES];
};

#define PACKET_RESET_BYTES offsetof(struct packet, ethertype)

/* A value that the compiler and the verifier know nothing of. */
#define OPAQUE(lvalue) (*(volatile typeof(lvalue) *)&(lvalue))

#define SCRATCH(name)                                                                              \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);                                           \
		__uint(max_entries, 1);                                                            \
		__type(key, __u32);                                                                \
		__type(value, struct packet);                                                      \
	} name SEC(".maps")

SCRATCH(xdp_packet);
SCRATCH(tc_packet);
SCRATCH(egress_packet); /* its own: a mirror's copy leaves while TC judges the original */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct interfaces);
} interfaces SEC(".maps");

static __always_inline struct packet *packet_of(void *scratch)
{
	__u32 zero = 0;
	struct packet *packet = bpf_map_lookup_elem(scratch, &zero);

	if (!packet)
		count_failure(FAILURE_SCRATCH);
	return packet;
}

/*
 * When the packet came, on the boot clock. To read the clock costs more than the rest of a limit,
 * so a reading serves CLOCK_PACKETS packets of a CPU, but never longer than a jiffy: time runs in
 * steps of that, behind by at most a step. It never runs back, and gains nothing in the long run, so
 * rates that are measured by it are exact; what is admitted or lapses does so a step late.
 */
static __always_inline __u64 packet_now(struct packet *packet)
{
	__u64 jiffies;

	if (packet->now_ns)
		return packet->now_ns;
	jiffies = bpf_jiffies64();
	if (packet->clock_left && packet->clock_jiffies == jiffies) {
		packet->clock_left--;
	} else {
		packet->clock_ns = bpf_ktime_get_boot_ns();
		packet->clock_jiffies = jiffies;
		packet->clock_left = CLOCK_PACKETS - 1;
	}
	packet->now_ns = packet->clock_ns;
	return packet->now_ns;
}

/*
 * ARP and IPv6 neighbour discovery (RFC 4861; the stack checks its hop limit) pass where no rule says
 * otherwise, also under a default drop, and no limit or throttle counts them: without them no packet
 * that is let in could arrive. In IPv4, protocol 58 is nothing of the kind.
 */
static __always_inline bool is_neighbour_discovery(const struct packet *packet)
{
	if (packet->ethertype == ETHERTYPE_ARP)
		return true;
	return packet->family == 6 && packet->protocol == PROTOCOL_ICMPV6 &&
	       packet->icmp >> 8 >= ICMPV6_ROUTER_SOLICITATION &&
	       packet->icmp >> 8 <= ICMPV6_NEIGHBOUR_ADVERTISEMENT;
}

#endif
