"""Speed: what training costs, as ratios (`python -m benchmarks.speed`). Enters: timings of our own training."""
