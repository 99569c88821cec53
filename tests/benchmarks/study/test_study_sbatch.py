"""The script for SLURM, with stand-ins for what SLURM and this package install."""

import os
import signal
import subprocess
from pathlib import Path

from benchmarks.study.kills import wait_for

SCRIPT = Path(__file__).parents[3] / "docs" / "study.sbatch"
COMMAND = """#!/bin/bash
trap 'sleep 0.3; touch stopped; exit 3' TERM
touch begun
while :; do sleep 0.05; done
"""


def test_a_job_that_is_stopped_ends_after_its_command_and_with_its_status(tmp_path: Path) -> None:
    for name, script in {"srun": '#!/bin/bash\nexec "$@"\n', "compress": COMMAND}.items():
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "1"}
    job = subprocess.Popen(["bash", SCRIPT, "plain", "quickstart", "runs"], cwd=tmp_path, env=environment)
    wait_for((tmp_path / "begun").exists)
    job.send_signal(signal.SIGTERM)
    assert (job.wait(), (tmp_path / "stopped").exists()) == (3, True)
