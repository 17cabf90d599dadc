/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What every network domain says of a packet in the same words: struct packet_event, for its own
 * ring or at the front of its own record.
 */
#ifndef EBPFSENTINEL_REPORT_H
#define EBPFSENTINEL_REPORT_H

#include "packet.h"
#include "record.h"

/* event_type says which domain speaks, in the numbers of the reference's events. */
static __always_inline void put_packet_event(struct packet_event *event, struct packet *packet,
					     __u8 event_type)
{
	event->timestamp_ns = packet_now(packet);
	__builtin_memcpy(event->src_addr, packet->src_addr, 32);
	event->src_port = packet->src_port;
	event->dst_port = packet->dst_port;
	event->protocol = packet->protocol;
	event->event_type = event_type;
	event->action = packet->action;
	event->flags = packet->flags;
	event->rule_id = packet->rule_id;
	event->vlan_id = packet->vlan_id;
	event->cpu_id = bpf_get_smp_processor_id();
	event->version = 1;
	event->tcp_flags = packet->tcp_flags;
	event->bytes = packet->bytes < 65535 ? packet->bytes : 65535;
	event->ifindex = packet->ifindex;
}

#endif
