// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* An XDP program that asks of each packet what it is to the flows there are. */
#include "chain.h"
#include "flows.h"

SEC("xdp")
int xdp_asks(struct xdp_md *ctx)
{
	struct packet *packet = packet_of(&xdp_packet);

	if (!packet)
		return XDP_PASS;
	flow_state(packet, (void *)(long)ctx->data, (void *)(long)ctx->data_end);
	return xdp_next(ctx, packet);
}

char _license[] SEC("license") = "Dual BSD/GPL";
