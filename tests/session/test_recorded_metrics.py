"""Metrics, inputs and saved files as a session records them: in the ledger, the manifest, and by ranks.

Spec: spec/metrics.md sections 4 to 6; spec/sealing.md sections 5 and 6; spec/events.md section 3.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import reference
from blake3 import blake3

from tracker import NotFoundError, Project, Session, StateError, Status
from tracker import ledger as ledgers
from tracker._store import sealing
from tracker.artefacts import using

PARAMS = {"lr": 0.1}


def run_of(session: Session) -> dict[str, Any]:
    runs = reference.read_store(session._place.root)["runs"]
    return next(run for run in runs if run["ref"] == session.ref)


def test_what_was_logged_is_read_while_the_run_runs_and_when_it_is_done(store):
    session = store.session("train", PARAMS).start()
    for step in range(5):
        session.log(loss=1 / (step + 1), step=10 * step)
    during = session.metrics("loss")
    session.done()
    after = Project(store.root).get("train", PARAMS).metrics("loss")

    assert during.steps.tolist() == after.steps.tolist() == [0, 10, 20, 30, 40]
    assert during.values.tolist() == after.values.tolist() == [1, 1 / 2, 1 / 3, 1 / 4, 1 / 5]


def test_the_summary_stands_in_the_ledger_the_manifest_and_queries(store):
    with store.session("train", PARAMS) as session:
        for loss in (3.0, 1.0, 2.0):
            session.log({"loss": loss})
    want = {
        "loss": {
            "count": 3, "last": 2.0, "last_step": 2, "max": 3.0, "max_step": 0, "min": 1.0, "min_step": 1,
        }
    }  # fmt: skip
    (manifest,) = [json.loads(file.read_bytes()) for file in store.root.glob(".tracker/manifests/*/*.json")]

    assert session.summary == run_of(session)["summary"] == manifest["summary"] == want
    assert len(store.runs("metrics.loss == 2 and metrics.loss.min < 1.5")) == 1
    assert len(store.runs("metrics.loss < 2")) == 0


@pytest.mark.parametrize("end", ["error", "interrupt"])
def test_an_attempt_that_fails_keeps_its_metrics(store, end):
    session = store.session("train", PARAMS).start()
    session.log(loss=0.5)
    getattr(session, end)()

    assert session.summary["loss"]["last"] == 0.5
    assert run_of(session)["attempts"][0]["summary"]["loss"]["count"] == 1


def test_a_restart_goes_on_with_the_curve(store):
    session = store.session("train", PARAMS).start()
    for step in range(4):
        session.log(loss=float(step))
    session.interrupt("SIGTERM")
    session.start()
    for step in (2, 3, 4):
        session.log(loss=10.0 * step, step=step)
    session.done()

    assert session.metrics("loss").steps.tolist() == [0, 1, 2, 3, 4]
    assert session.metrics("loss").values.tolist() == [0, 1, 20, 30, 40]


def test_logging_begins_an_attempt_and_a_finished_run_takes_no_rows(store):
    session = store.session("train", PARAMS)
    session.log(loss=1)
    assert session.status is Status.RUNNING
    session.done()

    with pytest.raises(StateError, match="log before done"):
        session.log(loss=2)
    with pytest.raises(StateError, match="log before done"):
        Project(store.root).session("train", PARAMS).log(loss=2)
    assert len(session.metrics("loss")) == 1


def test_two_handles_log_to_one_series(store):
    one, two = store.session("train", PARAMS).start(), store.session("train", PARAMS)
    one.log(loss=1)
    two.log(loss=2)
    one.done()

    assert one.metrics("loss").values.tolist() == [1, 2]
    assert one.metrics("loss").steps.tolist() == [0, 1]


def test_a_rank_logs_beside_and_begins_nothing(store):
    session = store.session("train", PARAMS).start()
    session.log(loss=1.0)
    code = (
        "import sys, tracker\n"
        "session = tracker.Project(sys.argv[1]).session('train', {'lr': 0.1})\n"
        "for step in range(3): session.log(loss=step * 1.5)\n"
    )
    environment = os.environ | {"RANK": "1"}
    subprocess.run([sys.executable, "-c", code, store.root], check=True, env=environment)
    session.done()
    run = run_of(session)

    assert [attempt["status"] for attempt in run["attempts"]] == ["done"]
    assert session.metrics("loss").values.tolist() == [1.0]
    assert session.metrics("loss", rank=1).values.tolist() == [0.0, 1.5, 3.0]


def test_a_name_that_was_not_logged_is_told_with_what_is_like_it(store):
    with store.session("train", PARAMS) as session:
        session.log({"train/loss": 1})

    assert session.metric_names == ["train/loss"]
    with pytest.raises(NotFoundError, match="'train/loss'"):
        session.metrics("loss")


def test_done_again_after_a_refusal_tells_the_summary(store, monkeypatch):
    session = store.session("train", PARAMS).start()
    session.log(loss=1.5)
    real = ledgers.Ledger.append

    def refuse(*_: object) -> None:
        raise ledgers.StorageError(5, "a", "append to", "Input/output error", "wait")

    with monkeypatch.context() as patch:
        patch.setattr(ledgers.Ledger, "append", refuse)
        with pytest.raises(ledgers.StorageError):
            session.done()
    assert ledgers.Ledger.append is real
    session.done()

    assert run_of(session)["summary"]["loss"]["last"] == 1.5


# Files that are kept, and read


def test_what_is_saved_is_a_file_of_the_run_under_its_hash_once(store):
    one, two = (store.session("train", {"n": n}).start() for n in (1, 2))
    path = one.save("weights", b"0123")
    two.save("copy", b"0123")
    one.done()
    two.done()

    assert path.read_bytes() == b"0123"
    assert path.relative_to(store.root / ".tracker" / "objects").as_posix().replace("/", "") == (
        blake3(b"0123").hexdigest()
    )
    assert one.files == {"weights": path}
    assert two.files == {"copy": path}
    assert run_of(one)["attempts"][0]["files"][0][2:4] == [4, blake3(b"0123").hexdigest()]


def test_an_input_names_the_run_that_made_it(store):
    with store.session("train", PARAMS) as train:
        train.path("model").write_text("weights")
    with store.session("eval", PARAMS) as session:
        assert session.use(train.path("model")).read_text() == "weights"
    (found,) = session.inputs.values()

    assert found.source == train.ref
    assert run_of(session)["attempts"][0]["inputs"] == [
        ["train_model", f"{train.uid}/train_model", 7, blake3(b"weights").hexdigest(), False, train.ref]
    ]


def test_an_input_from_outside_is_external(store, tmp_path):
    (tmp_path / "raw.csv").write_text("1,2")
    with store.session("eval", PARAMS) as session:
        session.use(tmp_path / "raw.csv", name="raw")

    assert session.inputs["raw"].external
    assert session.inputs["raw"].path == str(tmp_path / "raw.csv")
    assert session.inputs["raw"].digest == blake3(b"1,2").digest()


def test_what_is_not_there_cannot_be_used(store, tmp_path):
    session = store.session("eval", PARAMS)
    with pytest.raises(NotFoundError):
        session.use(tmp_path / "nothing")

    assert session.status is Status.PENDING
    assert not Path(store.root).exists()


def test_a_run_that_was_used_and_saved_to_is_whole_without_its_process(store):
    code = (
        "import sys, os, tracker\n"
        "session = tracker.Project(sys.argv[1]).session('train', {'lr': 0.1}).start()\n"
        "for step in range(10): session.log(loss=step)\n"
        "session.flush(); print('flushed', flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    dead = subprocess.run([sys.executable, "-c", code, store.root], capture_output=True, text=True)
    assert (dead.returncode, dead.stdout) == (-9, "flushed\n")
    session = store.session("train", PARAMS)

    assert session.status is Status.LOST
    assert session.metrics("loss").values.tolist() == list(range(10))


WORKER = """
import multiprocessing, sys
from tracker import Project

def work(root):
    for step in range(7):
        Project(root).session("train", {"lr": 0.1}).log(inner=step)

if __name__ == "__main__":
    project = Project(sys.argv[1])
    session = project.session("train", {"lr": 0.1}).start()
    session.log(loss=1)
    worker = multiprocessing.get_context(sys.argv[2]).Process(target=work, args=(sys.argv[1],))
    worker.start()
    worker.join()
    assert worker.exitcode == 0
    print([project.session("train", {"lr": 0.1}).status, session.metrics("inner").values.tolist()])
    session.done()
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_what_a_worker_of_multiprocessing_logged_is_there_when_it_has_ended(store, tmp_path, method):
    (tmp_path / "worker.py").write_text(WORKER)
    line = [sys.executable, tmp_path / "worker.py", store.root, method]
    ran = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)

    assert ran.stdout == f"[<Status.RUNNING: 'running'>, {list(range(7))}]\n"
    assert sorted(store.get("train", PARAMS).summary) == ["inner", "loss"]


def test_others_may_record_while_a_used_file_is_read(store, tmp_path, monkeypatch):
    (tmp_path / "raw.csv").write_text("1,2")
    taken: list[bool] = []

    def watched(*asked: Any) -> Any:
        def take() -> None:
            taken.append(store.ledger.lock.acquire(timeout=20))
            store.ledger.lock.release()

        other = threading.Thread(target=take)
        other.start()
        other.join()
        return sealing.seal_files(*asked)

    monkeypatch.setattr(using, "seal_files", watched)
    with store.session("eval", PARAMS) as session:
        session.use(tmp_path / "raw.csv")

    assert taken == [True]
    assert [*session.inputs] == ["raw.csv"]


def test_what_the_machine_does_is_sampled_until_the_end(store):
    with store.session("train", PARAMS) as session:
        session.sample_system(0.1)
        session.log(loss=1)
        time.sleep(0.35)
        session.log(loss=2)
    memory = session.metrics("system/rss_bytes")

    assert session.metrics("loss").steps.tolist() == [0, 1]
    assert memory.steps.tolist() == list(range(len(memory)))
    assert len(memory) >= 2
    assert memory.values.min() > 1 << 20
    with pytest.raises(ValueError, match=r"0\.1 s or more"):
        store.session("train", {"n": 2}).sample_system(0)


def test_a_rank_that_comes_before_the_one_that_begins_the_run_takes_nothing_from_it(store, monkeypatch):
    code = (
        "import sys, tracker\n"
        "session = tracker.Project(sys.argv[1]).session('train', {'lr': 0.1})\n"
        "for step in range(3): session.log(loss=step * 1.5)\n"
    )
    environment = os.environ | {"SLURM_PROCID": "3"}
    subprocess.run([sys.executable, "-c", code, store.root], check=True, env=environment)
    session = store.session("train", PARAMS)

    assert session.status is Status.PENDING
    with session:
        session.log(loss=9.0)
    assert session.metrics("loss").values.tolist() == [9.0]
    assert session.metrics("loss", rank=3).values.tolist() == [0.0, 1.5, 3.0]
    assert session.summary["loss"]["last"] == 9.0


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: Project(store.root, provenance="off"),
        lambda store: Project(store.root, seal="md5"),
        lambda store: store.session("train", PARAMS).start(capture="file"),
        lambda store: store.session("train", PARAMS).use(None),
        lambda store: store.session("train", PARAMS).history(form="tall"),
        lambda store: store.session("train", PARAMS).sample_system("x"),
    ],
)
def test_what_cannot_be_meant_is_told_with_what_can(store, ask):
    with pytest.raises(ValueError, match=r"give|sample every"):
        ask(store)
