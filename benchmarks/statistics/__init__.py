"""Statistics: pure functions of arrays. Enters: no run, no prose, no pandas."""
