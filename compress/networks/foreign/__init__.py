"""Anybody's networks: where they come from, traced, cut into blocks. Enters: no architecture of ours."""
