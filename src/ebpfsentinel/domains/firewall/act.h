/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is done with a judged packet. What stands on the never-block floor is not answered either.
 */
#ifndef EBPFSENTINEL_ACT_H
#define EBPFSENTINEL_ACT_H

#include "reject.h"

static __always_inline int xdp_act(struct xdp_md *ctx, struct packet *packet, bool denied)
{
	if (!denied)
		return xdp_next(ctx, packet);
	if (packet->action == ACTION_REJECT && !packet_spared(packet)) {
		bpf_tail_call(ctx, &fw_xdp_calls, FW_CALL_REJECT);
		COUNT_REJECT(failed);
	}
	return xdp_drop(ctx, packet);
}

static __always_inline int tc_act(struct __sk_buff *ctx, struct packet *packet, bool denied)
{
	if (!denied) {
		if (packet->cpu)
			count_failure(FAILURE_CPU);
		return tc_next(ctx, packet);
	}
	if (packet->action == ACTION_REJECT && !packet_spared(packet)) {
		bpf_tail_call(ctx, &fw_tc_calls, FW_CALL_REJECT);
		COUNT_REJECT(failed);
	}
	return tc_drop(ctx, packet);
}

#endif
