"""Measuring: what a network costs to run. Enters: clocks, counters, engines, and the files of what they measured."""
