/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel as our programs see it: the stable UAPI, and CO-RE declarations of only those internal
 * structures and fields that we read. libbpf relocates the fields against the running kernel's
 * BTF, so the order and the gaps here mean nothing. A full dump of some kernel's BTF would be ten
 * thousand times longer and would tie the build to that kernel.
 */
#ifndef EBPFSENTINEL_VMLINUX_H
#define EBPFSENTINEL_VMLINUX_H

#include <stdbool.h>

#include <linux/types.h>
#include <linux/bpf.h>

#define CORE __attribute__((preserve_access_index))

#endif
