"""The check of a machine with a GPU (`python -m benchmarks.gpu`). Enters: stages in limited time, into one archive."""
