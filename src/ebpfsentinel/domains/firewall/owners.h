/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which process is at this host's end of a packet's flow, in classes: user space gives one to each
 * executable and control group that rules name, so that the classifier sees two small numbers.
 */
#ifndef EBPFSENTINEL_FIREWALL_OWNERS_H
#define EBPFSENTINEL_FIREWALL_OWNERS_H

#include "firewall.h"
#include "flows.h"
#include "owner.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FW_EXES);
	__type(key, struct fw_exe);
	__type(value, __u32);
} fw_exes SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, FW_CGROUPS);
	__type(key, __u64);
	__type(value, __u32);
} fw_cgroups SEC(".maps");

static __always_inline __u64 classes_of(const struct flow_owner *owner)
{
	struct owner_key key = {.start_ns = owner->start_ns, .pid = owner->pid};
	const struct owner_facts *facts = bpf_map_lookup_elem(&owners, &key);
	struct fw_exe exe = {};
	__u64 classes = 0, cgroup;
	const __u32 *found;

	if (!facts)
		return 0;
	exe.inode = facts->exe_inode;
	exe.device = facts->exe_device;
	cgroup = facts->cgroup_id;
	found = bpf_map_lookup_elem(&fw_exes, &exe);
	if (found)
		classes = (__u64)*found << 8;
	found = bpf_map_lookup_elem(&fw_cgroups, &cgroup);
	return found ? classes | *found : classes;
}

/* An owner of 0: it is not known, and no rule that asks for one holds. */
static __noinline int put_owner(const struct flow_owner *owner)
{
	__u32 zero = 0;
	struct fw_scratch *scratch = bpf_map_lookup_elem(&fw_scratch, &zero);

	if (!scratch)
		return 0;
	scratch->owner = owner ? classes_of(owner) : 0;
	return scratch->owner != 0;
}

/* Of a packet that comes in: who has its flow, or listens for it. */
static __noinline int put_receiver(const struct fw_head *head, struct packet *packet, void *data,
				   void *end)
{
	struct flow_search search;
	const struct flow_entry *entry = flow_of(packet, data, end, &search);

	if (entry && entry->end[(search.from ^ 1) & 1].owner.start_ns)
		return put_owner(&entry->end[(search.from ^ 1) & 1].owner);
	return put_owner(listener_of(packet, head->netns));
}

/* Of one that leaves: whose socket sends it. False: that is nobody whom a rule names. */
static __always_inline bool put_sender(struct __sk_buff *ctx)
{
	struct bpf_sock *sk = sending_socket(ctx);

	return sk && put_owner(bpf_sk_storage_get(&sock_owner, sk, 0, 0));
}

#endif
