"""What is written is whole or not there, whatever the system refuses. Spec: spec/layout.md section 3."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker._disk import durable
from tracker._model.names import is_temporary
from tracker.errors import StorageError, TrackerError

DATA = bytes(range(256)) * 40


@pytest.fixture
def folder(tmp_path):
    """A folder and its descriptor; no half-made file may be in it when the test ends."""
    fd = os.open(tmp_path, os.O_RDONLY)
    yield tmp_path, fd
    os.close(fd)
    assert _half_made(tmp_path) == []


def _half_made(path) -> list[str]:
    return [str(file) for file in path.rglob("*") if is_temporary(file.name)]


@contextlib.contextmanager
def _refused(number: int):
    with pytest.raises(StorageError) as caught:
        yield caught
    assert caught.value.errno == number, caught.value
    assert caught.value.cure


def test_a_file_is_made_once_read_only_and_never_overwritten(folder):
    path, fd = folder
    first = durable.create("params.json", DATA, fd)
    second = durable.create("params.json", b"other", fd)

    assert (first, second) == (True, False)
    assert (path / "params.json").read_bytes() == DATA == durable.read_file("params.json", fd)
    assert (path / "params.json").stat().st_mode & 0o222 == 0


@pytest.mark.parametrize("sync", [True, False])
def test_replacing_takes_the_place_of_what_was_there(folder, sync):
    path, fd = folder
    (path / "sub").mkdir()
    for data in (b"old", DATA):
        durable.replace("sub/FORMAT", data, fd, sync=sync)

    assert os.listdir(path / "sub") == ["FORMAT"]
    assert durable.read_file("sub/FORMAT", fd) == DATA


def test_publishing_keeps_what_has_the_name(folder):
    path, fd = folder
    (path / "9f").mkdir()
    made = [durable.publish("9f/86", data, fd) for data in (DATA, b"other")]

    assert made == [True, False]
    assert os.listdir(path / "9f") == ["86"]
    assert durable.read_file("9f/86", fd) == DATA


def test_many_that_publish_at_once_leave_one_whole_file(folder):
    path, fd = folder
    made = []
    crowd = [
        threading.Thread(target=lambda: made.append(durable.publish("name", DATA, fd))) for _ in range(16)
    ]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()

    assert len(made) == 16
    assert True in made
    assert os.listdir(path) == ["name"]
    assert durable.read_file("name", fd) == DATA


@given(data=st.binary(max_size=100), chunks=st.lists(st.integers(1, 9), min_size=1))
def test_short_writes_are_gone_on_with(data, chunks):
    read, write = os.pipe()
    whole_write = os.write
    sizes = iter(chunks * 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", lambda fd, rest: whole_write(fd, bytes(rest[: next(sizes)])))
        count = durable.write_all(write, data)
    os.close(write)
    with open(read, "rb") as file:
        got = file.read()

    assert (count, got) == (len(data), data)


def test_a_write_that_writes_nothing_is_an_error(monkeypatch):
    monkeypatch.setattr(os, "write", lambda fd, rest: 0)

    with pytest.raises(OSError, match="wrote nothing"):
        durable.write_all(1, b"x")


def test_a_bytearray_may_shrink_while_the_failure_to_write_it_is_handled():
    memory = bytearray(DATA)
    try:
        durable.write_all(-1, memory)
    except OSError:
        del memory[10:]

    assert len(memory) == 10


def test_data_that_was_synced_is_read_back(folder):
    _, fd = folder
    file = durable.open_new("journal", fd)
    durable.write_all(file, b"one")
    durable.write_all(file, memoryview(b"two"))
    durable.sync_data(file)
    os.close(file)
    durable.sync_file("journal", fd)
    durable.sync_folder("", fd)

    assert durable.read_file("journal", fd) == b"onetwo"
    with _refused(errno.EEXIST):
        durable.open_new("journal", fd)


@pytest.mark.parametrize("start", [0, 1, len(DATA) - 1, len(DATA), len(DATA) + 1])
def test_a_file_is_read_from_a_byte_on(folder, start):
    _, fd = folder
    durable.create("name", DATA, fd)

    assert durable.read_from("name", fd, start) == DATA[start:]


def test_only_missing_folders_are_made_and_told_from_above(folder):
    path, fd = folder
    (path / "a").mkdir()
    first = durable.make_folders("a/b/c", fd)
    again = durable.make_folders("a/b/c", fd)
    other = durable.make_folders("a/b/d", fd)

    assert (first, again, other) == (["a/b", "a/b/c"], [], ["a/b/d"])
    assert durable.make_folders("", fd) == []
    assert (durable.make_folder("a", fd), durable.make_folder("e", fd)) == (False, True)


def test_a_link_to_a_folder_is_a_folder_that_is_there(folder, tmp_path_factory):
    path, fd = folder
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (path / "grid").symlink_to(elsewhere)

    assert durable.make_folder("grid", fd) is False
    assert durable.make_folders("grid/run", fd) == ["grid/run"]
    assert (elsewhere / "run").is_dir()


def test_a_removed_tree_does_not_come_back_as_a_ghost(folder):
    path, _ = folder
    root = path / "root"
    root.mkdir()
    fd = durable.open_root(str(root))
    root.rmdir()

    with _refused(errno.ENOENT):
        durable.make_folders("a/b", fd)
    with _refused(errno.ENOENT):
        durable.publish("name", DATA, fd)
    assert os.listdir(path) == []
    os.close(fd)


def test_a_renamed_tree_is_still_written_to(folder):
    path, _ = folder
    (path / "before").mkdir()
    fd = durable.open_root(str(path / "before"))
    (path / "before").rename(path / "after")
    durable.publish("name", DATA, fd)
    os.close(fd)

    assert (path / "after" / "name").read_bytes() == DATA


@pytest.mark.parametrize("path", ["/abs", "../x", "a/../../x"])
@pytest.mark.parametrize("verb", [durable.make_folders, durable.open_folder_fd])
def test_a_folder_outside_is_a_bug_of_the_caller(folder, verb, path):
    _, fd = folder

    with pytest.raises(AssertionError, match="leads out of the folder"):
        verb(path, fd)


@pytest.mark.parametrize("verb", [durable.make_folder, durable.make_folders])
@pytest.mark.parametrize("what", ["file", "dangling"])
def test_where_something_else_stands_no_folder_is_made(folder, verb, what):
    path, fd = folder
    (path / "file").touch()
    (path / "dangling").symlink_to("nowhere")

    with _refused(errno.EEXIST):
        verb(what, fd)


def test_an_open_folder_is_the_one_below(folder):
    path, fd = folder
    durable.make_folders("a/b", fd)
    below, same = durable.open_folder_fd("a/b", fd), durable.open_folder_fd("", fd)
    durable.create("name", DATA, below)

    assert os.path.samestat(os.fstat(same), os.fstat(fd))
    assert (path / "a/b/name").read_bytes() == DATA
    durable.close_read(below)
    durable.close_read(same)


def test_links_in_the_store_are_not_followed(folder, tmp_path_factory):
    path, fd = folder
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "secret").write_bytes(b"secret")
    (path / "ledger").symlink_to(elsewhere)
    (path / "link").symlink_to(elsewhere / "secret")

    for below in ("ledger", "ledger/.", "link"):
        with _refused(errno.ENOTDIR):
            durable.open_folder_fd(below, fd)
    with _refused(errno.ELOOP):
        durable.read_file("link", fd)
    assert durable.list_names("ledger", fd) == []
    assert durable.create("link", b"x", fd) is False
    assert durable.publish("link", b"x", fd) is False
    assert durable.unlink_if_there("link", fd) is True
    assert (elsewhere / "secret").read_bytes() == b"secret"


def test_refused_opens_leave_no_descriptor_behind(folder):
    path, fd = folder
    (path / "file").touch()
    before = len(os.listdir("/dev/fd"))
    for verb in (durable.open_folder_fd, durable.read_file, durable.sync_file, durable.sync_folder):
        with _refused(errno.ENOTDIR):
            verb("file/x", fd)
    with _refused(errno.EISDIR):
        durable.read_file(".", fd)
    after = len(os.listdir("/dev/fd"))

    assert after == before


def test_names_are_listed_and_where_there_is_no_folder_there_are_none(folder):
    path, fd = folder
    (path / "a").mkdir()
    (path / "a" / "x").touch()

    assert durable.list_names("", fd) == ["a"]
    assert durable.list_names("a", fd) == ["x"]
    assert durable.list_names("b", fd) == durable.list_names("a/x", fd) == []


def test_a_name_is_there_until_it_is_removed(folder):
    _, fd = folder
    durable.create("name", DATA, fd)
    told = [durable.exists("name", fd), durable.unlink_if_there("name", fd)]
    then = [durable.exists("name", fd), durable.unlink_if_there("name", fd)]

    assert (told, then) == ([True, True], [False, False])


@pytest.mark.parametrize(
    "act",
    [
        lambda fd: durable.read_file("nowhere", fd),
        lambda fd: durable.sync_file("nowhere", fd),
        lambda fd: durable.sync_folder("nowhere", fd),
        lambda fd: durable.open_folder_fd("nowhere", fd),
        lambda fd: durable.create("nowhere/x", b"", fd),
        lambda fd: durable.publish("nowhere/x", b"", fd),
        lambda fd: durable.replace("nowhere/x", b"", fd, sync=True),
        lambda fd: durable.make_folder("nowhere/x", fd),
    ],
)
def test_what_is_not_there_is_a_file_not_found_error_too(folder, act):
    path, fd = folder

    with pytest.raises(FileNotFoundError) as caught:
        act(fd)
    assert isinstance(caught.value, StorageError)
    assert os.listdir(path) == []


def test_a_named_pipe_is_not_waited_for(folder):
    path, fd = folder
    os.mkfifo(path / "pipe")

    assert durable.read_file("pipe", fd) == b""
    durable.sync_file("pipe", fd)  # the system says EINVAL: there is nothing to sync


@pytest.mark.parametrize(
    ("found", "want"),
    [
        (b"", True),
        (b"tracker", True),
        (b"\0\0\0", True),
        (b"\0" * 100, True),
        (b"tracker 1\n", False),
        (b"tracker 2", False),
        (b"tracker\0\0\0", False),
        (b"tracker 1\n\n", False),
    ],
)
def test_a_proper_prefix_or_zeros_is_what_a_crash_leaves(found, want):
    assert durable.is_cut_short(found, b"tracker 1\n") is want


def test_an_error_says_what_was_refused_where_why_and_the_cure(folder):
    path, fd = folder
    with pytest.raises(TrackerError) as caught:
        durable.read_file("nowhere/x", fd)

    name = f"{path}/nowhere/x" if os.path.exists("/proc/self/fd") else "nowhere/x"
    assert str(caught.value) == (
        f"read {name}: No such file or directory; "
        "a folder of this path is gone; was the tree moved or removed?"
    )
    assert caught.value.__cause__ is not None


def test_every_reason_has_a_cure_and_an_error_is_not_wrapped_twice():
    plain = durable.as_storage_error(OSError(errno.EXDEV, "Invalid cross-device link"), "a", "write")
    bare = durable.as_storage_error(OSError("words only"), "a", "write")

    assert str(plain) == "write a: Invalid cross-device link; look the reason up in the manual of the system"
    assert str(bare) == "write a: words only; look the reason up in the manual of the system"
    assert durable.as_storage_error(plain, "b", "read") is plain


CREATE = "durable.create('name', data, fd)"
PUBLISH = "durable.publish('name', data, fd)"
REPLACE = "durable.replace('name', data, fd, sync=True)"
VERBS = [CREATE, PUBLISH, REPLACE]


def _act(verb: str, data: bytes, fd: int) -> None:
    eval(verb, {"durable": durable, "data": data, "fd": fd})


SCRIPT = """
import os, resource, sys
from tracker._disk import durable
from tracker.errors import StorageError
fd = os.open(sys.argv[1], os.O_RDONLY)
data = bytes(range(256)) * 40
{before}
try:
    {verb}
except StorageError as error:
    print(error.errno)
else:
    print("done")
"""


def _told_by_child(path, verb: str, *, before: str = "", wrap: list[str] | None = None) -> str:
    """Run a verb in a process of its own, and give the errno it met or "done"."""
    script = SCRIPT.format(before=before, verb=verb)
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(durable.__file__))))
    command = [*(wrap or []), sys.executable, "-B", "-c", script, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert run.stderr == ""
    return run.stdout.strip()


@pytest.fixture
def tiny(tmp_path):
    """Mounts file systems of a given size."""
    point = tmp_path / "tiny"
    point.mkdir()
    mounted = False

    def mount(options: str):
        nonlocal mounted
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(point)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("cannot mount a tmpfs here")
        mounted = True
        return point

    yield mount
    if mounted:
        subprocess.run(["umount", str(point)], check=True)


@pytest.mark.parametrize("verb", VERBS)
def test_a_full_disk_leaves_nothing_half_made(tiny, verb):
    path = tiny("size=64k")
    fd = os.open(path, os.O_RDONLY)
    try:
        with _refused(errno.ENOSPC) as caught:
            _act(verb, bytes(100_000), fd)
        assert "free space or inodes" in str(caught.value)
        assert os.listdir(path) == []
        _act(verb, DATA, fd)
        assert durable.read_file("name", fd) == DATA
    finally:
        os.close(fd)


def test_a_full_disk_leaves_the_old_file(tiny):
    path = tiny("size=64k")
    fd = os.open(path, os.O_RDONLY)
    try:
        durable.replace("name", b"old", fd, sync=True)
        with _refused(errno.ENOSPC):
            durable.replace("name", bytes(100_000), fd, sync=True)
        assert os.listdir(path) == ["name"]
        assert durable.read_file("name", fd) == b"old"
    finally:
        os.close(fd)


@pytest.mark.parametrize("verb", [*VERBS, "durable.make_folder('name', fd)", "durable.open_new('name', fd)"])
def test_without_an_inode_nothing_is_made(tiny, verb):
    path = tiny("nr_inodes=3")
    fd = os.open(path, os.O_RDONLY)
    try:
        for number in range(2):
            durable.create(str(number), b"", fd)
        with _refused(errno.ENOSPC):
            _act(verb, DATA, fd)
        assert sorted(os.listdir(path)) == ["0", "1"]
    finally:
        os.close(fd)


@pytest.mark.parametrize("verb", [*VERBS, "durable.make_folder('name', fd)"])
def test_a_read_only_disk_is_told_and_what_is_there_is_read(tiny, verb):
    path = tiny("size=64k")
    (path / "old").write_bytes(DATA)
    (path / "folder").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", str(path)], check=True)
    fd = os.open(path, os.O_RDONLY)
    try:
        with _refused(errno.EROFS):
            _act(verb, DATA, fd)
        assert durable.read_file("old", fd) == DATA
        assert durable.create("old", b"x", fd) is False
        assert durable.make_folders("folder", fd) == []
    finally:
        os.close(fd)


@pytest.mark.parametrize("verb", VERBS)
def test_a_write_cut_short_by_a_limit_leaves_nothing_half_made(tmp_path, verb):
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))"
    told = _told_by_child(tmp_path, verb, before=limit)

    assert told == str(errno.EFBIG)
    assert os.listdir(tmp_path) == []


def _strace_works() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode == 0


with_strace = pytest.mark.skipif(not _strace_works(), reason="needs strace")


def _trace(path, log, verb: str, *inject: str) -> tuple[str, list[tuple[str, int]]]:
    """Run a verb under strace; give what it told and its system calls, each numbered within the process."""
    calls = "openat,write,fsync,close,?rename,?renameat,?renameat2,?newfstatat,?unlinkat"
    wrap = ["strace", "-qq", "-y", "-o", str(log), "-e", f"trace={calls}", *inject]
    told = _told_by_child(path, verb, wrap=wrap)
    seen: Counter[str] = Counter()
    found: list[tuple[str, int]] = []
    is_begun = False
    for line in log.read_text().splitlines():
        name = line.partition("(")[0]
        seen[name] += 1
        if line.startswith("write(1<"):
            break
        if is_begun:
            found.append((name, seen[name]))
        is_begun |= f'"{path}", O_RDONLY' in line
    return told, found


WRITTEN = ["openat", "write", "fsync", "close"]
SYNCED = ["openat", "fsync", "close"]


@with_strace
@pytest.mark.parametrize(
    ("before", "verb", "want"),
    [
        ("", CREATE, ["openat", "write", "close"]),
        ("", PUBLISH, [*WRITTEN, "newfstatat", "renameat", *SYNCED]),
        (CREATE, PUBLISH, [*WRITTEN, "newfstatat", "unlinkat", *SYNCED]),
        ("", REPLACE, [*WRITTEN, "renameat", *SYNCED]),
        ("", REPLACE.replace("True", "False"), ["openat", "write", "close", "renameat"]),
    ],
)
def test_a_verb_makes_the_calls_that_its_comment_names(folder, tmp_path_factory, before, verb, want):
    path, fd = folder
    if before:
        _act(before, DATA, fd)
    told, calls = _trace(path, tmp_path_factory.mktemp("log") / "log", verb)

    assert told == "done"
    assert [name.rstrip("2") for name, _ in calls] == want


@with_strace
@pytest.mark.parametrize("verb", VERBS)
def test_each_system_call_may_fail_once_and_nothing_is_left_half_made(tmp_path, verb):
    """After the error the name holds nothing, the old bytes or all of the new, and is the only name."""
    log = tmp_path / "log"
    clean = tmp_path / "clean"
    clean.mkdir()
    _, calls = _trace(clean, log, verb)
    for tried, (call, number) in enumerate(calls):
        path = tmp_path / f"{tried}"
        path.mkdir()
        told, _ = _trace(path, log, verb, "-e", f"inject={call}:error=EIO:when={number}")
        is_visible = any(name.startswith("rename") for name, _ in calls[:tried])

        assert told == str(errno.EIO), (call, number)
        assert os.listdir(path) == (["name"] if is_visible else []), (call, number)
        assert not is_visible or (path / "name").read_bytes() == DATA
    assert len(calls) >= 3


@with_strace
@pytest.mark.parametrize("verb", VERBS)
def test_killed_at_each_system_call_the_name_holds_nothing_or_what_a_reader_can_tell(tmp_path, verb):
    log = tmp_path / "log"
    clean = tmp_path / "clean"
    clean.mkdir()
    _, calls = _trace(clean, log, verb)
    for tried, (call, number) in enumerate(calls):
        path = tmp_path / f"{tried}"
        path.mkdir()
        told, _ = _trace(path, log, verb, "-e", f"inject={call}:signal=KILL:when={number}")
        left = {name for name in os.listdir(path) if not is_temporary(name)}
        found = (path / "name").read_bytes() if left else DATA

        assert told == ""
        assert left <= {"name"}
        assert found == DATA or (verb == CREATE and durable.is_cut_short(found, DATA))
    assert len(calls) >= 3


@with_strace
def test_a_write_cut_short_under_the_program_is_gone_on_with(tmp_path, tmp_path_factory):
    """The kernel is made to lie: it says 5 bytes of the first write were taken, and took none."""
    log = tmp_path_factory.mktemp("log") / "log"
    path = tmp_path / "folder"
    path.mkdir()
    _, calls = _trace(path, log, PUBLISH)
    (path / "name").unlink()
    number = next(number for name, number in calls if name == "write")
    told, again = _trace(path, log, PUBLISH, "-e", f"inject=write:retval=5:when={number}")

    assert told == "done"
    assert [name for name, _ in again].count("write") == 2
    assert (path / "name").read_bytes() == DATA[5:]


def test_a_folder_that_cannot_be_synced_counts_as_synced(folder, monkeypatch):
    _, fd = folder

    def refuse(_: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)

    durable.sync_folder("", fd)
    with _refused(errno.EINVAL):
        durable.publish("name", DATA, fd)
