"""``make soak HOURS=n``: hostile traffic, faults on a schedule, and what became of everything."""
