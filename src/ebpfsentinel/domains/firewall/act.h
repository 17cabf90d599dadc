/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is done with a judged packet. What stands on the never-block floor is not answered either, and
 * goes on: it is copied where packets that pass are.
 */
#ifndef EBPFSENTINEL_ACT_H
#define EBPFSENTINEL_ACT_H

#include "mirror.h"
#include "reject.h"

static __always_inline int xdp_act(struct xdp_md *ctx, struct packet *packet, bool denied)
{
	if (!denied)
		return xdp_next(ctx, packet);
	if (packet->action == ACTION_DROP && !packet->mirror) { /* so it is not spared */
		packet_count(packet, true);
		return XDP_DROP;
	}
	if (packet->action == ACTION_REJECT && !packet_spared(packet)) {
		bpf_tail_call(ctx, &fw_xdp_calls, FW_CALL_REJECT);
		COUNT_REJECT(failed);
	}
	if (packet->mirror && !packet_spared(packet)) {
		bpf_tail_call(ctx, &fw_xdp_calls, FW_CALL_MIRROR);
		COUNT_COPY(failed);
	}
	return xdp_drop(ctx, packet);
}

static __always_inline int tc_act(struct __sk_buff *ctx, struct packet *packet, bool denied)
{
	if (packet->cpu && !denied)
		count_failure(FAILURE_CPU);
	if (packet->mirror) {
		packet->mirror = denied ? MIRROR_AND_DROP : MIRROR_COPY;
		bpf_tail_call(ctx, &fw_tc_calls, FW_CALL_MIRROR);
		COUNT_COPY(failed);
	}
	if (!denied)
		return tc_next(ctx, packet);
	if (packet->action == ACTION_REJECT && !packet_spared(packet)) {
		bpf_tail_call(ctx, &fw_tc_calls, FW_CALL_REJECT);
		COUNT_REJECT(failed);
	}
	return tc_drop(ctx, packet);
}

#endif
