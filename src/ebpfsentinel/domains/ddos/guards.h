/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The guards, one for each type of flood, and the throttles of mitigations. */
#ifndef EBPFSENTINEL_DDOS_GUARDS_H
#define EBPFSENTINEL_DDOS_GUARDS_H

#include "known.h"
#include "tables.h"

/* May the stack get this SYN? Sources that are known need no cookie, within their share. */
static __always_inline enum ddos_reason judge_syn(const struct scene *scene)
{
	const struct ddos_limit *all = &scene->head->guard[DDOS_SYN_FLOOD];
	struct ddos_party source;

	if (scene->head->half_open && flow_half_open(scene->packet) >= scene->head->half_open)
		return DDOS_HALF_OPEN;
	if (!scene->head->cookies)
		return DDOS_WANTED;
	if (all->interval && shared_conforms(scene, &scene->shared->syn, all))
		return DDOS_WANTED;
	source = source_of(scene->packet, DDOS_SYN_FLOOD);
	if (is_known(scene->head, scene->packet) &&
	    conforms(scene, &source, &scene->head->share[DDOS_SYN_FLOOD]))
		return DDOS_WANTED;
	return DDOS_COOKIE;
}

static __always_inline enum ddos_reason judge_echo(const struct scene *scene)
{
	const struct ddos_limit *limit = &scene->head->guard[DDOS_ICMP_FLOOD];
	struct ddos_party source = source_of(scene->packet, DDOS_ICMP_FLOOD);
	const struct packet *packet = scene->packet;

	if (scene->head->icmp_payload_bytes &&
	    packet->bytes > packet->l4_offset + 8 + scene->head->icmp_payload_bytes)
		return DDOS_OVERSIZE;
	return !limit->interval || conforms(scene, &source, limit) ? DDOS_WANTED : DDOS_LIMIT;
}

/*
 * Beside a reason: a packet of a flow that somebody wants is let through all the same. That is found out
 * in one place, is_of_flow(), as it is long.
 */
#define UNLESS_OF_FLOW 0x80

static __always_inline __u32 judge_source(const struct scene *scene, const struct ddos_limit *limit)
{
	struct ddos_party source = source_of(scene->packet, scene->type);

	if (!limit->interval || conforms(scene, &source, limit))
		return DDOS_WANTED;
	return DDOS_LIMIT | UNLESS_OF_FLOW;
}

static __always_inline __u32 judge_amplifier(const struct scene *scene)
{
	__u16 port = scene->packet->src_port;
	const struct ddos_limit *limit = bpf_map_lookup_elem(&ddos_ports, &port);

	return limit ? judge_source(scene, limit) : DDOS_WANTED;
}

/*
 * An ACK, where there are too many or cookies are out: does it belong to a flow? What an ACK to a
 * listener carries is a cookie, or nothing.
 */
static __always_inline enum ddos_reason judge_ack(const struct scene *scene)
{
	struct packet *packet = scene->packet;
	const struct ddos_limit *limit = &scene->head->guard[DDOS_ACK_FLOOD];
	struct ddos_party source;
	bool cookie = false;
	enum owned flow;

	if (is_known(scene->head, packet))
		return DDOS_WANTED;
	flow = tcp_flow(scene->ctx, packet, copy_headers(packet, scene->data, scene->end), &cookie);
	if (flow == OWNED_FLOW || cookie) {
		if (!packet->dry)
			make_known(packet, scene->count);
		scene->count->cookies_valid += cookie && !packet->dry;
		return DDOS_WANTED;
	}
	if (!limit->interval || !is_for_us(scene->ctx, packet))
		return DDOS_WANTED;
	scene->count->cookies_invalid += flow == OWNED_LISTENER && !packet->dry;
	source = source_of(packet, DDOS_ACK_FLOOD);
	return conforms(scene, &source, limit) ? DDOS_WANTED : DDOS_LIMIT;
}

static __always_inline bool are_cookies_out(const struct scene *scene)
{
	__u64 sent_ns = scene->shared->cookie_ns;

	return sent_ns && packet_now(scene->packet) - sent_ns < DDOS_COOKIE_NS;
}

static __always_inline __u32 judge_guards(const struct scene *scene)
{
	switch (scene->type) {
	case DDOS_SYN_FLOOD:
		return judge_syn(scene);
	case DDOS_UDP_AMPLIFICATION:
		return judge_amplifier(scene);
	case DDOS_ICMP_FLOOD:
		return judge_echo(scene);
	case DDOS_RST_FLOOD:
		return judge_source(scene, &scene->head->guard[DDOS_RST_FLOOD]);
	case DDOS_FIN_FLOOD:
		return judge_source(scene, &scene->head->guard[DDOS_FIN_FLOOD]);
	case DDOS_ACK_FLOOD:
		if (scene->head->every_ack || are_cookies_out(scene))
			return judge_ack(scene);
	}
	return DDOS_WANTED;
}

/*
 * A throttle: known sources have a share each, all others have one together. A source that has
 * been let in with a flow becomes known by it.
 */
static __always_inline __u32 judge_throttle(const struct scene *scene, __u32 type)
{
	const struct ddos_head *head = scene->head;
	struct packet *packet = scene->packet;
	struct ddos_party source;

	if (type >= DDOS_TYPES || !head->throttle[type].interval ||
	    packet_now(packet) >= head->throttle_until_ns[type])
		return DDOS_WANTED;
	if (is_known(head, packet)) {
		source = source_of(packet, type);
		source.port = 0xffff; /* not the bucket of the guard */
		return conforms(scene, &source, &head->share[type]) ? DDOS_WANTED : DDOS_THROTTLE;
	}
	if (shared_conforms(scene, &scene->shared->throttle[type], &head->throttle[type]))
		return DDOS_WANTED;
	return DDOS_THROTTLE | UNLESS_OF_FLOW;
}

/* Is the packet of a flow that somebody wants? Its source is known then, if it is TCP. */
static __always_inline bool is_of_flow(const struct scene *scene)
{
	struct packet *packet = scene->packet;

	if (!(packet->flags & PACKET_PORTS) || !packet->family ||
	    !has_flow(scene->ctx, packet, scene->data, scene->end))
		return false;
	if (packet->flags & PACKET_TCP && !packet->dry)
		make_known(packet, scene->count);
	return true;
}

#endif
