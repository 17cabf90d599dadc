// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Packets of many TCP connections, one on every repeat of BPF_PROG_RUN, written over the packet, which
 * then goes into the program under test: that for what comes in, or that for what leaves.
 *
 * Connections are numbered; each goes through the same steps (flags and direction). With one step,
 * connections come in an order that no cache foresees.
 */
#include "vmlinux.h"
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define STEPS 8
#define PRIME 2654435761u
#define LEAVES 0x80

struct script {
	__u64 next;
	__u32 connections;
	__u32 steps;
	__u32 first;
	__u8 step[STEPS]; /* TCP flags; with LEAVES, from this host */
	__u32 scattered;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct script);
} script SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} targets SEC(".maps");

struct headers {
	__u8 ethernet[14];
	__be16 ip[6];
	__be32 src_addr;
	__be32 dst_addr;
	__be16 src_port;
	__be16 dst_port;
	__be32 seq;
	__be32 ack;
	__u8 offset;
	__u8 flags;
	__be16 window;
} __attribute__((packed));

SEC("tc")
int talk(struct __sk_buff *ctx)
{
	__u32 zero = 0, client, step, leaves;
	struct script *all = bpf_map_lookup_elem(&script, &zero);
	struct headers *to = (void *)(long)ctx->data;
	__be32 here = bpf_htonl(0x0a000001), there;
	__be16 port, service = bpf_htons(80);
	__u64 number;

	if (!all || (void *)(to + 1) > (void *)(long)ctx->data_end || !all->steps ||
	    !all->connections)
		return 0;
	number = all->next++;
	step = all->step[number % all->steps & (STEPS - 1)];
	client = number / all->steps;
	if (all->scattered)
		client = client * PRIME;
	client = all->first + client % all->connections;
	there = bpf_htonl(0x0b000000 + (client >> 14));
	port = bpf_htons(1024 + (client & 0x3fff));
	leaves = !!(step & LEAVES);
	to->src_addr = leaves ? here : there;
	to->dst_addr = leaves ? there : here;
	to->src_port = leaves ? service : port;
	to->dst_port = leaves ? port : service;
	to->flags = step & ~LEAVES;
	bpf_tail_call(ctx, &targets, leaves);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
