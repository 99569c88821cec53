"""Sections: one file for each section of the report. Enters: functions from a `Group` to a `Section`, or None."""
