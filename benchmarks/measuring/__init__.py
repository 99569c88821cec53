"""Bench: what a network costs to run, measured. Enters: clocks, counters, engines, and files of what they gave."""
