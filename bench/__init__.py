"""Measurements: each ``bench_*.py`` has ``run()``; ``python -m bench`` runs them all."""
