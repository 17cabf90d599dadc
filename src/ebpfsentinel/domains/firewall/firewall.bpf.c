// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The firewall: what becomes of a packet by the first rule that matches it, see classify.h.
 */
#include "act.h"
#include "classify.h"
#include "limit.h"
#include "owners.h"
#include "report.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FW_COUNTERS);
	__type(key, __u32);
	__type(value, struct fw_count);
} fw_count SEC(".maps");

/* Of the packets of a rule: those it denied, as more than it lets a source begin. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, FW_COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} fw_over SEC(".maps");

RING(fw_events, struct packet_event, 1 << 20);

RING(fw_samples, struct fw_sample, 1 << 17);

/* Where a packet's headers end: the shortest form of those that rules can ask about. */
static __always_inline __u32 header_bytes(const struct packet *packet)
{
	__u32 bytes = packet->l4_offset;

	if (!(packet->flags & PACKET_LATER_FRAGMENT))
		bytes += packet->protocol == PROTOCOL_TCP ? 20 : 8;
	return bytes < FW_HEAD_BYTES ? bytes : FW_HEAD_BYTES;
}

static __always_inline void take_sample(const struct packet *packet, void *data, void *end)
{
	struct fw_sample *sample = record_reserve(fw_samples, sizeof(*sample));
	__u32 bytes, at;

	if (!sample)
		return;
	__builtin_memset(sample, 0, sizeof(*sample));
	sample->timestamp_ns = bpf_ktime_get_boot_ns();
	sample->bytes = packet->bytes;
	sample->vlan_id = packet->vlan_id;
	sample->interface = packet->interface;
	sample->flags = packet->flags;
	bytes = header_bytes(packet);
	for (at = 0; at < FW_HEAD_BYTES / 2; at++) {
		const __u16 *from = data + at * 2;

		if (at * 2 >= bytes || (void *)(from + 1) > end)
			break;
		sample->head[at] = *from;
	}
	sample->captured = at * 2;
	record_submit(sample);
}

/*
 * A countdown in the CPU's own scratch, which is in the cache anyway: a packet that is not sampled
 * pays for a subtraction. One in N by count, so a flow that is as regular as N would be seen by
 * luck; what is sampled is for trying rules on, not for measuring traffic.
 */
static __always_inline void sample(const struct fw_head *head, struct packet *packet, void *data,
				   void *end)
{
	if (!head->sample_every || packet->dry)
		return;
	if (__builtin_expect(packet->until_sample, 1)) {
		packet->until_sample--;
		return;
	}
	packet->until_sample = head->sample_every - 1;
	take_sample(packet, data, end);
}

static __always_inline void count_hit(__u32 rule_id, __u32 bytes)
{
	struct fw_count *count = bpf_map_lookup_elem(&fw_count, &rule_id);

	if (!count)
		return;
	count->packets++;
	count->bytes += bytes;
}

/*
 * In a flood that the reader cannot keep up with, a record costs as much as the verdict, and no sooner
 * is the ring read than it is full again, of one instant. So once it was, for a while one packet in
 * so many is reported, evenly; the others are counted as backpressure, like all that finds it full.
 */
static __always_inline bool is_passed_over(struct packet *packet)
{
	if (!packet->behind_until)
		return false;
	if (bpf_jiffies64() >= packet->behind_until) {
		packet->behind_until = 0;
		return false;
	}
	if (packet->until_event) {
		packet->until_event--;
		record_pass_over(fw_events);
		return true;
	}
	packet->until_event = FW_BEHIND_EVERY - 1;
	return false;
}

/* Of a flow that is there? Its state has been asked for. */
static __always_inline bool is_of_flow(const struct packet *packet)
{
	return packet->flow_state == FLOW_ESTABLISHED || packet->flow_state == FLOW_RELATED;
}

static __always_inline void report(struct packet *packet)
{
	struct packet_event *event;

	if (is_passed_over(packet))
		return;
	event = record_reserve(fw_events, sizeof(*event));
	if (!event) {
		packet->behind_until = bpf_jiffies64() + FW_BEHIND_TICKS;
		return;
	}
	put_packet_event(event, packet, FW_EVENT_TYPE);
	record_submit(event);
}

/* The packet is more than its rule lets in. */
static __always_inline void refuse(struct packet *packet)
{
	__u64 *over = bpf_map_lookup_elem(&fw_over, &packet->rule_id);

	packet->action = ACTION_DROP;
	packet->cpu = 0;
	if (over && !packet->dry)
		(*over)++;
}

/* What only some rule sets ask for. */
static __always_inline void look_closer(const struct fw_head *head, struct packet *packet,
					void *data, void *end)
{
	if (head->asks & FW_HEAD_MACS)
		put_macs(data, end);
	if (head->asks & FW_HEAD_STATE)
		flow_state(packet, data, end);
	if (head->asks & FW_HEAD_OWNER)
		put_receiver(head, packet, data, end);
}

/* The verdict in the packet, reported; true: it is carried out. */
static __always_inline bool is_denied(const struct fw_head *head, struct packet *packet)
{
	bool denied;

	if (packet->action == ACTION_PASS)
		return false;
	if (packet->action != ACTION_LOG && (packet->dry || head->mode == FW_MODE_ALERT))
		packet->flags |= PACKET_WOULD;
	denied = packet->action != ACTION_LOG && head->mode == FW_MODE_BLOCK;
	if (denied && packet_spared(packet))
		packet->action = ACTION_SPARED;
	if (packet->dry)
		return false;
	report(packet);
	return denied;
}

/*
 * Judge the packet and write the verdict into it; true: it must be dropped. What is not IP, or has
 * no whole IP header, matches no rule: the default policy has it. `again`: XDP has judged it, and all
 * there is to find out is whether it is to be copied.
 */
static __always_inline bool judge(struct packet *packet, void *data, void *end, bool tc)
{
	bool again = tc && packet->by_xdp;
	const struct fw_head *head = head_in_force();
	struct fw_found rule;

	if (!head) {
		count_failure(FAILURE_TABLES);
		return false;
	}
	if (again && !head->mirrors)
		return false;
	if (!again)
		sample(head, packet, data, end);
	if (head->asks)
		look_closer(head, packet, data, end);
	rule = first_match(head, packet, tc ? HOOK_TC : HOOK_XDP);
	if (rule.rule_id) {
		packet->rule_id = rule.rule_id;
		packet->mirror = rule.order >> FW_MIRROR_AT & 3;
	}
	if (again)
		return false;
	if (rule.rule_id) {
		packet->action = rule.order & (FW_LIMITED - 1);
		packet->cpu = rule.cpu;
		if (rule.order & FW_LIMITED && is_over(packet))
			refuse(packet);
	} else if (!is_neighbour_discovery(packet) && !(head->keep_state && is_of_flow(packet))) {
		packet->action = head->default_action;
	}
	if (!packet->dry)
		count_hit(packet->rule_id, packet->bytes);
	return is_denied(head, packet);
}

SEC("xdp")
int xdp_firewall(struct xdp_md *ctx)
{
	struct packet *packet = packet_of(&xdp_packet);

	if (!packet)
		return XDP_PASS;
	return xdp_act(ctx, packet,
		       judge(packet, (void *)(long)ctx->data, (void *)(long)ctx->data_end, false));
}

/* The stand-in where an interface takes no XDP program; where one does, it makes copies. */
SEC("tc")
int tc_firewall(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&tc_packet);

	if (!packet)
		return TC_NEXT;
	return tc_act(ctx, packet,
		      judge(packet, (void *)(long)ctx->data, (void *)(long)ctx->data_end, true));
}

/*
 * Judge a packet that leaves, by the rules that ask for processes: no other is about it, and there is no
 * default policy for it.
 */
static __always_inline bool judge_leaving(struct __sk_buff *ctx, struct packet *packet)
{
	const struct fw_head *head = head_in_force();
	__u32 wide = packet->family == 6;
	union {
		__u64 whole;
		struct fw_found rule;
	} found = {};

	if (!head || !packet->family || !(head->out >> wide & 1) || !put_sender(ctx))
		return false;
	found.whole = in_place(head, HOOK_EGRESS, FW_OUT_PLACE + wide);
	if (!found.rule.rule_id)
		return false;
	packet->rule_id = found.rule.rule_id;
	packet->action = found.rule.order & (FW_LIMITED - 1);
	count_hit(packet->rule_id, packet->bytes);
	return is_denied(head, packet);
}

SEC("tc/egress")
int egress_firewall(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&egress_packet);

	if (!packet)
		return TC_NEXT;
	return judge_leaving(ctx, packet) ? egress_drop(ctx, packet) : egress_next(ctx, packet);
}

char _license[] SEC("license") = "Dual BSD/GPL";
