"""Probes: what every block of a finished network has learnt. Enters: measurements of representations."""
