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


RAY = """#!/bin/bash
[ "$1" = start ] && echo "$SRUN_CPUS_PER_TASK $@" >>started && sleep 0.2
exit 1
"""


def start_job(folder: Path, way: str, **scripts: str) -> subprocess.Popen[str]:
    """Start the script in a folder, with scripts that stand for commands."""
    for name, script in {"srun": '#!/bin/bash\nexec "$@"\n', **scripts}.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    job = {"SLURM_JOB_ID": "12345678", "SLURM_CPUS_PER_TASK": "16", "SLURM_JOB_NODELIST": "here"}
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", **job}
    command = ["bash", str(SCRIPT), way, "quickstart", "runs"]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def test_a_job_that_is_stopped_ends_after_its_command_and_with_its_status(tmp_path: Path) -> None:
    job = start_job(tmp_path, "plain", compress=COMMAND)
    wait_for((tmp_path / "begun").exists)
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=20)
    assert (job.returncode, (tmp_path / "stopped").exists()) == (3, True)


def test_a_job_whose_head_does_not_start_ends_and_no_other_jobs_head_is_taken(tmp_path: Path) -> None:
    srun = '#!/bin/bash\nwhile [ "$1" != ray ]; do shift; done\nexec "$@"\n'
    job = start_job(tmp_path, "ray", scontrol="#!/bin/bash\necho here\n", srun=srun, ray=RAY)
    _, said = job.communicate(timeout=20)
    assert (job.returncode, said) == (1, "Ray's head did not start\n")
    assert (tmp_path / "started").read_text() == ("16 start --num-cpus 16 --num-gpus 0 --block --head --port 25678\n")
