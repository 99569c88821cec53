"""Results: finished runs as tables of numbers. Enters: frames and contrasts of runs; no prose, no drawing."""
