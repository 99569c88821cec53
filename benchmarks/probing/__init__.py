"""Probing: what every block of a network has learnt. Enters: measures of blocks, and the file of their values."""
