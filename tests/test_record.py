"""What is passed is kept, whoever else writes at the same time."""

import json
import os
import subprocess
import sys

PASS = "import sys; from lib.checks import record; [record.passed(p) for p in sys.argv[1:]]"


def test_two_kernels_at_once_lose_nothing(tmp_path):
    file = tmp_path / "progress.json"
    environment = os.environ | {"ATTRIBUTION_PROGRESS": str(file)}
    parts = [[f"{name}.part_{k}" for k in range(60)] for name in "ab"]
    running = [
        subprocess.Popen([sys.executable, "-c", PASS, *some], env=environment) for some in parts
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    assert sorted(json.loads(file.read_text())["passed"]) == sorted(parts[0] + parts[1])
