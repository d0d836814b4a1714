"""kill -9 while a run logs, through a session: what flush() acknowledged is read, and the run is lost.

Spec: spec/metrics.md section 4; spec/claims.md section 5.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import reference

from tracker import Project, Status

KILLS = 200 if os.environ.get("TRACKER_STORM") else 5

CHILD = """
import os, sys
from tracker import Project

run = Project(sys.argv[1]).session("train", {"n": int(sys.argv[2])}).start()
number = 0
while True:
    for _ in range(1 + number % 300):
        run.log(loss=number * 0.5, n=number)
        number += 1
    run.flush()
    os.write(1, b"%d\\n" % number)
"""


@pytest.mark.storm
def test_no_flushed_row_of_a_killed_run_is_lost_and_the_run_is(tmp_path: Path) -> None:
    root = tmp_path / "results"
    draw = random.Random(5)
    acknowledged = []
    for kill in range(KILLS):
        command = [sys.executable, "-c", CHILD, str(root), str(kill)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline()
        time.sleep(draw.random() * 0.1)
        process.kill()
        acknowledged.append(int((b"1\n" + process.communicate()[0]).split(b"\n")[-2]))
    project = Project(root)

    for kill, count in enumerate(acknowledged):
        session = project.session("train", {"n": kill})
        values = [float(value) for value in session.metrics("n").values]
        assert session.status is Status.LOST
        assert values == [float(number) for number in range(len(values))]
        assert len(values) >= count > 0
        rows = reference.curve_of(reference.read_series(root, session.ref)[0], "n")
        assert [row.value for row in rows] == values
    listed = [sys.executable, "-m", "tracker", "-C", str(root), "ls", "status == 'lost'", "--json"]
    assert len(json.loads(subprocess.run(listed, capture_output=True, check=True).stdout)) == KILLS
