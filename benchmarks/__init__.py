"""The speed promises, measured: run `make bench`, or one part as `python -m benchmarks.pages`."""
