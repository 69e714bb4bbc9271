"""Speed and memory, measured: every file is a command, `python -m benchmarks.NAME`, that prints a table."""
