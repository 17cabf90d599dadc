/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How long a translation lives: by its protocol, and by where in its life it is. Each of its packets makes
 * it live on, but what says so is written no more often than once a second.
 */
#ifndef EBPFSENTINEL_LIVING_H
#define EBPFSENTINEL_LIVING_H

#include "binding.h"

#define REFRESH_NS 1000000000ll

static __always_inline __u8 next_state(const struct tr_entry *entry, __u8 tcp_flags)
{
	if (tcp_flags & (TCP_FIN | TCP_RST))
		return TR_CLOSING;
	if (entry->state == TR_CLOSING)
		return (tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN && !(entry->flags & TR_REPLY)
			       ? TR_NEW
			       : TR_CLOSING;
	if (entry->flags & TR_REPLY)
		return entry->state == TR_NEW ? TR_REPLIED : entry->state;
	return entry->state == TR_REPLIED && !(tcp_flags & TCP_SYN) ? TR_ESTABLISHED : entry->state;
}

/* The tag of this place is to say when its entry lapses; if it changes meanwhile, it is another's. */
static __always_inline void stamp(__u32 place, __u32 serial, __u8 state, __u64 until_ns)
{
	__u32 index = place >> 3 & (TR_SETS - 1), way = place & (TR_WAYS - 1);
	struct tr_set *set = bpf_map_lookup_elem(&nat_table, &index);
	__u64 tag;

	if (!set)
		return;
	tag = OPAQUE(set->tags[way]);
	if (!(tag & TR_TAG_USED) || tag & TR_TAG_BUSY || set->entries[way].serial != serial)
		return;
	set->entries[way].state = state;
	set->entries[way].until_ns = until_ns;
	__sync_val_compare_and_swap(&set->tags[way], tag,
				    (tag & ~TR_TAG_TIME) | tag_time(until_ns));
}

/* Both entries of a translation, by the place of one. */
__noinline int nat_stamp(__u32 place, __u32 serial, __u32 state, __u64 until_ns)
{
	const struct tr_entry *entry = entry_at(place);

	if (!entry || entry->serial != serial)
		return 0;
	stamp(entry->peer, serial, state, until_ns);
	stamp(place, serial, state, until_ns);
	return 1;
}

/* The flow lives on: both entries learn of it, but no more often than once a second. */
static __always_inline void refresh(const struct tr_head *head, struct tr_entry *entry,
				    const struct packet *packet, __u64 now_ns)
{
	__u8 state = next_state(entry, packet->tcp_flags) & (TR_STATES - 1);
	__u64 until_ns = now_ns + head->timeout_ns[class_of(packet->protocol)][state];

	entry->packets++;
	entry->bytes += packet->bytes;
	if (state == entry->state && (__s64)(until_ns - entry->until_ns) < REFRESH_NS)
		return;
	if (nat_stamp(entry->peer, entry->serial, state, until_ns))
		return;
	entry->state = state;
	entry->until_ns = until_ns;
}

#endif
