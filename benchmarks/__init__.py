"""Benchmarks: measuring and comparing finished runs: latency, tables, figures, studies, the report."""

from benchmarks.latency import bench
from benchmarks.report import REPORT, main_table, write_report
from benchmarks.study import Study, read_study, run_study

__all__ = ["REPORT", "Study", "bench", "main_table", "read_study", "run_study", "write_report"]
