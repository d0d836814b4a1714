"""What a start records of code, environment and command: when, where, and never at the cost of the run.

Spec: spec/provenance.md sections 2 and 6.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import reference
from blake3 import blake3

from tracker import ParamsError, Project, Session, Status
from tracker.provenance import capture

PARAMS = {"lr": 0.1}


@pytest.fixture
def gathered() -> capture.Facts:
    """The facts of this process, known before the test begins."""
    return capture.begin().wait(30)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """A gathering that ends when the event is set."""
    capture.begin().wait(30)
    allowed = threading.Event()
    real = capture.Gathering._gather

    def gather(self: capture.Gathering) -> None:
        assert allowed.wait(60)
        real(self)

    monkeypatch.setattr(capture.Gathering, "_gather", gather)
    capture.forget()
    yield allowed
    allowed.set()
    capture.begin().wait(30)
    monkeypatch.undo()
    capture.forget()


def attempts(session: Session) -> list[dict[str, Any]]:
    runs = reference.read_store(session._place.root)["runs"]
    return next(run for run in runs if run["ref"] == session.ref)["attempts"]


def tags(root: Path) -> list[list[str]]:
    """The kinds of the events of each frame, in the order in which this process wrote them."""
    events = reference.read_events(reference.read_ledger(root))
    frames: dict[int, list[str]] = {}
    for event in events:
        frames.setdefault(event.held.frame.seq, []).append(event.tag)
    return [frames[seq] for seq in sorted(frames)]


def test_facts_that_are_known_stand_in_the_frame_of_the_start(store, gathered):
    store.session("train", PARAMS).start()

    assert tags(store.root) == [["created", "started", "captured"]]


def test_facts_that_come_later_are_recorded_while_the_run_runs(store, slow):
    session = store.session("train", PARAMS).start()
    assert tags(store.root) == [["created", "started"]]
    recorded = threading.Event()
    capture.begin().when_ready(lambda _: recorded.set())
    slow.set()
    assert recorded.wait(30)

    assert tags(store.root) == [["created", "started"], ["captured"]]
    session.done()
    assert tags(store.root) == [["created", "started"], ["captured"], ["done"]]
    assert session.provenance == attempts(session)[0]["facts"]


def test_an_end_waits_for_facts_and_tells_them_in_its_frame(store, slow):
    session = store.session("train", PARAMS).start()
    threading.Timer(0.2, slow.set).start()
    session.done()

    assert [set(frame) for frame in tags(store.root)][-1] >= {"done"}
    assert sum(frame.count("captured") for frame in tags(store.root)) == 1
    assert attempts(session)[0]["environment"] == session.provenance["environment"]


def test_an_attempt_in_one_step_has_facts(store, gathered):
    session = store.session("train", PARAMS).done()

    assert tags(store.root) == [["created", "started", "captured", "done"]]
    assert session.provenance["argv"] == gathered.process["argv"]


def test_what_the_facts_name_is_on_disk_under_its_hash_and_in_the_manifest(store, gathered):
    session = store.session("train", PARAMS).done()
    facts = session.provenance
    path = store.root / ".tracker" / "objects" / facts["environment"][:2] / facts["environment"][2:]
    (manifest,) = [json.loads(file.read_bytes()) for file in store.root.glob(".tracker/manifests/*/*.json")]

    assert blake3(path.read_bytes()).hexdigest() == facts["environment"] == manifest["environment"]
    assert manifest["facts"] == facts
    assert json.loads(path.read_bytes())["python"]["version"] == ".".join(map(str, sys.version_info[:3]))


THOUSAND = """
import sys
from tracker import Durability, Project

for root, provenance in (("with", True), ("without", False)):
    project = Project(root, durability=Durability.OFF, provenance=provenance)
    for n in range(1000):
        project.session("train", {"n": n}).done()
    project.ledger.close()
"""


def test_a_thousand_runs_of_one_script_share_their_objects(tmp_path):
    """What provenance adds to each: no file of its own, and 500 bytes of history at most."""
    (tmp_path / "train.py").write_text(THOUSAND)
    subprocess.run([sys.executable, "train.py", "--epochs", "20"], cwd=tmp_path, check=True)
    files = {
        how: [path for path in (tmp_path / how / ".tracker").rglob("*") if path.is_file()]
        for how in ("with", "without")
    }
    history = {how: sum(path.stat().st_size for path in files[how] if path.suffix == ".seg") for how in files}
    runs = reference.read_store(tmp_path / "with")["runs"]

    assert len(runs) == 1000
    assert len({run["attempts"][0]["environment"] for run in runs}) == 1
    assert 0 < len(files["with"]) - len(files["without"]) <= 3
    assert 0 < history["with"] - history["without"] <= 500 * 1000


def test_seeds_are_those_given_else_those_of_the_params(store, gathered):
    given = store.session("train", PARAMS).start(seeds={"torch": 7}).done()
    named = store.session("train", {"seed": 3, "data": {"split_seed": 4}}).done()
    none = store.session("train", {"reseed": True}).done()

    assert given.provenance["seeds"] == {"torch": 7}
    assert named.provenance["seeds"] == {"data.split_seed": 4, "seed": 3}
    assert "seeds" not in none.provenance


def test_a_second_attempt_has_facts_of_its_own(store, gathered):
    session = store.session("train", PARAMS).start(seeds={"torch": 1}).error()
    session.start(seeds={"torch": 2}).done()

    assert [attempt["facts"]["seeds"] for attempt in attempts(session)] == [{"torch": 1}, {"torch": 2}]


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_one_switch_puts_it_off(tmp_path, monkeypatch, how):
    if how == "variable":
        monkeypatch.setenv("TRACKER_PROVENANCE", "off")
    project = Project(tmp_path, provenance=how == "variable").sub("a")
    session = project.session("train", PARAMS).start().done()

    assert session.provenance == {}
    assert tags(tmp_path) == [["created", "started"], ["done"]]
    assert not (tmp_path / ".tracker" / "objects").exists()


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/self").exists(), reason="nothing to refuse with")
def test_a_store_that_takes_no_objects_has_a_word_and_the_run_goes_on(store, gathered):
    store.session("other", PARAMS).start().done()
    objects = store.root / ".tracker" / "objects"
    for path in sorted(objects.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    objects.rmdir()
    objects.write_text("in the way")
    store.ledger._kept.clear()
    session = store.session("train", PARAMS).start().done()
    (problem,) = [word for word in session.provenance["problems"] if word.startswith("objects")]

    assert session.status is Status.DONE
    assert "not kept" in problem
    assert "environment" not in session.provenance
    objects.unlink()


def test_a_forked_child_records_its_own_runs(tmp_path, gathered):
    project = Project(tmp_path)
    project.session("parent", PARAMS).start()
    child = os.fork()
    if child == 0:
        try:
            project.session("child", PARAMS).start().done()
            project.ledger.close()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0

    (there,) = Project(tmp_path).find("child")
    assert there.provenance["argv"] == gathered.process["argv"]


def test_facts_that_come_as_the_process_ends_begin_no_other_journal(tmp_path):
    code = (
        "import atexit, sys\n"
        "atexit.register(lambda: capture.begin()._thread.join(60))  # after the exit handler of the package\n"
        "import tracker\n"
        "from tracker.provenance import capture\n"
        "session = tracker.Project(sys.argv[1]).session('train', {'lr': 0.1}).start()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, check=True)
    (run,) = reference.read_store(tmp_path)["runs"]

    assert ended.stderr == b""
    assert run["status"] == "lost"
    assert [*tmp_path.glob(".tracker/ledger/*/*.open")] == []


def test_a_fresh_process_records_facts_of_a_short_run(tmp_path):
    code = (
        "import sys, tracker\n"
        "with tracker.Project(sys.argv[1]).session('train', {'lr': 0.1}) as session: pass\n"
        "assert session.provenance['argv'][-1] == sys.argv[1]"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, cwd=tmp_path)
    (run,) = reference.read_store(tmp_path)["runs"]
    facts = run["attempts"][0]["facts"]

    assert facts["cwd"] == "."
    assert facts["problems"] == ["git: no repository"]
    assert run["attempts"][0]["environment"] == facts["environment"]


def test_a_start_after_a_file_tells_seeds_of_the_attempt_that_the_file_began(store, gathered):
    session = store.session("train", PARAMS)
    session.attach_files({"log": store.root / "log"})
    session.start(seeds={"torch": 9}).done()
    (attempt,) = attempts(session)

    assert attempt["facts"]["seeds"] == {"torch": 9}
    assert attempt["facts"]["environment"] == gathered.process["environment"]


@pytest.mark.parametrize("seeds", [7, {"torch": "1"}, {1: 1}, {"torch": 2**64}, {"torch": 1.0}])
def test_seeds_that_are_no_integers_under_names_are_refused_before_anything_is_recorded(store, seeds):
    with pytest.raises(ParamsError, match="seeds"):
        store.session("train", PARAMS).start(seeds=seeds)

    assert store.session("train", PARAMS).status is Status.PENDING
    store.session("train", PARAMS).start().done()


def test_output_is_a_file_of_the_run_and_sealed_with_it(tmp_path):
    code = (
        "import sys, os, tracker\n"
        "with tracker.Project(sys.argv[1], capture='tee').session('train', {'lr': 0.1}):\n"
        "    print('from python'); sys.stdout.flush(); os.system('echo from a child')\n"
        "print('afterwards')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    session = Project(tmp_path).get("train", PARAMS)
    kept = session.files["output.log"].read_bytes()
    (file,) = attempts(session)[0]["files"]

    assert done.stdout == "from python\nfrom a child\nafterwards\n"
    assert kept == b"from python\nfrom a child\n"
    assert file[:1] + file[2:4] == ["output.log", len(kept), blake3(kept).hexdigest()]


def test_facts_that_are_told_again_without_their_objects_leave_what_was_recorded(store, gathered):
    session = store.session("train", PARAMS)
    session.attach_files({"log": store.root / "log"})
    objects = store.root / ".tracker" / "objects"
    aside = objects.rename(objects.with_name("aside"))
    objects.write_text("in the way")
    store.ledger._kept.clear()
    session.start(seeds={"torch": 1})
    objects.unlink()
    aside.rename(objects)
    session.done()
    (manifest,) = reference.manifests(store.root).values()

    assert [path.read_bytes() for path in store.root.glob(".tracker/manifests/*/*.json")] == [manifest]
    assert session.provenance["environment"] == gathered.process["environment"]


def test_seeds_that_are_refused_leave_the_output_where_it_was(store):
    session = store.session("train", PARAMS)
    session.attach_files({"log": store.root / "log"})
    with pytest.raises(ParamsError, match="seeds"):
        session.start(seeds={"torch": "1"}, capture="tee")

    assert not session.path("output.log").exists()
    session.start().done()
