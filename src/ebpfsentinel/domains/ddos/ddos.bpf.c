// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * DDoS defence: counts packets by what they may be part of, refuses what is over a guard's limit, and
 * carries out the measures that user space takes against an attack.
 *
 * Most packets pay for one count and one subtraction. What costs more (a source's bucket, a socket
 * lookup) is asked of a packet only when something would be done to it.
 */
#include "chain.h"
#include "guards.h"

static __always_inline bool is_echo(const struct packet *packet)
{
	return (packet->protocol == PROTOCOL_ICMP && packet->icmp >> 8 == ICMP_ECHO_REQUEST &&
		packet->family == 4) ||
	       (packet->protocol == PROTOCOL_ICMPV6 && packet->icmp >> 8 == ICMPV6_ECHO_REQUEST &&
		packet->family == 6);
}

static __always_inline __u32 type_of_tcp(__u8 flags)
{
	if (flags & TCP_RST)
		return DDOS_RST_FLOOD;
	if (flags & TCP_SYN)
		return flags & TCP_ACK ? DDOS_VOLUMETRIC : DDOS_SYN_FLOOD;
	if (flags & TCP_FIN)
		return DDOS_FIN_FLOOD;
	return flags & TCP_ACK ? DDOS_ACK_FLOOD : DDOS_VOLUMETRIC;
}

static __always_inline bool is_amplifier(const struct ddos_head *head, const struct packet *packet)
{
	__u16 port = packet->src_port;

	return head->port_filter >> (port & 63) & 1 && bpf_map_lookup_elem(&ddos_ports, &port);
}

/* What the packet may be part of besides a volumetric flood. */
static __always_inline __u32 type_of(const struct ddos_head *head, const struct packet *packet)
{
	if (packet->flags & PACKET_TCP)
		return type_of_tcp(packet->tcp_flags);
	if (packet->protocol == PROTOCOL_UDP && packet->flags & PACKET_PORTS)
		return is_amplifier(head, packet) ? DDOS_UDP_AMPLIFICATION : DDOS_VOLUMETRIC;
	return is_echo(packet) ? DDOS_ICMP_FLOOD : DDOS_VOLUMETRIC;
}

/* Segments that belong to no flow: what a flood of RSTs, FINs or ACKs is told from traffic by. */
static __always_inline void count_stray(const struct scene *scene, __u32 type, __u32 every)
{
	if (type < DDOS_RST_FLOOD || type > DDOS_ACK_FLOOD)
		return;
	if (tcp_flow(scene->ctx, scene->packet, 0, 0) != OWNED_FLOW &&
	    is_for_us(scene->ctx, scene->packet))
		scene->count->stray[type] += every;
}

static __always_inline void count_as(const struct scene *scene, __u32 type)
{
	const struct packet *packet = scene->packet;
	__u32 every;

	if (type >= DDOS_TYPES)
		return;
	scene->count->packets[type]++;
	scene->count->bytes[type] += packet->bytes;
	if (!is_sampled(scene, type))
		return;
	every = scene->head->sample_every[type];
	sample(packet, scene->count, type, every);
	count_stray(scene, type, every);
}

static __always_inline void count_packet(const struct scene *scene)
{
	if (scene->type != DDOS_VOLUMETRIC)
		count_as(scene, scene->type);
	count_as(scene, DDOS_VOLUMETRIC);
}

static __always_inline void report(const struct scene *scene, enum ddos_reason reason,
				   enum packet_action action)
{
	static const __u8 event_types[DDOS_TYPES] = {
		DDOS_EVENT_SYN,        DDOS_EVENT_AMPLIFICATION, DDOS_EVENT_ICMP,
		DDOS_EVENT_CONNECTION, DDOS_EVENT_CONNECTION,    DDOS_EVENT_CONNECTION,
		DDOS_EVENT_CONNECTION,
	};
	__u32 type = scene->type;
	struct ddos_event *event;

	if (type >= DDOS_TYPES)
		return;
	if (packet_now(scene->packet) - scene->cpu->event_ns[type] < DDOS_EVENT_GAP_NS) {
		scene->cpu->suppressed[type]++;
		return;
	}
	event = record_reserve(ddos_events, sizeof(*event));
	if (!event) {
		scene->cpu->suppressed[type]++;
		return;
	}
	put_packet_event(&event->packet, scene->packet, event_types[type]);
	event->packet.action = action;
	event->packet.rule_id = scene->attack;
	event->type = type;
	event->reason = reason;
	event->pad = 0;
	event->suppressed = scene->cpu->suppressed[type];
	scene->cpu->suppressed[type] = 0;
	scene->cpu->event_ns[type] = packet_now(scene->packet);
	record_submit(event);
}

static __always_inline __u32 judge_all(struct scene *scene)
{
	__u32 reason;

	if (scene->head->blocking && is_blocked(scene))
		return DDOS_BLOCK;
	reason = judge_guards(scene);
	if (!reason && scene->type != DDOS_VOLUMETRIC)
		reason = judge_throttle(scene, scene->type);
	return reason ? reason : judge_throttle(scene, DDOS_VOLUMETRIC);
}

static __always_inline enum ddos_reason judge(struct scene *scene)
{
	__u32 reason = judge_all(scene);

	if (reason & UNLESS_OF_FLOW && is_of_flow(scene)) {
		scene->count->spared += !scene->packet->dry;
		return DDOS_WANTED;
	}
	return reason & ~UNLESS_OF_FLOW;
}

/*
 * The verdict, counted and reported; true: it is to be carried out. What the packet says of the
 * firewall's rule and action stays as it is.
 */
static __always_inline bool settle(const struct scene *scene, enum ddos_reason reason)
{
	struct packet *packet = scene->packet;
	bool enforced = scene->head->mode == DDOS_MODE_BLOCK && !packet->dry;
	bool spared = enforced && packet_spared(packet);

	if (!reason)
		return false;
	if (!enforced)
		packet->flags |= PACKET_WOULD;
	if (packet->dry)
		return false;
	if (scene->type < DDOS_TYPES && reason != DDOS_COOKIE && !spared)
		scene->count->refused[scene->type]++;
	scene->count->by_reason[reason]++;
	report(scene, reason, spared ? ACTION_SPARED : ACTION_DROP);
	return enforced;
}

/*
 * What becomes of the packet; only IP is part of a flood that there is a defence against, and
 * neighbour discovery is not. A scene begins with where the packet is.
 */
static __always_inline enum ddos_reason defend(struct scene scene)
{
	enum ddos_reason reason;

	if (!scene.packet->family || is_neighbour_discovery(scene.packet) || !look_up_scene(&scene))
		return DDOS_WANTED;
	scene.type = type_of(scene.head, scene.packet);
	if (!scene.packet->dry)
		count_packet(&scene);
	reason = judge(&scene);
	return settle(&scene, reason) ? reason : DDOS_WANTED;
}

#define SCENE(context, found)                                                                      \
	((struct scene){.ctx = (context),                                                          \
			.data = (void *)(long)(context)->data,                                     \
			.end = (void *)(long)(context)->data_end,                                  \
			.packet = (found)})

SEC("xdp")
int xdp_ddos(struct xdp_md *ctx)
{
	struct packet *packet = packet_of(&xdp_packet);
	enum ddos_reason reason;

	if (!packet)
		return XDP_PASS;
	reason = defend(SCENE(ctx, packet));
	if (!reason)
		return xdp_next(ctx, packet);
	if (reason == DDOS_COOKIE && !packet_spared(packet)) {
		bpf_tail_call(ctx, &ddos_calls, 0);
		return xdp_next(ctx, packet);
	}
	return xdp_drop(ctx, packet);
}

/* Answers a SYN, or lets it up where that cannot be. */
SEC("xdp")
int xdp_ddos_cookie(struct xdp_md *ctx)
{
	struct packet *packet = packet_of(&xdp_packet);
	__u32 zero = 0;
	struct ddos_shared *shared = bpf_map_lookup_elem(&ddos_shared, &zero);
	struct ddos_count *count = bpf_map_lookup_elem(&ddos_count, &zero);
	enum cookie made;

	if (!packet || !shared || !count)
		return XDP_PASS;
	made = answer_with_cookie(ctx, packet);
	if (made == COOKIE_MADE) {
		shared->cookie_ns = packet_now(packet);
		count->cookies_sent++;
		count->refused[DDOS_SYN_FLOOD]++;
		packet_count(packet, true);
		return XDP_TX;
	}
	if (made == COOKIE_ROOM)
		count->cookies_room++;
	else
		count->cookies_none++;
	return xdp_next(ctx, packet);
}

/* The stand-in where an interface takes no XDP program; cookies are the stack's own there. */
SEC("tc")
int tc_ddos(struct __sk_buff *ctx)
{
	struct packet *packet = packet_of(&tc_packet);
	enum ddos_reason reason;

	if (!packet)
		return TC_NEXT;
	reason = packet->by_xdp ? DDOS_WANTED : defend(SCENE(ctx, packet));
	if (!reason || reason == DDOS_COOKIE)
		return tc_next(ctx, packet);
	return tc_drop(ctx, packet);
}

char _license[] SEC("license") = "Dual BSD/GPL";
