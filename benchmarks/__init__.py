"""Benchmarks: measuring and comparing finished runs: latency, tables, figures, studies, the report."""

from benchmarks.measuring.bench_all import bench_all
from benchmarks.measuring.latency import bench, latency_ratio
from benchmarks.probing.probe import probe
from benchmarks.report.comparison import COMPARISON, Comparison, read_comparison
from benchmarks.report.report import REPORT, main_table, write_report
from benchmarks.report.sections.probe_tables import probe_tables, write_probe_figure
from benchmarks.results.probed_blocks import read_probes
from benchmarks.results.series import distinct_runs
from benchmarks.study.dry_run import plan_study
from benchmarks.study.runner import run_study
from benchmarks.study.setting import Setting
from benchmarks.study.study import Study, read_study

__all__ = [
    "COMPARISON",
    "REPORT",
    "Comparison",
    "Setting",
    "Study",
    "bench",
    "bench_all",
    "distinct_runs",
    "latency_ratio",
    "main_table",
    "plan_study",
    "probe",
    "probe_tables",
    "read_comparison",
    "read_probes",
    "read_study",
    "run_study",
    "write_probe_figure",
    "write_report",
]
