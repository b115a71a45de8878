"""The whole system in one process, under a seeded scheduler with virtual time. `python -m tests.simulation --help`."""
