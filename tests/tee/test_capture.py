"""Output on pipes, on a terminal, from C and from children: shown at once, kept, and put back as it was.

Each program runs in a process of its own; the judge is what it wrote by the operating system's account.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TextIO

import pytest
from tee_children import HEAD, run_on_terminal, run_program

from tracker import StorageError
from tracker.tee import LIMIT_BYTES, start
from tracker.tee.pump import MARK


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "output.log"


EVERY_WRITER = """
print("print")
os.write(1, b"fd\\xff\\n")
os.system("echo shell")
subprocess.run(["sh", "-c", "echo child; echo err >&2"])
sys.stderr.write("stderr\\n")
sys.stdout.buffer.write(b"buffer\\n")
sys.stdout.flush()
tee.stop()
print("after")
"""


def test_on_one_pipe_all_is_kept_in_the_order_in_which_it_came(place: Path) -> None:
    ended = run_program(EVERY_WRITER, place, merged=True)

    assert ended.code == 0
    assert ended.kept == b"print\nfd\xff\nshell\nchild\nerr\nstderr\nbuffer\n"
    assert ended.out == ended.kept + b"after\n"


def test_each_stream_goes_where_it_went(place: Path) -> None:
    ended = run_program(EVERY_WRITER, place)

    assert ended.out == b"print\nfd\xff\nshell\nchild\nbuffer\nafter\n"
    assert ended.err == b"err\nstderr\n"
    assert sorted([*ended.kept.splitlines(), b"after"]) == sorted((ended.out + ended.err).splitlines())


def test_lines_of_two_streams_do_not_run_into_each_other(place: Path) -> None:
    body = """
for number in range(300):
    for stream in (sys.stdout, sys.stderr):
        stream.write("half of ")
        stream.flush()
        stream.write(f"line {number}\\n")
tee.stop()
"""
    ended = run_program(body, place)
    lines = ended.kept.splitlines()

    assert ended.out == ended.err == b"".join(b"half of line %d\n" % number for number in range(300))
    assert sorted(lines) == sorted(2 * ended.out.splitlines())


def test_a_terminal_stays_one_and_gets_every_state_of_a_bar(place: Path) -> None:
    body = """
    print(sys.stdout.isatty(), sys.stderr.isatty(), os.get_terminal_size().columns)
    for step in range(50):
        print(f"\\r{step + 1}/50", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    """.replace("\n    ", "\n")
    ended = run_on_terminal(body + "tee.stop()\nprint(sys.stdout.isatty())", place)

    bar = b"".join(b"\r%d/50" % (step + 1) for step in range(50))
    assert ended.out == b"True True 77\r\n" + bar + b"\r\nTrue\r\n"
    assert ended.kept == b"True True 77\n50/50\n"


def test_a_terminal_that_is_resized_is_followed(place: Path) -> None:
    body = """
import fcntl, struct, termios
fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 11, 99, 0, 0))
by = time.monotonic() + 10
while os.get_terminal_size(1) != (99, 11) and time.monotonic() < by:
    time.sleep(0.05)
print(*os.get_terminal_size(1))
tee.stop()
"""
    assert run_on_terminal(body, place).kept == b"99 11\n"


def test_c_code_that_holds_the_interpreter_while_it_writes_does_not_wait_for_ever(place: Path) -> None:
    """A terminal takes 12 KiB from one who does not read; a traceback of C code is longer here."""
    body = """
import faulthandler
scope = {"dump": lambda: faulthandler.dump_traceback(1)}
exec(compile("def down(n):\\n    down(n - 1) if n else dump()", "x" * 400, "exec"), scope)
scope["down"](200)
tee.stop()
"""
    ended = run_on_terminal(body, place)

    assert ended.code == 0
    assert len(ended.kept) > 40_000
    assert ended.out.replace(b"\r\n", b"\n") == ended.kept


def test_descriptors_are_what_they_were(place: Path) -> None:
    body = """
tee.stop()
def known():
    import fcntl
    return [(os.fstat(n)[:3], fcntl.fcntl(n, fcntl.F_GETFL), os.get_inheritable(n)) for n in (1, 2)]
before, opened = known(), sorted(os.listdir("/dev/fd"))
streams = sys.stdout, sys.stderr, sys.stdout.line_buffering
for _ in range(3):
    tee = start(sys.argv[0] + "x", run="again")
    assert known() != before
    tee.stop()
assert known() == before
assert sorted(os.listdir("/dev/fd")) == opened
assert (sys.stdout, sys.stderr, sys.stdout.line_buffering) == streams
assert tee.stop() == tee.stop()
print("good")
"""
    ended = run_program(body, place, cwd=place.parent)

    assert (ended.out, ended.err) == (b"good\n", b"")


def test_a_closed_standard_output_stays_closed(place: Path) -> None:
    code = f"{HEAD}\ntee = start({str(place)!r})\nos.system('echo kept'); tee.stop()\ntry: os.fstat(1)\n"
    code += "except OSError: print('closed', file=sys.stderr)"
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, code], stderr=subprocess.PIPE, timeout=60
    )

    assert (done.returncode, done.stderr) == (0, b"closed\n")
    assert place.read_bytes() == b"kept\n"


def test_captures_may_lie_within_each_other_and_end_in_any_order(place: Path) -> None:
    body = f"""
print("one")
inner = start({str(place)!r} + ".inner", run="inner")
print("two")
tee.stop()
print("three")
inner.stop()
print("four")
"""
    ended = run_program(body, place)

    assert ended.out == b"one\ntwo\nthree\nfour\n"
    assert ended.kept == b"one\ntwo\n"
    assert place.with_name("output.log.inner").read_bytes() == b"two\nthree\n"


def test_another_thread_is_refused_and_told_whose_output_it_is(place: Path) -> None:
    body = f"""
import threading
def other():
    try:
        start({str(place)!r} + "2", run="train/2")
    except RuntimeError as error:
        print(error)
thread = threading.Thread(target=other)
thread.start()
thread.join()
tee.stop()
"""
    ended = run_program(body, place, name="train/1")

    assert ended.out == ended.kept
    assert b"run train/2 is pending: its output cannot be told from that of train/1" in ended.out
    assert not place.with_name("output.log2").exists()


def test_a_child_that_holds_on_is_passed_on_and_not_waited_for(place: Path) -> None:
    body = """
child = subprocess.Popen(["sh", "-c", "echo early; sleep 2; echo late; echo later"])
time.sleep(0.5)
begin = time.monotonic()
tee.stop()
assert time.monotonic() - begin < 1.5
child.wait()
"""
    ended = run_program(body, place)

    assert ended.code == 0
    assert ended.out == b"early\nlate\nlater\n"
    assert ended.kept == b"early\n"


def test_a_child_that_never_pauses_ends_no_wait(place: Path) -> None:
    body = """
child = subprocess.Popen(["yes"])
time.sleep(0.3)
begin = time.monotonic()
report = tee.stop()
took = time.monotonic() - begin
child.kill()
child.wait()
assert took < 8, took
assert report.bytes_dropped > 0
"""
    code = f"{HEAD}\ntee = start({str(place)!r})\n{body}"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, timeout=60)

    assert done.returncode == 0
    assert place.stat().st_size <= LIMIT_BYTES


def test_a_forked_child_goes_on_writing_and_stops_nothing(place: Path) -> None:
    body = """
pid = os.fork()
if not pid:
    print("child", flush=True)
    assert tee.stop() == (0, 0, None)
    print("still", flush=True)
    os._exit(0)
os.waitpid(pid, 0)
print("parent")
tee.stop()
"""
    ended = run_program(body, place)

    assert ended.out == ended.kept == b"child\nstill\nparent\n"


def test_a_process_that_ends_without_a_stop_keeps_all_of_it(place: Path) -> None:
    ended = run_program("print('x')\nraise ValueError('at the end')", place, merged=True)

    assert ended.code == 1
    assert ended.kept == ended.out
    assert ended.kept.endswith(b"ValueError: at the end\n")


def wait_until_whole(place: Path, size: int) -> bytes:
    """The pump reads on when its process is gone: wait for it."""
    by = time.monotonic() + 20
    while place.stat().st_size < size and time.monotonic() < by:
        time.sleep(0.01)
    return place.read_bytes()


@pytest.mark.parametrize("at", [1, 2, 3])
def test_kill_9_keeps_every_byte_that_was_written(at: int, place: Path, tmp_path: Path) -> None:
    """The program tells in a file of its own how many lines it has written, then goes on."""
    told = tmp_path / "told"
    body = f"""
told = os.open({str(told)!r}, os.O_CREAT | os.O_WRONLY)
for number in range(10**9):
    os.write(1, b"line %d\\n" % number)
    os.pwrite(told, b"%d" % (number + 1), 0)
"""
    code = f"{HEAD}\ntee = start({str(place)!r})\n{body}"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL) as process:
        by = time.monotonic() + 20
        while not told.exists() or int(told.read_bytes() or 0) < 10_000:
            assert time.monotonic() < by, "it writes nothing"
            time.sleep(0.01)
        time.sleep(at * 0.1)
        process.send_signal(signal.SIGKILL)
    count = int(told.read_bytes())
    text = b"".join(b"line %d\n" % number for number in range(count))

    kept = wait_until_whole(place, min(len(text), LIMIT_BYTES - 100))
    assert kept.startswith(text) or MARK.search(kept)


def test_a_group_that_is_told_to_end_keeps_what_its_processes_say_last(place: Path) -> None:
    code = f"""{HEAD}
import signal
signal.signal(signal.SIGTERM, lambda *_: (print("told to end", flush=True), os._exit(0)))
tee = start({str(place)!r})
print("ready", flush=True)
for _ in range(600):
    time.sleep(0.1)  # of a signal just before a sleep Python hears after it
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    os.killpg(process.pid, signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)

    assert rest == b"told to end\n"
    assert wait_until_whole(place, 18) == b"ready\ntold to end\n"


def test_a_pump_that_is_killed_takes_no_print_with_it(place: Path) -> None:
    body = """
os.write(1, b"before\\n")
time.sleep(0.3)
os.kill(tee._pid, 9)
os.write(1, b"between\\n")
deadline = time.monotonic() + 10
while tee.stop().fault is None and time.monotonic() < deadline:
    time.sleep(0.01)
print("after", tee.stop())
"""
    ended = run_program(body, place, name="train/1")

    assert ended.out == (
        b"before\nbetween\n"
        b"after Report(bytes_kept=0, bytes_dropped=0, fault='the process that kept it ended')\n"
    )
    assert ended.err == (
        b"tracker: warning: output of train/1 is no longer kept: the process that kept it ended\n"
    )
    assert ended.kept == b"before\n"


def test_a_full_disk_is_told_once_and_the_print_goes_on(place: Path) -> None:
    body = """
for number in range(3000):
    print("line", number)
report = tee.stop()
assert report.fault == "File too large" and report.bytes_dropped > 0, report
"""
    code = f"{HEAD}\ntee = start({str(place)!r})\n{body}"
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 8; exec "$0" -c "$1"', sys.executable, code],
        capture_output=True, timeout=60,
    )  # fmt: skip

    assert (done.returncode, done.stderr.count(b"no longer kept in output.log: File too large")) == (0, 1)
    assert done.stdout == b"".join(b"line %d\n" % number for number in range(3000))
    assert 0 < place.stat().st_size <= 8192
    assert done.stdout.startswith(place.read_bytes())


def test_a_full_terminal_is_no_full_disk(place: Path) -> None:
    code = f"{HEAD}\ntee = start({str(place)!r})\nprint('x' * 5000)\nassert tee.stop().fault is None\n"
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, timeout=60)

    assert (done.returncode, done.stderr) == (0, b"")
    assert place.read_bytes() == b"x" * 5000 + b"\n"


def test_a_hundred_megabytes_pass_and_a_bounded_part_is_kept(place: Path) -> None:
    body = """
block = b"".join(b"%099d\\n" % number for number in range(10_000))
for _ in range(100):
    os.write(1, block)
report = tee.stop()
assert report.bytes_kept <= 10 * 1024 * 1024
assert report.bytes_kept + report.bytes_dropped > 100_000_000
"""
    ended = run_program(body, place)

    assert (ended.code, len(ended.out)) == (0, 100_000_000)
    mark = MARK.search(ended.kept)
    assert mark is not None
    assert len(ended.kept) - len(mark[0]) + int(mark[1]) == 100_000_000
    assert ended.out.startswith(ended.kept[: mark.start()])
    assert ended.out.endswith(ended.kept[mark.end() :])


def test_what_cannot_be_begun_changes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = [os.fstat(1), os.fstat(2), sorted(os.listdir("/dev/fd"))]
    with pytest.raises(StorageError, match="nowhere"):
        start(tmp_path / "nowhere" / "output.log")
    (tmp_path / "output.log").symlink_to("/dev/full")
    with pytest.raises(StorageError, match=r"output\.log"):
        start(tmp_path / "output.log")
    (tmp_path / "output.log").unlink()
    with pytest.raises(ValueError, match="at least 4096"):
        start(tmp_path / "output.log", limit_bytes=10)

    assert [os.fstat(1), os.fstat(2), sorted(os.listdir("/dev/fd"))] == before
    assert os.listdir(tmp_path) == []


class NotebookStream(io.TextIOBase):
    """As a notebook has one: text goes to the browser; a thread shows what C code writes to a descriptor."""

    def __init__(self, number: int) -> None:
        self.shown: list[str] = []
        self._number = number
        self._copy = os.dup(number)
        read, write = os.pipe()
        os.dup2(write, number)
        os.close(write)
        self.watch_fd_thread = threading.Thread(target=self._show, args=(read,))
        self.watch_fd_thread.start()

    def _show(self, read: int) -> None:
        while data := os.read(read, 1000):
            self.write(data.decode())
        os.close(read)

    def fileno(self) -> int:
        return self._copy

    def write(self, text: str) -> int:
        self.shown.append(text)
        return len(text)

    def end(self) -> None:
        os.dup2(self._copy, self._number)
        os.close(self._copy)
        self.watch_fd_thread.join()


def test_a_notebook_shows_and_keeps_everything_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = NotebookStream(1)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        tee = start(place)
        print("from python")
        sys.stdout.writelines(["a\n", "b\n"])
        time.sleep(0.2)
        os.system("echo from the shell")
        report = tee.stop()
        print("later")
    stream.end()

    assert place.read_bytes() == b"from python\na\nb\nfrom the shell\n"
    assert "".join(stream.shown).replace("from the shell\n", "") == "from python\na\nb\nlater\n"
    assert "".join(stream.shown).count("from the shell\n") == 1
    assert "write" not in vars(stream)
    assert report.fault is None


class Shell:
    """As IPython runs a cell: each has a `write` of its own about the stream's, put back after it."""

    def __init__(self) -> None:
        self.events = self
        self.callbacks: list[Callable[[object], None]] = []

    def get_ipython(self) -> Shell:
        return self

    def register(self, event: str, callback: Callable[[object], None]) -> None:
        assert event == "pre_run_cell"
        self.callbacks.append(callback)

    def unregister(self, event: str, callback: Callable[[object], None]) -> None:
        self.callbacks.remove(callback)

    def run_cell(self, cell: Callable[[], None]) -> None:
        stream: Any = sys.stdout
        before = stream.write
        stream.write = lambda text, *more: before(text, *more)
        for callback in list(self.callbacks):
            callback(object())
        cell()
        stream.write = before


def test_a_capture_lasts_over_the_cells_of_a_notebook(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell, stream, tees = Shell(), io.StringIO(), []
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setitem(sys.modules, "IPython", shell)
        shell.run_cell(lambda: print("before"))
        shell.run_cell(lambda: (tees.append(start(place)), print("first")))
        shell.run_cell(lambda: print("second"))
        shell.run_cell(lambda: print("third"))
        shell.run_cell(lambda: (print("fourth"), tees.pop().stop(), print("after")))
        shell.run_cell(lambda: print("later"))

    assert place.read_bytes() == b"first\nsecond\nthird\nfourth\n"
    assert stream.getvalue() == "before\nfirst\nsecond\nthird\nfourth\nafter\nlater\n"
    assert shell.callbacks == []


def test_a_stream_that_was_redirected_is_kept_and_stays_what_it_is(place: Path) -> None:
    target = io.StringIO()
    with redirect_stdout(target):
        tee = start(place)
        assert sys.stdout is target
        assert type(sys.stdout) is io.StringIO
        print("\udcff into a string")
        tee.stop()
        print("later")

    assert target.getvalue() == "\udcff into a string\nlater\n"
    assert place.read_bytes() == b"\\udcff into a string\n"


class Doubling:
    """As many programs have one: prints where it was printed, and into a file of their own."""

    def __init__(self, terminal: TextIO, also: io.StringIO) -> None:
        self.terminal = terminal
        self.also = also

    def write(self, text: str) -> None:
        self.terminal.write(text)
        self.also.write(text)

    def flush(self) -> None:
        self.terminal.flush()


def test_a_stream_that_also_writes_to_the_real_one_is_kept_once(place: Path) -> None:
    body = f"""
import io
sys.path.insert(0, {str(Path(__file__).parent)!r})
tee.stop()
from test_capture import Doubling
sys.stdout = Doubling(sys.stdout, io.StringIO())
tee = start({str(place)!r} + "2")
print("twice")
tee.stop()
assert sys.stdout.also.getvalue() == "twice\\n"
"""
    ended = run_program(body, place)

    assert (ended.code, ended.out, ended.err) == (0, b"twice\n", b"")
    assert place.with_name("output.log2").read_bytes() == b"twice\n"


PYTEST_FILE = """
import os, sys
from tracker.tee import start

def test_it(tmp_path, {fixture}):
    tee = start({place!r})
    print("printed")
    sys.stderr.write("warned\\n")
    os.system("echo from the shell")
    tee.stop()
    print("later")
    {check}

def test_the_next():
    print("next")
"""


@pytest.mark.parametrize(
    ("options", "fixture", "check"),
    [
        (["-s"], "request", ""),
        ([], "request", ""),
        (["--capture=sys"], "request", ""),
        (["--capture=tee-sys"], "request", ""),
        ([], "capsys", "assert capsys.readouterr().out == 'printed\\nlater\\n'"),
        ([], "capfd", "assert sorted(capfd.readouterr().out.split()) == "
                      "['from', 'later', 'printed', 'shell', 'the']"),
    ],
)  # fmt: skip
def test_under_pytest_all_is_kept_once(
    options: list[str], fixture: str, check: str, place: Path, tmp_path: Path
) -> None:
    file = tmp_path / "test_within.py"
    file.write_text(PYTEST_FILE.format(place=str(place), fixture=fixture, check=check))
    line = [sys.executable, "-m", "pytest", "-q", "-rP", "-p", "no:cacheprovider", *options, str(file)]
    line.append(f"--basetemp={tmp_path / 'base'}")  # else it clears what earlier runs of pytest left
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(place.read_bytes().splitlines()) == [b"from the shell", b"printed", b"warned"]
    assert "2 passed" in done.stdout
    if fixture == "request":
        shown = done.stdout + done.stderr
        assert [shown.count(word) for word in ("printed", "warned", "from the shell", "later")] == (
            [2, 2, 1, 2] if "--capture=tee-sys" in options else [1] * 4
        )
