"""One gathering for each process, beside the program. Spec: spec/provenance.md sections 2, 3 and 6."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from tracker._codec.canonical import is_canonical
from tracker.provenance import capture
from tracker.provenance.capture import Facts, Gathering, begin

PYTHON = str(Path(sys.executable))

TELL = """
import json, sys
from tracker.provenance import capture
facts = capture.begin().wait(60)
objects = {name.hex(): data.decode("latin-1") for name, data in facts.objects}
print(json.dumps([facts.for_run(sys.argv[1], params={"seed": 3, "lr": 0.1}), objects]))
"""


@pytest.fixture(autouse=True)
def _own_gathering() -> Iterator[None]:
    capture.forget()
    yield
    capture.forget()


def tell(*words: str, cwd: Path, environment: dict[str, str], executable: str = PYTHON) -> tuple[dict, dict]:
    command = [executable, *words]
    done = subprocess.run(command, cwd=cwd, env=environment, check=True, stdout=subprocess.PIPE)
    facts, objects = json.loads(done.stdout)
    for name, data in objects.items():
        assert blake3(data.encode("latin-1")).hexdigest() == name
    return facts, objects


def test_a_script_in_a_repository(repository):
    commit = repository.commit(lab__tell_py=TELL.encode())
    root = repository.top / "results"
    facts, objects = tell(
        "-X", "utf8", "lab/tell.py", str(root), "--lr", "0.1", "--api-key", "abc",
        cwd=repository.top, environment=repository.environment | {"OMP_NUM_THREADS": "4", "HOME_TOKEN": "x"},
    )  # fmt: skip

    assert facts == {
        "environment": facts["environment"],
        "code": facts["code"],
        "commit": commit,
        "branch": "main",
        "dirty": False,
        "argv": [PYTHON, "-X", "utf8", "lab/tell.py", str(root), "--lr", "0.1", "--api-key", "***"],
        "variables": {"OMP_NUM_THREADS": "4"},
        "cwd": "..",
        "repository": "..",
        "script": "lab/tell.py",
        "seeds": {"seed": 3},
    }
    assert set(objects) == {facts["environment"], facts["code"]}
    assert json.loads(objects[facts["code"]])["commit"] == commit
    assert len(json.dumps(facts, separators=(",", ":"))) < 700


def test_the_environment_is_one_object_in_two_processes_anywhere(repository, tmp_path):
    repository.write("tell.py", TELL.encode())
    (tmp_path / "elsewhere").mkdir()
    first, objects = tell("tell.py", "x", cwd=repository.top, environment=repository.environment)
    time.sleep(1.1)
    other = repository.environment | {"LANG": "C", "PYTHONHASHSEED": "5", "OMP_NUM_THREADS": "1"}
    second, again = tell(str(repository.top / "tell.py"), "y", cwd=tmp_path / "elsewhere", environment=other)

    assert first["environment"] == second["environment"]
    assert first["code"] == second["code"]
    assert objects == again
    text = objects[first["environment"]]
    assert is_canonical(text.encode())
    assert {*json.loads(text)} >= {"python", "platform", "machine", "packages"}
    for volatile in (os.uname().nodename, str(tmp_path), sys.prefix):
        assert volatile not in text


def test_a_script_outside_a_repository_is_named_from_the_root(repository, tmp_path):
    (tmp_path / "tell.py").write_text(TELL)
    inside, _ = tell("tell.py", str(tmp_path), cwd=tmp_path, environment=repository.environment)
    outside, _ = tell("tell.py", str(tmp_path / "sub"), cwd=tmp_path, environment=repository.environment)

    assert (inside["script"], inside["cwd"]) == ("tell.py", ".")
    assert (outside["script"], outside["cwd"]) == (str(tmp_path / "tell.py"), "..")
    assert inside["problems"] == ["git: no repository"]
    assert "code" not in inside and "repository" not in inside


def test_code_of_the_working_directory_where_there_is_no_script(repository):
    facts, _ = tell("-c", TELL, str(repository.top), cwd=repository.top, environment=repository.environment)

    assert "script" not in facts
    assert (facts["branch"], facts["cwd"], facts["repository"]) == ("main", ".", ".")


def test_a_module_is_a_script_too(repository):
    repository.commit(lab__tell_py=TELL.encode())
    facts, _ = tell("-m", "lab.tell", "x", cwd=repository.top, environment=repository.environment)

    assert facts["script"] == "lab/tell.py"
    assert facts["argv"] == [PYTHON, "-m", "lab.tell", "x"]


def test_long_words_are_an_object(repository):
    repository.write("tell.py", TELL.encode())
    words = [f"--w{i}={'v' * 40}" for i in range(60)]
    environment = repository.environment | {"PYTHONPATH": ":".join(f"/p{i}/{'x' * 60}" for i in range(60))}
    facts, objects = tell("tell.py", "x", *words, cwd=repository.top, environment=environment)

    assert json.loads(objects[facts["argv"]]) == {"argv": [PYTHON, "tell.py", "x", *words]}
    assert json.loads(objects[facts["variables"]])["variables"]["PYTHONPATH"].startswith("/p0/")


def test_a_worker_of_a_pool_has_the_programs_command_line(repository):
    pool = """
import json, multiprocessing, sys
from tracker.provenance import capture

def work(root):
    return capture.begin().wait(60).for_run(root)

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(json.dumps([pool.apply(work, [sys.argv[1]]), {}]))
"""
    repository.commit(pool_py=pool.encode())
    facts, _ = tell("pool.py", str(repository.top), cwd=repository.top, environment=repository.environment)

    assert facts["argv"] == [PYTHON, "pool.py", str(repository.top)]
    assert (facts["script"], facts["dirty"]) == ("pool.py", False)


def test_the_gathering_of_a_process_is_one():
    assert begin() is begin()
    facts = begin().wait(60)
    assert begin().ready is facts
    assert begin().wait(0) is facts


def test_many_threads_begin_one():
    found: list[Gathering] = []
    threads = [threading.Thread(target=lambda: found.append(begin())) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({id(one) for one in found}) == 1
    assert sum(thread.name == "tracker-provenance" for thread in threading.enumerate()) <= 1


def test_who_asks_to_be_told_is_told_once():
    told: list[Facts] = []
    gathering = begin()
    gathering.when_ready(told.append)
    facts = gathering.wait(60)
    for thread in threading.enumerate():
        if thread.name == "tracker-provenance":
            thread.join(10)
    gathering.when_ready(told.append)

    assert told == [facts, facts]


@pytest.fixture
def slow_git(tmp_path, monkeypatch) -> None:
    """A git that takes three seconds over each answer."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").write_text("#!/bin/sh\nsleep 3\n")
    (tmp_path / "bin" / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")


def test_past_the_time_there_is_what_is_known_by_then(slow_git):
    gathering = begin()
    facts = gathering.wait(0.5)

    assert "environment" in facts.process
    assert facts.process["problems"] == ["code: not known in time"]
    assert gathering.ready is None
    assert gathering.wait(60).process["problems"] == ["git: gave no answer"]


def in_child(work) -> str:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, str(work()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        told = file.read()
    os.waitpid(child, 0)
    return told.decode()


def test_a_forked_child_takes_what_was_finished():
    facts = begin().wait(60)

    assert in_child(lambda: begin().ready == facts) == "True"


def test_a_forked_child_gathers_anew_what_was_not(slow_git):
    gathering = begin()
    told: list[Facts] = []
    gathering.when_ready(told.append)
    with gathering._lock:  # held by a thread of the parent at the fork
        ready, known = in_child(lambda: [begin().ready, begin().wait(60).process["problems"]]).split(", ", 1)

    assert ready == "[None"
    assert known == "['git: gave no answer']]"
    assert gathering.wait(60).process["problems"] == ["git: gave no answer"]


def test_a_forked_child_calls_back_with_what_was_finished_as_it_was_forked():
    gathering = begin()
    facts = gathering.wait(60)

    def told() -> bool:
        seen: list[Facts] = []
        waiter = threading.Thread(target=begin().when_ready, args=(seen.append,), daemon=True)
        waiter.start()
        waiter.join(20)
        return seen == [facts]

    with gathering._lock:  # held by the thread that gathered, as it tells
        assert in_child(told) == "True"


def test_a_program_ends_at_once_and_quietly_while_it_is_gathered(repository, slow_git):
    script = "import os, sys\nfrom tracker.provenance import capture\ncapture.begin()\n" + "print('end')\n"
    before = time.monotonic()
    done = subprocess.run(
        [PYTHON, "-c", script], cwd=repository.top, env=os.environ, capture_output=True, check=True
    )

    assert (done.stdout, done.stderr) == (b"end\n", b"")
    assert time.monotonic() - before < 3


def test_nothing_is_gathered_while_the_interpreter_ends(repository):
    script = (
        "import atexit\nfrom tracker.provenance import capture\n"
        "atexit.register(lambda: print(sorted(capture.begin().wait(20).process)))\n"
    )
    done = subprocess.run([PYTHON, "-c", script], cwd=repository.top, capture_output=True, check=True)

    assert done.stderr == b""
    assert b"argv" in done.stdout


def test_forking_all_the_time_holds_up_nobody(repository):
    script = """
import os, time
from tracker.provenance import capture
gathering = capture.begin()
children = []
while gathering.ready is None:
    child = os.fork()
    if child == 0:
        time.sleep(5)
        os._exit(0)
    children.append(child)
    time.sleep(0.001)
print(gathering.ready.process.get("branch"))
for child in children:
    os.kill(child, 9)
    os.waitpid(child, 0)
"""
    before = time.monotonic()
    done = subprocess.run(
        [PYTHON, "-W", "ignore", "-c", script], cwd=repository.top, env=repository.environment,
        capture_output=True, check=True,
    )  # fmt: skip

    assert done.stdout == b"main\n", done.stderr
    assert time.monotonic() - before < 5


def test_given_seeds_count_and_params_are_not_looked_at():
    facts = Facts({"dirty": False}, ())

    assert facts.for_run("/r", params={"seed": 1}, seeds={"torch": 2})["seeds"] == {"torch": 2}
    assert facts.for_run("/r", params={"seed": 1}, seeds={}) == {"dirty": False}
    assert facts.for_run("/r", params={"seed": 1}) == {"dirty": False, "seeds": {"seed": 1}}


def test_what_fails_is_a_word(monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("ghp_16C7e42F292c6912E7710c838347Ae178B4a")

    monkeypatch.setattr(capture, "list_packages", fail)
    monkeypatch.setattr(capture, "gather_code", fail)
    facts = Gathering().wait(20)

    assert facts.process["problems"] == ["environment: RuntimeError", "code: RuntimeError"]
    assert facts.objects == () or all(name for name, _ in facts.objects)
