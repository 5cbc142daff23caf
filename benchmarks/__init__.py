"""What claims of speed are measured with: `python -m benchmarks`, and `python -m benchmarks.soak`."""
