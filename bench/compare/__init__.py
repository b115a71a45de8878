"""The same workloads on other ways to the same end, for the table that compares them: `python -m bench.compare`."""
