"""The archive: what lies in it, the same bytes every time, and what keeps it from being made.

The judges: tar, unzip, zstd, sha256sum and b3sum. Spec: spec/bundle.md sections 1 and 3.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from blake3 import blake3
from bundle_world import FACTS, crate_of, files_below, fill, finish, fresh, make, runs_of, unpacked

from tracker import NameRefusedError, NotFoundError, Project, StorageMode
from tracker._codec.digest import uid_of
from tracker._model.event import Created, Done, File
from tracker.bundle import KINDS, archive
from tracker.bundle.contents import Member
from tracker.check import Level, verify
from tracker.runs.frames import MissingPackageError
from tracker.terms import RunRef

pytestmark = pytest.mark.unchecked_store("manifests of another ledger lie beside the bundle's")

try:
    import zstandard
except ImportError:
    zstandard = None
KIND = [
    pytest.param(kind, marks=pytest.mark.skipif(zstandard is None, reason="needs zstandard"))
    if kind == ".tar.zst"
    else kind
    for kind in KINDS
]


@pytest.fixture
def refs(tmp_path: Path) -> dict[str, RunRef]:
    return fill(tmp_path / "s")


def names_in(path: Path) -> list[str]:
    if path.suffix == ".zip":
        return zipfile.ZipFile(path).namelist()
    printed = subprocess.run(["tar", "-tf", str(path)], capture_output=True, text=True, check=True)
    return [json.loads(f'"{os.fsdecode(name)}"') for name in printed.stdout.splitlines() if "\\" not in name]


@pytest.mark.parametrize("kind", KIND)
def test_every_kind_unpacks_to_the_same_store(
    tmp_path: Path, refs: dict[str, RunRef], reference: ModuleType, kind: str
) -> None:
    chosen = [refs["done"], refs["prefix"], refs["ümläut"], refs[FACTS]]
    done = make(tmp_path / "s", tmp_path / f"x{kind}", chosen)
    make(tmp_path / "s", tmp_path / "plain.tar", chosen)
    root = unpacked(tmp_path / f"x{kind}", tmp_path / "u")

    assert done.is_made
    assert done.size_bytes == (tmp_path / f"x{kind}").stat().st_size
    assert done.files == len(files_below(root))
    assert files_below(root) == files_below(unpacked(tmp_path / "plain.tar", tmp_path / "v"))
    assert sorted(runs_of(reference, root)) == sorted(chosen)
    assert verify(Project(root).ledger, Level.FULL).exit_code == 0


@pytest.mark.skipif(shutil.which("unzip") is None, reason="needs unzip")
def test_unzip_tests_and_unpacks_it(tmp_path: Path, refs: dict[str, RunRef]) -> None:
    make(tmp_path / "s", tmp_path / "x.zip", refs.values())
    subprocess.run(["unzip", "-q", "-t", tmp_path / "x.zip"], check=True, capture_output=True)
    subprocess.run(["unzip", "-q", tmp_path / "x.zip", "-d", tmp_path / "u"], check=True)

    assert files_below(tmp_path / "u") == files_below(unpacked(tmp_path / "x.zip", tmp_path / "v"))


@pytest.mark.skipif(zstandard is None or shutil.which("zstd") is None, reason="needs zstandard and zstd")
def test_zstd_tests_it(tmp_path: Path, refs: dict[str, RunRef]) -> None:
    make(tmp_path / "s", tmp_path / "x.tar.zst", refs.values())

    assert subprocess.run(["zstd", "-t", tmp_path / "x.tar.zst"], capture_output=True).returncode == 0


@pytest.mark.parametrize("kind", KIND)
def test_the_same_choice_gives_the_same_bytes_elsewhere_and_later(
    tmp_path: Path, refs: dict[str, RunRef], kind: str
) -> None:
    """From a copy in another place, with other time stamps and modes, by another process, in another zone."""
    fresh(tmp_path / "s").ledger.close()
    chosen = [refs["done"], refs["error"], refs["prefix"]]
    make(tmp_path / "s", tmp_path / f"a{kind}", chosen)
    shutil.copytree(tmp_path / "s", tmp_path / "copy", copy_function=shutil.copyfile)
    for path in (tmp_path / "copy").rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    code = (
        "import sys; from tracker import Project; from tracker.bundle import bundle; "
        "bundle(Project(sys.argv[1]).ledger, sys.argv[3:], sys.argv[2])"
    )
    env = {**os.environ, "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "7", "LC_ALL": "C"}
    words = [str(tmp_path / "copy"), str(tmp_path / f"b{kind}"), *reversed(chosen)]
    subprocess.run([sys.executable, "-c", code, *words], check=True, env=env)

    assert (tmp_path / f"a{kind}").read_bytes() == (tmp_path / f"b{kind}").read_bytes()


def test_a_tar_tells_no_user_and_no_clock(
    tmp_path: Path, refs: dict[str, RunRef], reference: ModuleType
) -> None:
    done = make(tmp_path / "s", tmp_path / "x.tar", [refs["done"], refs["ümläut"]])
    with tarfile.open(tmp_path / "x.tar") as tar:
        members = tar.getmembers()
    names = [member.name for member in members]

    assert {name.partition("/")[0] for name in names} == {done.folder}
    assert names[:-1] == sorted(names[:-1], key=str.encode)
    assert names[-1] == f"{done.folder}/ro-crate-metadata.json"
    assert {(m.uid, m.gid, m.uname, m.gname, m.type) for m in members} == {(0, 0, "", "", tarfile.REGTYPE)}
    assert {m.mode for m in members} == {0o644, 0o444}
    ended = [
        a["ended"] for r in runs_of(reference, tmp_path / "s").values() for a in r["attempts"] if a["ended"]
    ]
    assert len({m.mtime for m in members}) == 1
    assert min(ended) // 1000 <= members[0].mtime <= max(ended) // 1000


def test_what_is_in_it_is_what_was_sealed(tmp_path: Path, refs: dict[str, RunRef]) -> None:
    make(tmp_path / "s", tmp_path / "x.tar", refs.values())
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")
    store, there = files_below(tmp_path / "s"), files_below(root)
    unsealed = {refs[name][-32:] for name in ("running", "done running", "lost")}
    users = {path for path in store if not path.startswith(".tracker/")}
    sealed = {path for path in users if "out.bin" in path and path.partition("/")[0] not in unsealed}
    params = {path for path in there if path.endswith("params.json")}
    pages = {path for path in there if path.startswith("spec/")} | {"README.md", "ro-crate-metadata.json"}

    assert {path for path in there if not path.startswith(".tracker/")} == sealed | params | pages
    assert len(params) == len({ref[-32:] for ref in refs.values()})
    assert all(there[path] == store[path] for path in there.keys() & users)
    assert {"spec/README.md", "spec/reference.py", "spec/log.md", "spec/bundle.md"} <= pages
    code = json.loads(next(data for path, data in there.items() if b'"diff"' in data and "/objects/" in path))
    assert f".tracker/objects/{code['diff'][:2]}/{code['diff'][2:]}" in there


def test_the_reader_inside_reads_it(tmp_path: Path, refs: dict[str, RunRef]) -> None:
    """With blake3 and the standard library alone: the package cannot be imported there."""
    make(tmp_path / "s", tmp_path / "x.zip", [refs["done"], refs["both"]])
    root = unpacked(tmp_path / "x.zip", tmp_path / "u")
    (tmp_path / "tracker.py").write_text("raise ImportError('not here')\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    printed = subprocess.run(
        [sys.executable, "spec/reference.py", "."], cwd=root, env=env, capture_output=True, check=True
    )

    assert {run["ref"] for run in json.loads(printed.stdout)["runs"]} == {refs["done"], refs["both"]}


@pytest.mark.skipif(
    not all(map(shutil.which, ("jq", "b3sum", "sha256sum"))), reason="needs jq, b3sum, sha256sum"
)
def test_the_lines_of_the_readme_check_every_file(tmp_path: Path, refs: dict[str, RunRef]) -> None:
    make(tmp_path / "s", tmp_path / "x.tar", refs.values())
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")
    lines = [
        line.strip() for line in (root / "README.md").read_text().splitlines() if line.startswith("    jq")
    ]
    checks = [line for line in lines if "-c" in line.split()]
    files = len(files_below(root)) - 1

    assert len(lines) == 3
    assert len(checks) == 2
    for line in checks:
        assert shell(line, root).count(": OK\n") == files
    assert "train\tdone" in shell(lines[0], root)


def shell(line: str, folder: Path) -> str:
    return subprocess.run(line, shell=True, cwd=folder, capture_output=True, text=True, check=True).stdout


# What keeps it from being made


def alter(path: Path, change: str) -> None:
    path.chmod(0o644)
    if change == "missing":
        path.unlink()
    elif change == "folder":
        path.unlink()
        path.mkdir()
    elif change == "longer":
        path.write_bytes(path.read_bytes() + b"x")
    else:
        data = bytearray(path.read_bytes())
        data[0] ^= 1
        path.write_bytes(data)


@pytest.mark.parametrize("change", ["missing", "longer", "flipped", "folder"])
def test_a_file_that_is_not_what_was_sealed_is_named_and_no_archive_is_made(
    tmp_path: Path, refs: dict[str, RunRef], change: str
) -> None:
    chosen = [refs["done"], refs["error"], refs["prefix"]]
    bad = [f"{refs['done'][-32:]}/train_out.bin", f"grid/{refs['prefix'][-32:]}_train_out.bin"]
    for path in bad:
        alter(tmp_path / "s" / path, change)
    done = make(tmp_path / "s", tmp_path / "x.tar", chosen)
    left = sorted(path.name for path in tmp_path.iterdir())

    assert (done.is_made, done.exit_code, [one.path for one in done.unfit]) == (False, 3, bad)
    assert left == ["s"]
    allowed = make(tmp_path / "s", tmp_path / "x.tar", chosen, allow_missing=True)
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")
    assert (allowed.is_made, allowed.exit_code, allowed.unfit) == (True, 3, done.unfit)
    assert not any((root / path).exists() for path in bad)
    report = verify(Project(root).ledger, Level.FULL)
    assert {(f.code, f.path) for f in report.findings if f.code.startswith("file-")} == {
        ("file-missing", path) for path in bad
    }
    assert bad[0] not in crate_of(root)


@pytest.mark.parametrize("change", ["missing", "flipped"])
def test_an_object_is_held_against_its_name(tmp_path: Path, refs: dict[str, RunRef], change: str) -> None:
    (trace,) = [
        path
        for path in (tmp_path / "s").glob(".tracker/objects/*/*")
        if b"diverged" in path.read_bytes() and b"'lr': 'error'}" in path.read_bytes()
    ]
    alter(trace, change)
    done = make(tmp_path / "s", tmp_path / "x.tar", [refs["error"]])

    assert not done.is_made
    assert [one.path for one in done.unfit] == [trace.relative_to(tmp_path / "s").as_posix()]


def test_a_dry_run_names_what_is_missing_and_writes_nothing(tmp_path: Path, refs: dict[str, RunRef]) -> None:
    bad = f"{refs['done'][-32:]}/train_out.bin"
    alter(tmp_path / "s" / bad, "missing")
    done = make(tmp_path / "s", tmp_path / "x.tar", refs.values(), dry_run=True)

    assert [one.path for one in done.unfit] == [bad]
    assert done.files > 60
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_dry_run_counts_what_is_then_made(tmp_path: Path, refs: dict[str, RunRef]) -> None:
    chosen = [refs["done"], refs["both"]]
    would, done = (make(tmp_path / "s", tmp_path / "x.tar", chosen, dry_run=dry) for dry in (True, False))

    assert (would.files, would.runs, would.anew) == (done.files, done.runs, done.anew)


def test_an_archive_that_is_there_is_replaced_only_when_told(tmp_path: Path, refs: dict[str, RunRef]) -> None:
    (tmp_path / "x.tar").write_bytes(b"precious")
    with pytest.raises(NameRefusedError, match=r"a file of this name is there; --force replaces it"):
        make(tmp_path / "s", tmp_path / "x.tar", [refs["done"]])
    assert (tmp_path / "x.tar").read_bytes() == b"precious"
    make(tmp_path / "s", tmp_path / "x.tar", [refs["done"]], force=True)

    assert tarfile.is_tarfile(tmp_path / "x.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s", "x.tar"]


def test_an_archive_that_appears_meanwhile_is_left_alone(tmp_path: Path) -> None:
    with (
        pytest.raises(OSError, match="File exists"),
        archive.written(str(tmp_path / "x.tar"), ".tar", 0, force=False) as made,
    ):
        archive.copy(made, "a", Member("a", lambda: b"abc"), lambda _: None)
        (tmp_path / "x.tar").write_bytes(b"precious")

    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"precious"]


def test_a_disk_that_refuses_leaves_nothing(tmp_path: Path, refs: dict[str, RunRef]) -> None:
    """A limit of the file size stands in for a full disk."""
    code = (
        "import resource, signal, sys; from tracker import Project; from tracker.bundle import bundle; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); ledger = Project(sys.argv[1]).ledger; "
        "ledger.find; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)); "
        "bundle(ledger, sys.argv[3:], sys.argv[2])"
    )
    fresh(tmp_path / "s").ledger.close()
    for kind in (".tar", ".tar.gz", ".zip"):
        words = [str(tmp_path / "s"), str(tmp_path / f"x{kind}"), refs["done"]]
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert "StorageError" in done.stderr
        assert "a limit of size: raise it" in done.stderr

    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_process_that_is_killed_leaves_a_temporary_file_alone(tmp_path: Path) -> None:
    with fresh(tmp_path / "s").session("train", {"n": 1}) as run:
        run.path("big.bin").write_bytes(os.urandom(1 << 20) * 48)
    fresh(tmp_path / "s").ledger.close()
    (tmp_path / "x.tar.gz").write_bytes(b"the one before")
    code = (
        "import sys; from tracker import Project; from tracker.bundle import bundle; "
        "bundle(Project(sys.argv[1]).ledger, sys.argv[3:], sys.argv[2], force=True)"
    )
    words = [str(tmp_path / "s"), str(tmp_path / "x.tar.gz"), run.ref]
    process = subprocess.Popen([sys.executable, "-c", code, *words])
    while process.poll() is None and not any(p.stat().st_size > 1 << 20 for p in tmp_path.glob("tmp-*")):
        time.sleep(0.002)
    process.kill()

    assert process.wait() == -9, "it was killed in the midst"
    assert (tmp_path / "x.tar.gz").read_bytes() == b"the one before"
    assert len(list(tmp_path.glob("tmp-*"))) == 1
    assert make(tmp_path / "s", tmp_path / "x.tar.gz", [run.ref], force=True).is_made


@pytest.mark.parametrize("name", ["x", "x.rar", ".tar", "x.tar.xz"])
def test_another_kind_is_refused(tmp_path: Path, refs: dict[str, RunRef], name: str) -> None:
    with pytest.raises(
        NameRefusedError, match=r"its name ends in none of \.tar\.zst, \.tar\.gz, \.tar, \.zip"
    ):
        make(tmp_path / "s", tmp_path / name, [refs["done"]])


def test_without_zstandard_the_extra_is_named(
    tmp_path: Path, refs: dict[str, RunRef], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'tracker-store\[bundle\]'"):
        make(tmp_path / "s", tmp_path / "x.tar.zst", [refs["done"]])

    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_no_run_and_no_store_are_not_found(tmp_path: Path, refs: dict[str, RunRef]) -> None:
    with pytest.raises(NotFoundError, match=r"^run to bundle not found"):
        make(tmp_path / "s", tmp_path / "x.tar", [RunRef("train/" + "0" * 32)])
    with pytest.raises(NotFoundError, match="store not found"):
        make(tmp_path / "none", tmp_path / "x.tar", [refs["done"]])


# What else lies there


def test_a_namespace_named_as_the_pages_keeps_its_name(tmp_path: Path, reference: ModuleType) -> None:
    refs = [finish(fresh(tmp_path / "s", name), {"n": 1}) for name in ("Spec", "README.md", "spec-1")]
    make(tmp_path / "s", tmp_path / "x.tar", refs)
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")

    assert (root / "spec-2" / "reference.py").is_file()
    assert (root / "README.md-1").is_file()
    assert "(spec-2/README.md)" in (root / "README.md-1").read_text()
    assert sorted(runs_of(reference, root)) == sorted(refs)


def test_a_namespace_named_as_the_description_is_refused(tmp_path: Path) -> None:
    ref = finish(fresh(tmp_path / "s", "ro-crate-metadata.json"), {"n": 1})
    with pytest.raises(NameRefusedError, match="the description of a bundle has this name"):
        make(tmp_path / "s", tmp_path / "x.tar", [ref])


def test_external_files_are_named_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "outside.txt").write_text("elsewhere")
    session = fresh(tmp_path / "s").session("train", {"n": 1}).start()
    session.attach_files({"log": tmp_path / "outside.txt"})
    session.done()
    done = make(tmp_path / "s", tmp_path / "x.tar", [session.ref])

    assert done.external == [str(tmp_path / "outside.txt")]
    assert done.is_made
    assert not any(name.endswith("outside.txt") for name in names_in(tmp_path / "x.tar"))


def test_a_path_that_leads_out_of_the_root_is_not_followed(tmp_path: Path) -> None:
    """An event that is forged: the file is there, and has the digest that is recorded."""
    (tmp_path / "secret").write_bytes(b"abc")
    ref = RunRef(f"train/{uid_of(b'{}')}")
    file = File("f", "../secret", 3, blake3(b"abc").digest(), False)
    fresh(tmp_path / "s").ledger.append(
        lambda attempt: [Created(ref, "{}", uid_of(b"{}"), "subfolder"), Done(ref, attempt, 1, [file])]
    )
    done = make(tmp_path / "s", tmp_path / "x.tar", [ref], allow_missing=True)

    assert [(one.path, one.what) for one in done.unfit] == [("../secret", "its path leads out of the root")]
    assert not any("secret" in name for name in names_in(tmp_path / "x.tar"))


def test_only_the_newest_seal_of_a_path_counts(tmp_path: Path, refs: dict[str, RunRef]) -> None:
    make(tmp_path / "s", tmp_path / "x.tar", [refs["done done"]])
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")

    assert (root / refs["done done"][-32:] / "train_out.bin").read_bytes().count(b"done done") == 2


def test_metrics_come_along(tmp_path: Path, refs: dict[str, RunRef]) -> None:
    project = fresh(tmp_path / "s")
    with project.session("train", {"n": "measured"}) as run:
        for step in range(10):
            run.log({"loss": 1 / (step + 1)})
    with project.session("train", {"n": "another"}) as other:
        other.log({"loss": 1.0})
    project.ledger.close()
    make(tmp_path / "s", tmp_path / "x.tar", [run.ref])
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")
    mine = {
        p: d for p, d in files_below(tmp_path / "s").items() if f"/metrics/{run.uid[:2]}/{run.uid[2:]}" in p
    }

    assert mine
    assert {p: d for p, d in files_below(root).items() if "/metrics/" in p} == mine


Read = Callable[[int], bytes]


class Taken:
    """An archive in memory."""

    def __init__(self) -> None:
        self.data = b""

    def add(self, name: str, size_bytes: int, mode: int, read: Read) -> None:
        while data := read(7):
            self.data += data
        assert len(self.data) == size_bytes


@pytest.mark.parametrize(("size", "why"), [(9, "it was cut short"), (11, "it grew"), (10, "")])
def test_a_file_that_changes_while_it_is_read_is_unfit(tmp_path: Path, size: int, why: str) -> None:
    """It is cut or grows after it was opened: what is written has the size that was said all the same."""
    path = tmp_path / "f"
    path.write_bytes(b"0123456789")

    class Changing(Taken):
        def add(self, name: str, size_bytes: int, mode: int, read: Read) -> None:
            os.truncate(path, size)
            super().add(name, size_bytes, mode, read)

    made = Changing()
    member = Member("f", str(path), 10, blake3(b"0123456789").digest())
    if why:
        with pytest.raises(archive.UnfitError, match=why):
            archive.copy(made, "f", member, lambda _: None)
    else:
        assert archive.copy(made, "f", member, lambda _: None).size_bytes == 10
    assert len(made.data) == 10


def test_a_mode_of_prefix_has_its_params_beside_the_files(tmp_path: Path) -> None:
    ref = finish(fresh(tmp_path / "s", "", StorageMode.PREFIX), {"n": 1})
    make(tmp_path / "s", tmp_path / "x.tar", [ref])

    assert (
        unpacked(tmp_path / "x.tar", tmp_path / "u") / f"{ref[-32:]}_params.json"
    ).read_text() == '{"n":1}'
