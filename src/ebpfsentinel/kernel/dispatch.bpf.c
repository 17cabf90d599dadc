// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The roots of the chains: one program per hook and interface parses the packet once and calls
 * the first domain; the rest of the way is in chain.h. With an empty chain everything passes.
 */
#include "chain.h"
#include "floor.h"
#include "owner.h"
#include "flows.h"
#include "parse.h"
#include "record.h"
#include "translations.h"

#include <bpf/bpf_core_read.h>

EMIT_TYPE(failure, enum failure);

static __always_inline void look_up_interface(struct packet *packet)
{
	__u32 zero = 0;
	struct interfaces *known = bpf_map_lookup_elem(&interfaces, &zero);
	__u32 ifindex = packet->ifindex;

	packet->interface = 0;
	packet->by_xdp = 0;
	if (!known || ifindex >= INTERFACES)
		return;
	packet->interface = known->by_ifindex[ifindex].slot & (INTERFACE_SLOTS - 1);
	packet->by_xdp = known->by_ifindex[ifindex].xdp;
}

/* Before Linux 5.18 a frame has no fragments, and there is no helper that adds them up. */
static __always_inline __u32 frame_bytes(struct xdp_md *ctx)
{
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_xdp_get_buff_len))
		return bpf_xdp_get_buff_len(ctx);
	return ctx->data_end - ctx->data;
}

static __always_inline int enter(struct xdp_md *ctx, bool dry)
{
	struct packet *packet = packet_of(&xdp_packet);

	if (!packet)
		return XDP_PASS;
	packet->dry = dry;
	packet->vlan_id = 0;
	packet->flags = 0;
	packet->ifindex = ctx->ingress_ifindex;
	packet->bytes = frame_bytes(ctx);
	parse_frame((void *)(long)ctx->data, (void *)(long)ctx->data_end, packet);
	look_up_interface(packet);
	look_up_floor(packet, HOOK_XDP);
	bpf_tail_call(ctx, &xdp_chain, 0);
	return xdp_pass(ctx, packet);
}

SEC("xdp")
int xdp_root(struct xdp_md *ctx)
{
	return enter(ctx, false);
}

/* Never attached: for BPF_PROG_RUN alone. See packet->dry. */
SEC("xdp")
int xdp_dry(struct xdp_md *ctx)
{
	return enter(ctx, true);
}

#define HEADER_BYTES 256
#define LINK_BYTES 14

/*
 * Generic XDP copies a packet that has little room in front of it, and the copy has forgotten how long
 * its Ethernet header is (seen on Linux 6.12 and 6.18): what TC is shown then begins behind that, and
 * what it sends on goes out without. The header is still there: put the beginning back.
 */
static __always_inline void restore_link(struct __sk_buff *ctx)
{
	__u16 link[LINK_BYTES / 2], shown[LINK_BYTES / 2] = {}, differ = 0;
	int word;

	if (bpf_skb_load_bytes_relative(ctx, 0, link, sizeof(link), BPF_HDR_START_MAC))
		return;
	bpf_skb_load_bytes(ctx, 0, shown, sizeof(shown));
	for (word = 0; word < LINK_BYTES / 2; word++)
		differ |= link[word] ^ shown[word];
	if (!differ)
		return;
	if (bpf_skb_change_head(ctx, sizeof(link), 0) ||
	    bpf_skb_store_bytes(ctx, 0, link, sizeof(link), 0))
		count_failure(FAILURE_LINK);
}

/*
 * Are all headers that any domain looks at in the linear part? Of TCP that is the whole header, of UDP
 * too; an ICMP error quotes more.
 */
static __always_inline bool has_headers(struct __sk_buff *ctx, struct packet *packet)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct cursor cursor = cursor_at_l4(data, end, packet);
	const __u8 *header = cursor.at;

	if (packet->flags & PACKET_MALFORMED)
		return false;
	if (packet->flags & PACKET_LATER_FRAGMENT)
		return true;
	if (packet->protocol == PROTOCOL_UDP)
		return (void *)(header + 8) <= end;
	if (!(packet->flags & PACKET_TCP) || (void *)(header + 13) > end)
		return false;
	return (void *)(header + (header[12] >> 4) * 4) <= end;
}

/* Static: Linux 5.10 takes no pointer in a function that it verifies by itself. */
static __noinline int parse_linear(struct __sk_buff *ctx, struct packet *packet)
{
	packet->vlan_id = ctx->vlan_present ? ctx->vlan_tci & 0xfff : 0;
	packet->flags = ctx->vlan_present ? PACKET_VLAN : 0;
	parse_frame((void *)(long)ctx->data, (void *)(long)ctx->data_end, packet);
	return has_headers(ctx, packet);
}

/*
 * What TCP sends has its headers in the linear part and its payload in pages. To pull more of it in would
 * copy a packet that TCP still holds: so only where headers are cut short.
 */
static __always_inline void parse_skb(struct __sk_buff *ctx, struct packet *packet)
{
	packet->dry = 0;
	packet->bytes = ctx->len;
	if (parse_linear(ctx, packet) || ctx->data_end - ctx->data >= HEADER_BYTES ||
	    ctx->data_end - ctx->data >= ctx->len)
		return;
	if (bpf_skb_pull_data(ctx, ctx->len < HEADER_BYTES ? ctx->len : HEADER_BYTES))
		count_failure(FAILURE_PULL);
	parse_linear(ctx, packet);
}

static __always_inline int enter_tc(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&tc_packet);

	if (!packet)
		return TC_NEXT;
	packet->ifindex = ctx->ingress_ifindex;
	look_up_interface(packet);
	if (packet->by_xdp == XDP_GENERIC)
		restore_link(ctx);
	parse_skb(ctx, packet);
	look_up_floor(packet, HOOK_TC);
	bpf_tail_call(ctx, &tc_chain, 0);
	return TC_NEXT;
}

SEC("tc")
int tc_root(struct __sk_buff *ctx)
{
	return enter_tc(ctx);
}

/*
 * Never attached: for BPF_PROG_RUN, right behind xdp_dry and on its CPU. What the question about the same
 * frame did not end comes in, and leaves behind what later ones are judged by.
 */
SEC("tc")
int tc_replay(struct __sk_buff *ctx)
{
	const struct packet *asked = packet_of(&xdp_packet);

	if (!asked || asked->action == ACTION_DROP || asked->action == ACTION_REJECT)
		return TC_NEXT;
	return enter_tc(ctx);
}

/* What leaves: packet->ifindex is the interface that it leaves by. */
SEC("tc/egress")
int egress_root(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&egress_packet);

	if (!packet)
		return TC_NEXT;
	packet->ifindex = ctx->ifindex;
	look_up_interface(packet);
	parse_skb(ctx, packet);
	look_up_floor(packet, HOOK_EGRESS);
	bpf_tail_call(ctx, &egress_chain, 0);
	return TC_NEXT;
}

char _license[] SEC("license") = "Dual BSD/GPL";
