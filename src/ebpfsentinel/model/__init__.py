"""The vocabulary every station speaks: domain cards, batches, alerts, actions, settings.

Nothing in here imports anything else of ours, does I/O or knows the time: a value that two
stations exchange is declared here once, and carries the same field names from the C struct to
the dashboard.

* :mod:`~ebpfsentinel.model.domain`: what a security domain is (its card, engine and plan).
* :mod:`~ebpfsentinel.model.kernel`: the one door to privilege and the plain values through it.
* :mod:`~ebpfsentinel.model.access`: what a card's own routes and verbs may reach.
* :mod:`~ebpfsentinel.model.batch`: rows of one record type as typed columns.
* :mod:`~ebpfsentinel.model.alert`: what operators are told.
* :mod:`~ebpfsentinel.model.action`: what engines want done to the kernel.
* :mod:`~ebpfsentinel.model.settings`: spellings, limits and errors of what users may set.
* :mod:`~ebpfsentinel.model.conditions`: rule conditions over the columns of a batch.
"""
