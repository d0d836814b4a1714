"""Who we are, who is dead, and what lies on a network. Spec: spec/log.md sections 3 and 5."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
import uuid

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracker import StorageError
from tracker._disk import host

ON_LINUX = sys.platform == "linux"
on_linux = pytest.mark.skipif(not ON_LINUX, reason="asks /proc")


def _as_pid(pid: int, **more) -> host.Host:
    return msgspec.structs.replace(host.this_process(), pid=pid, **more)


@pytest.fixture
def sleeper():
    """A living child and what its OPEN frame would say."""
    with subprocess.Popen(["sleep", "60"]) as child:
        with open(f"/proc/{child.pid}/stat", "rb") as file:
            stat = host.parse_process_stat(file.read())
        assert stat is not None
        yield child, _as_pid(child.pid, pid_start=stat.start)
        child.kill()


def test_this_process_is_this_process():
    me = host.this_process()

    assert (me.pid, me.host) == (os.getpid(), os.uname().nodename)
    assert me.user


@on_linux
def test_on_linux_boot_namespace_and_start_are_known():
    me = host.this_process()

    assert uuid.UUID(me.boot)
    assert me.pidns == os.stat("/proc/self/ns/pid").st_ino
    assert 0 < me.pid_start < time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")


def test_a_forked_child_is_another_process():
    before = host.this_process()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, msgspec.json.encode(host.this_process()))
        os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        told = msgspec.json.decode(file.read(), type=host.Host)
    os.waitpid(child, 0)

    assert (told.pid, told.boot) == (child, before.boot)
    assert host.this_process() == before


def test_the_user_is_named_by_the_environment_else_by_the_system(monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    assert host._user() == "ada"

    monkeypatch.delenv("LOGNAME")
    monkeypatch.delenv("USER", raising=False)
    assert host._user() == subprocess.check_output(["id", "-un"], text=True).strip()


def test_a_name_that_is_no_utf8_is_still_text_for_the_log():
    assert host._as_utf8("caf\udce9") == "caf?"


@on_linux
def test_a_living_process_is_not_dead(sleeper):
    _, owner = sleeper

    assert host.is_dead(owner, host.this_process()) is False
    assert host.is_dead(host.this_process(), host.this_process()) is False


@on_linux
def test_a_killed_process_is_dead_as_a_zombie_and_once_it_is_reaped(sleeper):
    child, owner = sleeper
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    as_zombie = host.is_dead(owner, host.this_process())
    child.wait()
    reaped = host.is_dead(owner, host.this_process())

    assert (as_zombie, reaped) == (True, True)


@on_linux
def test_a_pid_that_was_used_again_is_a_dead_owner(sleeper):
    child, owner = sleeper

    assert host.is_dead(_as_pid(child.pid, pid_start=owner.pid_start - 1), host.this_process()) is True


@on_linux
@pytest.mark.parametrize(
    "more",
    [
        {"boot": None},
        {"boot": "another"},
        {"pidns": None},
        {"pidns": 1},
        {"pid_start": None},
        {"pid": 0},
        {"pid": -1},
        {"pid": 1 << 80},
    ],
)
def test_what_cannot_be_told_from_here_is_none(sleeper, more):
    _, owner = sleeper
    me = host.this_process()

    assert host.is_dead(msgspec.structs.replace(owner, **more), me) is None


def test_where_nothing_is_known_nobody_is_provably_dead():
    unknown = host.Host(host="x", boot=None, pidns=None, pid=1, pid_start=None, user="x")

    assert host.is_dead(unknown, unknown) is None


@on_linux
def test_a_foreign_proc_is_no_witness(sleeper, monkeypatch):
    _, owner = sleeper
    monkeypatch.setattr(os, "readlink", lambda path: "1234567")

    assert host.is_dead(owner, host.this_process()) is None


@on_linux
@pytest.mark.skipif(os.getuid() != 0, reason="makes a pid namespace")
def test_from_another_pid_namespace_nothing_is_provable(sleeper):
    _, owner = sleeper
    told = msgspec.json.encode(owner).decode()
    script = (
        "import sys, msgspec; from tracker._disk import host\n"
        "owner = msgspec.json.decode(sys.argv[1], type=host.Host)\n"
        "print(host.is_dead(owner, host.this_process()))"
    )
    command = ["unshare", "--pid", "--fork", "--", sys.executable, "-c", script, told]
    run = subprocess.run(command, capture_output=True, text=True, cwd=_package_root(), check=False)
    if run.returncode and "unshare" in run.stderr:
        pytest.skip(run.stderr.strip())

    assert run.stdout == "None\n"


def _package_root() -> str:
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(host.__file__))))


STAT_TAIL = b"S 1 2 2 0 -1 4194304 96 0 0 0 0 0 0 0 20 0 1 0 %d 2867200 239 1844 1 1 0 0\n"


@given(st.binary(max_size=15), st.integers(0, 2**63))
@example(b") R 1 (", 7)
@example(b"a b) Z 1 1 1", 7)
@example(b"\n", 7)
def test_the_name_of_a_program_cannot_disturb_its_stat(comm, start):
    data = b"42 (" + comm + b") " + STAT_TAIL % start

    assert host.parse_process_stat(data) == host.ProcessStat("S", start)


@given(st.binary())
def test_any_bytes_are_a_stat_or_none(data):
    found = host.parse_process_stat(data)

    assert found is None or found.start >= 0


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_a_writer_id_is_a_uuid_of_version_7(ms, random):
    writer = host.new_writer_id(ms, random)
    judge = uuid.UUID(writer)

    assert judge.hex == writer
    assert (judge.version, judge.variant, judge.int >> 80) == (7, uuid.RFC_4122, ms)


@given(st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_a_writer_id_keeps_74_random_bits(one, other):
    kept = int.from_bytes(one, "big") % (1 << 74), int.from_bytes(other, "big") % (1 << 74)
    same = host.new_writer_id(0, one) == host.new_writer_id(0, other)

    assert same == (kept[0] == kept[1])


def test_the_writer_id_of_the_rfc_comes_out():
    """RFC 9562, appendix A.6: rand_a is CC3, rand_b is 18C4DC0C0C07398F."""
    random = (0xCC3 << 62 | 0x18C4DC0C0C07398F).to_bytes(10, "big")

    assert host.new_writer_id(0x017F22E279B0, random) == "017f22e279b07cc398c4dc0c0c07398f"


@pytest.mark.parametrize("ms", [-1, 1 << 48])
def test_a_mad_clock_still_gives_a_writer_id(ms):
    assert uuid.UUID(host.new_writer_id(ms, bytes(10))).version == 7


def test_the_clock_tells_unix_milliseconds():
    assert abs(host.now_ms() - time.time() * 1000) < 1000


MOUNTS = rb"""22 27 0:21 / /proc rw - proc proc rw
27 1 254:0 / / rw - ext4 /dev/vda rw
30 27 0:50 / /data rw,relatime shared:5 - nfs4 server:/export rw,vers=4.2
31 30 0:51 / /data/local rw - xfs /dev/vdb rw
32 27 0:52 / /home rw - autofs systemd-1 rw
33 27 0:53 / /home rw shared:7 master:1 - nfs server:/home rw
34 27 0:54 / /with\040space\134 rw - fuse.sshfs me@there: rw
35 27 0:55 / /odd rw - brandnewfs none rw
garbage
36 27 0:56
"""


@pytest.mark.parametrize(
    ("path", "want"),
    [
        (b"/", b"ext4"),
        (b"/tmp/x", b"ext4"),
        (b"/data", b"nfs4"),
        (b"/data/x/y", b"nfs4"),
        (b"/database", b"ext4"),
        (b"/data/local/x", b"xfs"),
        (b"/home/ada", b"nfs"),
        (b"/with space\\/x", b"fuse.sshfs"),
    ],
)
def test_the_longest_mount_point_above_a_path_and_the_last_of_two_tells_its_type(path, want):
    assert host.find_mount_type(MOUNTS, path) == want


@given(st.binary())
def test_any_bytes_for_mounts_give_a_type_or_none(data):
    found = host.find_mount_type(data, b"/x")

    assert found is None or found in data


@pytest.mark.parametrize(
    ("path", "is_network"),
    [("/tmp/x", False), ("/data/x", True), ("/data/local", False), ("/odd", True), ("/home/ada", True)],
)
def test_only_a_file_system_known_to_be_local_is_no_network(monkeypatch, path, is_network):
    monkeypatch.setattr(host, "_read", lambda _: MOUNTS)
    monkeypatch.setattr(os.path, "realpath", lambda given: given)

    assert host.is_network_fs(path) == is_network


def test_without_proc_every_file_system_may_be_a_network_one(monkeypatch):
    monkeypatch.setattr(host, "_read", lambda _: None)

    assert host.is_network_fs("/")


def refused(number: int):
    def open_(path, *_, **__):
        raise OSError(number, os.strerror(number), path)

    return open_


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EIO, errno.ENOMEM, errno.ENOSPC])
def test_who_we_are_is_not_guessed_where_it_cannot_be_read_just_now(monkeypatch, number):
    """Else this process could prove nobody dead for as long as it lives."""
    host._process.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refused(number))
        with pytest.raises(StorageError, match="/proc/self/stat"):
            host.this_process()

    assert bool(host.this_process().boot) is ON_LINUX


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES])
def test_where_the_system_tells_nothing_of_processes_nobody_is_provably_dead(monkeypatch, number):
    host._process.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr("builtins.open", refused(number))
        me = host.this_process()
    host._process.cache_clear()

    assert (me.boot, me.pid_start) == (None, None)
    assert host.is_dead(_as_pid(2**22 + 1), me) is None
