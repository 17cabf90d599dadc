"""Rule sets of other firewalls as ours: what is carried over exactly, and a list of what is not.

Two languages are read: nftables (``nft list ruleset``, as text or with ``-j``; the text becomes the
same objects as the JSON) and iptables (``iptables-save``, ``ip6tables-save``). Both become chains
of :class:`~.foreign.ForeignRule`, which :mod:`.flatten` makes one list of: jumps inlined, policies
and returns followed. :mod:`.carry` writes that as rules of ours.

The rule above all: nothing is widened and nothing is dropped silently. A condition that has no
counterpart leaves its rule out, and the report says which later rules mean something else by that.
"""
