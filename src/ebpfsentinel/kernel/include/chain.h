/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The way of a packet through the domains: each program adds its verdict to the scratch (packet.h),
 * and either ends the way (xdp_drop, tc_drop, egress_drop) or hands on (xdp_next, tc_next,
 * egress_next). There is a chain for what XDP sees, one for what comes in behind it, and one for what
 * leaves.
 */
#ifndef EBPFSENTINEL_CHAIN_H
#define EBPFSENTINEL_CHAIN_H

#include "packet.h"

/* Frames that came in by final verdict, per interface slot. would_drop and spared are part of passed. */
struct interface_count {
	__u64 passed;
	__u64 dropped;
	__u64 would_drop;
	__u64 bytes;
	__u64 spared;
	__u64 egress_dropped; /* of those that were to leave */
};

#define CHAIN(name)                                                                                \
	struct {                                                                                   \
		__uint(type, BPF_MAP_TYPE_PROG_ARRAY);                                             \
		__uint(max_entries, 32);                                                           \
		__type(key, __u32);                                                                \
		__type(value, __u32);                                                              \
	} name SEC(".maps")

CHAIN(xdp_chain);
CHAIN(tc_chain);
CHAIN(egress_chain);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, INTERFACE_SLOTS);
	__type(key, __u32);
	__type(value, struct interface_count);
} interface_count SEC(".maps");

/* Queues of packets for a CPU, filled for those that rules name; the loader sizes it. */
struct {
	__uint(type, BPF_MAP_TYPE_CPUMAP);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u32);
} steer_cpus SEC(".maps");

static __always_inline void packet_count(const struct packet *packet, bool dropped)
{
	__u32 slot = packet->interface;
	struct interface_count *count;

	if (packet->dry)
		return;
	count = bpf_map_lookup_elem(&interface_count, &slot);
	if (!count)
		return;
	count->bytes += packet->bytes;
	if (dropped)
		count->dropped++;
	else
		count->passed++;
	if (packet->flags & PACKET_WOULD)
		count->would_drop++;
}

/*
 * Write down what later programs want to know; a packet without room for it passes without. Not under
 * generic XDP: it is not seen from there, and Linux 7.2 complains when tc_root restores the link header.
 */
static __always_inline void packet_put_meta(struct xdp_md *ctx, const struct packet *packet)
{
	struct packet_meta *meta;

	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*meta))) {
		count_failure(FAILURE_META);
		return;
	}
	meta = (void *)(long)ctx->data_meta;
	if ((void *)(meta + 1) > (void *)(long)ctx->data)
		return;
	meta->rule_id = packet->rule_id;
	meta->action = packet->action;
	meta->limit_status = packet->limit_status;
	meta->flags = META_PRESENT;
	meta->version = META_VERSION;
	meta->l3_offset = packet->l3_offset;
	meta->l4_offset = packet->l4_offset;
	meta->packet_flags = packet->flags;
	meta->protocol = packet->protocol;
	meta->vlan_id = packet->vlan_id;
}

/*
 * The packet goes up the stack on another CPU. Under native XDP alone: before Linux 5.15, generic
 * XDP loses what it is told to redirect to a CPU.
 */
static __always_inline int xdp_steer(const struct packet *packet)
{
	if (packet->by_xdp == XDP_NATIVE &&
	    bpf_redirect_map(&steer_cpus, packet->cpu - 1, XDP_PASS) == XDP_REDIRECT)
		return XDP_REDIRECT;
	count_failure(FAILURE_CPU);
	return XDP_PASS;
}

/* The end of the XDP chain: nothing has dropped the packet, it goes up the stack. */
static __always_inline int xdp_pass(struct xdp_md *ctx, const struct packet *packet)
{
	packet_count(packet, false);
	if (packet->by_xdp != XDP_GENERIC || packet->dry)
		packet_put_meta(ctx, packet);
	if (packet->cpu && !packet->dry)
		return xdp_steer(packet);
	return XDP_PASS;
}

/* Must a drop by the program at this place of the chain be called off? */
static __always_inline bool packet_spared(const struct packet *packet)
{
	return packet->spared_slots >> (packet->slot & 31) & 1;
}

/* A drop was called off: counted once a packet, however many domains would have dropped it. */
static __always_inline void packet_count_spared(struct packet *packet)
{
	__u32 slot = packet->interface;
	struct interface_count *count;

	if (packet->dry || packet->spared)
		return;
	packet->spared = 1;
	count = bpf_map_lookup_elem(&interface_count, &slot);
	if (count)
		count->spared++;
}

/* Hand on to the next domain; at the end of the chain the packet passes. */
static __always_inline int xdp_next(struct xdp_md *ctx, struct packet *packet)
{
	packet->slot++;
	bpf_tail_call(ctx, &xdp_chain, packet->slot);
	return xdp_pass(ctx, packet);
}

/* Drop the packet; but one that is spared goes on, whoever calls. */
static __always_inline int xdp_drop(struct xdp_md *ctx, struct packet *packet)
{
	if (packet_spared(packet)) {
		packet_count_spared(packet);
		return xdp_next(ctx, packet);
	}
	packet_count(packet, true);
	return XDP_DROP;
}

#define TC_NEXT (-1) /* TC_ACT_UNSPEC and TCX_NEXT: whatever else is attached decides */
#define TC_SHOT 2

static __always_inline int tc_next(struct __sk_buff *ctx, struct packet *packet)
{
	packet->slot++;
	bpf_tail_call(ctx, &tc_chain, packet->slot);
	return TC_NEXT;
}

/* As xdp_drop. */
static __always_inline int tc_drop(struct __sk_buff *ctx, struct packet *packet)
{
	if (packet_spared(packet)) {
		packet_count_spared(packet);
		return tc_next(ctx, packet);
	}
	packet_count(packet, true);
	return TC_SHOT;
}

/* As tc_next, for what leaves. */
static __always_inline int egress_next(struct __sk_buff *ctx, struct packet *packet)
{
	packet->slot++;
	bpf_tail_call(ctx, &egress_chain, packet->slot);
	return TC_NEXT;
}

/* As xdp_drop, for what leaves. */
static __always_inline int egress_drop(struct __sk_buff *ctx, struct packet *packet)
{
	__u32 slot = packet->interface;
	struct interface_count *count;

	if (packet_spared(packet)) {
		packet_count_spared(packet);
		return egress_next(ctx, packet);
	}
	count = bpf_map_lookup_elem(&interface_count, &slot);
	if (count)
		count->egress_dropped++;
	return TC_SHOT;
}

#endif
