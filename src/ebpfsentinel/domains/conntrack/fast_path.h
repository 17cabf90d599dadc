/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The fast path: packets of flows leave the way on which the host itself has just sent others like them,
 * past its stack.
 *
 * Nothing here routes. A packet goes through the stack, and where it leaves, it is written down what the
 * host made of it: the interface, and both link addresses. For a second that is believed of packets
 * between the same addresses that are of the same service (the lower port), if they come in at the same
 * interface, have the same TOS, and are no larger. Then one goes through the stack again. So whatever
 * changes there (routes, neighbours, forwarding switched off) is obeyed within a second, neighbours stay
 * confirmed, and what the host would not forward, or would cut up or answer, is never sent past it: it was
 * not seen to leave. Only a choice by the higher port is not seen: a multipath route that is balanced by
 * ports sends the flows of one service between two addresses one way for that second.
 *
 * All of our own programs see every packet, where it comes in and where it leaves. So that nobody else
 * is passed over, a way is learned only while nobody else looks: no netfilter hook of this network
 * namespace, no other program or filter of TC where packets come in, and neither interface a port or a
 * base of another. That is read from the kernel's own structures when a way is to be learned. Where it is
 * in vain, because somebody looks, or what comes in is for this host, it is tried for some packets a second.
 *
 * Each CPU keeps ways for itself, one at a place: who comes later stands there, and the other is learned
 * anew.
 *
 * Rejected: bpf_fib_lookup() for each packet, which costs as much as what is saved, and keeps no neighbour
 * alive; ways by flow, since a short connection has as many packets to learn from as to send; asking user
 * space about netfilter, which would be late, and know only some of who hooks there.
 */
#ifndef EBPFSENTINEL_CT_FAST_PATH_H
#define EBPFSENTINEL_CT_FAST_PATH_H

#include "track.h"

#include <bpf/bpf_core_read.h>

#define CT_PATH_MS 1000
#define CT_PATH_TICK 20
#define CT_HOST 0 /* PACKET_HOST: addressed to this host's link address */
#define CT_LINK_BYTES 14
#define CT_MAC_BYTES 12
#define TCQ_F_BUILTIN 1

struct nf_hook_entries;

struct netns_nf {
	struct nf_hook_entries *hooks_ipv4[5];
	struct nf_hook_entries *hooks_ipv6[5];
} CORE;

struct net {
	struct netns_nf nf;
} CORE;

typedef struct {
	struct net *net;
} possible_net_t;

struct bpf_prog {
	__u16 pages;
} CORE;

struct bpf_mprog_fp {
	struct bpf_prog *prog;
} CORE;

struct bpf_mprog_entry {
	struct bpf_mprog_fp fp_items[64];
} CORE;

struct Qdisc {
	unsigned int flags;
} CORE;

struct netdev_queue {
	struct Qdisc *qdisc_sleeping;
} CORE;

struct net_device {
	possible_net_t nd_net;
	void *rx_handler;
	struct nf_hook_entries *nf_hooks_ingress;
	struct bpf_mprog_entry *tcx_ingress;
	struct netdev_queue *ingress_queue;
} CORE;

struct sk_buff {
	struct net_device *dev;
} CORE;

extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, CT_PATHS);
	__type(key, __u32);
	__type(value, struct ct_path);
} ct_paths SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ct_fast_count);
} ct_fast SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, INTERFACE_SLOTS);
	__type(key, __u32);
	__type(value, struct ct_fast_pause);
} ct_fast_pauses SEC(".maps");

static __always_inline struct ct_fast_count *ct_fast_count(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&ct_fast, &zero);
}

static __always_inline __u16 ct_service(const struct packet *packet)
{
	return packet->src_port < packet->dst_port ? packet->src_port : packet->dst_port;
}

/* Where the way of such packets stands, if it is known. */
static __always_inline struct ct_path *ct_path_of(const struct packet *packet)
{
	const __u64 *words = (const void *)packet->src_addr;
	__u64 sum = (words[0] ^ words[1]) * FLOW_MIX + (words[2] ^ words[3]);
	__u32 at;

	sum = (sum ^ ct_service(packet)) * FLOW_GOLDEN;
	at = sum >> 32 & (CT_PATHS - 1);
	return bpf_map_lookup_elem(&ct_paths, &at);
}

static __always_inline bool ct_is_of(const struct ct_path *path, const struct packet *packet)
{
	const __u64 *a = (const void *)path->src_addr, *b = (const void *)packet->src_addr;

	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3])) &&
	       path->port == ct_service(packet) && path->protocol == packet->protocol &&
	       path->family == packet->family && path->interface == packet->interface &&
	       path->tos == packet->tos;
}

/* No options, no tags, no fragment, and nothing that marks it. */
static __always_inline bool ct_is_plain(const struct __sk_buff *ctx, const struct packet *packet)
{
	__u32 header = packet->family == 4 ? sizeof(struct ipv4) : sizeof(struct ipv6);
	__u8 odd = PACKET_VLAN | PACKET_FRAGMENT | PACKET_LATER_FRAGMENT | PACKET_MALFORMED;

	return packet->l3_offset == CT_LINK_BYTES && packet->l4_offset == CT_LINK_BYTES + header &&
	       !(packet->flags & odd) && !ctx->mark;
}

/* Behind the IP header; of a packet that is segmented later, in each segment. */
static __always_inline __u32 ct_payload(const struct __sk_buff *ctx, const struct packet *packet)
{
	if (!ctx->gso_size)
		return packet->bytes - packet->l4_offset;
	return ctx->gso_size + (packet->flags & PACKET_TCP ? (packet->tcp_high >> 4) * 4 : 8);
}

/* Who else looks at what comes in here and is forwarded; CT_ONLOOKER_NONE: nobody. */
static __always_inline enum ct_onlooker ct_onlooker(const struct net_device *dev)
{
	const struct netns_nf *nf = &dev->nd_net.net->nf;
	const struct netdev_queue *queue = dev->ingress_queue;
	const struct bpf_mprog_entry *entry = dev->tcx_ingress;

	if (nf->hooks_ipv4[0] || nf->hooks_ipv4[2] || nf->hooks_ipv4[4] || nf->hooks_ipv6[0] ||
	    nf->hooks_ipv6[2] || nf->hooks_ipv6[4])
		return CT_ONLOOKER_NETFILTER;
	if (bpf_core_field_exists(dev->nf_hooks_ingress) && dev->nf_hooks_ingress)
		return CT_ONLOOKER_NETFILTER;
	if (!entry || entry->fp_items[1].prog)
		return CT_ONLOOKER_TC;
	if (queue && !(queue->qdisc_sleeping->flags & TCQ_F_BUILTIN))
		return CT_ONLOOKER_TC;
	return dev->rx_handler ? CT_ONLOOKER_DEVICE : CT_ONLOOKER_NONE;
}

static __always_inline struct ct_fast_pause *ct_fast_pause(const struct packet *packet)
{
	__u32 slot = packet->interface;

	return bpf_map_lookup_elem(&ct_fast_pauses, &slot);
}

/* May the way of this packet be learned, where it leaves? */
static __always_inline bool ct_may_learn(struct __sk_buff *ctx, struct packet *packet,
					 struct ct_fast_count *count)
{
	struct ct_fast_pause *pause = ct_fast_pause(packet);
	__u64 now_ns = packet_now(packet);
	enum ct_onlooker onlooker;
	const struct sk_buff *skb;

	if (!pause || now_ns < pause->until_ns)
		return false;
	skb = bpf_cast_to_kern_ctx(ctx);
	onlooker = ct_onlooker(skb->dev);
	pause->asked++;
	if (onlooker != CT_ONLOOKER_NONE || pause->asked > CT_IN_VAIN) {
		pause->until_ns = now_ns + CT_PAUSE_NS;
		pause->asked = 0;
	}
	if (onlooker == CT_ONLOOKER_NONE)
		return true;
	count->watched[onlooker]++;
	return false;
}

static __always_inline bool ct_is_good(const struct __sk_buff *ctx, struct packet *packet,
				       const struct ct_path *path)
{
	return ct_is_of(path, packet) &&
	       (__s32)(path->until - (__u32)(packet_now(packet) >> CT_PATH_TICK)) > 0 &&
	       ct_payload(ctx, packet) <= path->largest;
}

struct ct_ipv4_frame {
	__u8 macs[CT_MAC_BYTES];
	__be16 words[7]; /* the type of the link, and of the header all up to its checksum */
};

/*
 * Other link addresses, and one hop less (RFC 1812 5.3.1, RFC 1141); false: nothing has been written. In
 * IPv6 no header's checksum balances what a card has summed up.
 */
static __always_inline bool ct_send_on(struct __sk_buff *ctx, const struct packet *packet,
				       const struct ct_path *path)
{
	struct ct_ipv4_frame frame;
	__be16 hops;
	__u32 sum;

	if (packet->family == 6) {
		if (bpf_skb_load_bytes(ctx, CT_LINK_BYTES + 6, &hops, sizeof(hops)) ||
		    (bpf_ntohs(hops) & 0xff) <= 1)
			return false;
		hops = bpf_htons(bpf_ntohs(hops) - 1);
		return !bpf_skb_store_bytes(ctx, CT_LINK_BYTES + 6, &hops, sizeof(hops),
					    BPF_F_RECOMPUTE_CSUM) &&
		       !bpf_skb_store_bytes(ctx, 0, path->macs, CT_MAC_BYTES, 0);
	}
	if (bpf_skb_load_bytes(ctx, CT_MAC_BYTES, frame.words, sizeof(frame.words)) ||
	    bpf_ntohs(frame.words[5]) >> 8 <= 1)
		return false;
	__builtin_memcpy(frame.macs, path->macs, CT_MAC_BYTES);
	frame.words[5] -= bpf_htons(0x0100);
	sum = frame.words[6] + bpf_htons(0x0100);
	frame.words[6] = sum + (sum >= 0xffff);
	return !bpf_skb_store_bytes(ctx, 0, &frame, sizeof(frame), 0);
}

/*
 * The last program of all where packets come in. Ways are learned of flows that were answered, which a
 * flood is not; they are good for those that begin as well.
 */
static __always_inline int ct_take_path(struct __sk_buff *ctx, struct packet *packet)
{
	bool answered = packet->flow_state == FLOW_ESTABLISHED;
	struct ct_fast_count *count = ct_fast_count();
	const struct ct_path *path;

	if (!(answered || packet->flow_state == FLOW_NEW) || ctx->pkt_type != CT_HOST ||
	    !ct_is_plain(ctx, packet))
		return TC_NEXT;
	path = ct_path_of(packet);
	if (!path || !count)
		return TC_NEXT;
	if (!ct_is_good(ctx, packet, path)) {
		packet->learns = answered && ct_may_learn(ctx, packet, count);
		return TC_NEXT;
	}
	if (!ct_send_on(ctx, packet, path))
		return TC_NEXT;
	count->packets++;
	return bpf_redirect(path->ifindex, 0);
}

/* Is it of the flow, and from the end, of the packet that came in last on this CPU? */
static __always_inline bool ct_is_the_same(const struct packet *packet, const struct packet *came)
{
	const __u64 *a = (const void *)packet->src_addr, *b = (const void *)came->src_addr;

	return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3])) &&
	       packet->src_port == came->src_port && packet->dst_port == came->dst_port &&
	       packet->protocol == came->protocol && packet->tos == came->tos;
}

/* Where a packet leaves that the stack has forwarded: that is the way. */
static __always_inline void ct_learn_path(struct __sk_buff *ctx, struct packet *packet)
{
	const struct packet *came = packet_of(&tc_packet);
	const struct sk_buff *skb = bpf_cast_to_kern_ctx(ctx);
	struct ct_fast_count *count = ct_fast_count();
	struct ct_fast_pause *pause;
	struct ct_path *path;
	__u32 payload, now;

	if (!came || !count || !came->learns || came->ifindex != ctx->ingress_ifindex ||
	    came->ifindex == ctx->ifindex || ctx->priority || !ct_is_plain(ctx, packet) ||
	    !ct_is_the_same(packet, came) || skb->dev->rx_handler)
		return;
	path = ct_path_of(came);
	pause = ct_fast_pause(came);
	if (!path || !pause)
		return;
	payload = ct_payload(ctx, packet);
	now = came->now_ns >> CT_PATH_TICK;
	if (!ct_is_of(path, came) || (__s32)(path->until - now) <= 0 || path->largest < payload)
		path->largest = payload < 0xffff ? payload : 0xffff;
	__builtin_memcpy(path->src_addr, came->src_addr, 32);
	path->port = ct_service(came);
	path->protocol = came->protocol;
	path->family = came->family;
	path->interface = came->interface;
	path->tos = came->tos;
	path->until = now + CT_PATH_MS;
	path->ifindex = ctx->ifindex;
	if (bpf_skb_load_bytes(ctx, 0, path->macs, sizeof(path->macs)))
		path->family = 0;
	count->learned++;
	pause->asked = 0;
}

#endif
