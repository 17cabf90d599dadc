// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Somebody else's filter: nothing comes in. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("classifier")
int refuse(struct __sk_buff *ctx __attribute__((unused)))
{
	return 2; /* TC_ACT_SHOT */
}

char _license[] SEC("license") = "Dual BSD/GPL";
