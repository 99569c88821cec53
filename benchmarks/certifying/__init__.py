"""Certifying. Enters: choosing, certifying and measuring early exit of a run, by any engine."""
