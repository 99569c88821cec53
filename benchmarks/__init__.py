"""Benchmarks: measuring and comparing finished runs: latency, tables, figures, studies, the report."""

from benchmarks.latency import bench, latency_ratio
from benchmarks.plan import plan_study
from benchmarks.probe import probe
from benchmarks.recorder import bench_all
from benchmarks.records import COMPARISON, Comparison, read_comparison
from benchmarks.report import REPORT, main_table, write_report
from benchmarks.session import run_study
from benchmarks.setting import Setting
from benchmarks.study import Study, read_study
from benchmarks.supervision import probe_tables, read_probes, write_probe_figure
from benchmarks.tables import distinct_runs

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
