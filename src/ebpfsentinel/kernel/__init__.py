"""The one door to privilege: everything that talks to the kernel, and its in-memory twin."""
