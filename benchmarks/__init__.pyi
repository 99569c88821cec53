from .certifying.certify_run import Wanted, certify_run
from .certifying.exits_file import ExitPolicy, read_policies
from .measuring.bench_all import bench_all
from .measuring.latency import bench, latency_ratio
from .probing.probe import probe
from .report.comparison import COMPARISON, Comparison, read_comparison
from .report.record_archive import gathered
from .report.report import REPORT, write_report
from .report.sections.networks import main_table
from .report.sections.probe_tables import probe_tables, write_probe_figure
from .results.probed_blocks import read_probes
from .results.repeated_runs import distinct_runs
from .selection.select import select
from .selection.selected import Selection
from .selection.selection_limits import Limits
from .selection.serving import Serving
from .study.dry_run import plan_study
from .study.handover import Handover, hand_over
from .study.runner import run_study
from .study.setting import Setting
from .study.study import Study, read_study

__all__ = [
    "COMPARISON",
    "REPORT",
    "Comparison",
    "ExitPolicy",
    "Handover",
    "Limits",
    "Selection",
    "Serving",
    "Setting",
    "Study",
    "Wanted",
    "bench",
    "bench_all",
    "certify_run",
    "distinct_runs",
    "gathered",
    "hand_over",
    "latency_ratio",
    "main_table",
    "plan_study",
    "probe",
    "probe_tables",
    "read_comparison",
    "read_policies",
    "read_probes",
    "read_study",
    "run_study",
    "select",
    "write_probe_figure",
    "write_report",
]
