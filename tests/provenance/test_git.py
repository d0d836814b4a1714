"""What git is asked of a working tree, judged by git. Spec: spec/provenance.md section 4."""

from __future__ import annotations

import ast
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from blake3 import blake3

from tracker._codec.canonical import canonical
from tracker.provenance import git, untracked
from tracker.provenance.git import GitError, gather_code, parse_status
from tracker.provenance.masking import Masker
from tracker.provenance.untracked import is_source


def objects_of(code) -> dict[str, bytes]:
    for name, data in code.objects:
        assert blake3(data).digest() == name
    return {name.hex(): data for name, data in code.objects}


def make_again(repository, code, where: Path) -> Path:
    """The tree that a record means, as spec/provenance.md section 4 says it is made."""
    kept = objects_of(code)
    repository.git("clone", "--quiet", "--no-checkout", str(repository.top), str(where))
    repository.git("checkout", "--quiet", "--detach", code.facts["commit"], folder=where)
    if code.facts["diff"]:
        repository.git("apply", "--binary", "-", stdin=kept[code.facts["diff"]], folder=where)
    for name, mode, size, digest, *_ in code.facts["untracked"]:
        path, data = where / name, kept[digest]
        assert len(data) == size
        path.parent.mkdir(parents=True, exist_ok=True)
        if mode == "120000":
            path.symlink_to(os.fsdecode(data))
        else:
            path.write_bytes(data)
            path.chmod(int(mode, 8) & 0o777)
    return where


def tree(top: Path) -> dict[str, tuple[object, ...]]:
    """Every file below `top` with its bytes, and whether it is executable."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name != ".git"]
        for name in names:
            path = Path(folder, name)
            what = os.readlink(path) if path.is_symlink() else path.read_bytes()
            found[str(path.relative_to(top))] = (what, bool(path.lstat().st_mode & 0o100))
    found.pop(".git", None)
    return found


def test_a_clean_tree_is_its_commit(repository):
    code = repository.code()

    assert code.facts == {
        "vcs": "git",
        "commit": repository.git("rev-parse", "HEAD").decode().strip(),
        "branch": "main",
        "remote": None,
        "dirty": False,
        "diff": None,
        "untracked": [],
        "left_out": [],
    }
    assert (code.problems, code.top) == ([], str(repository.top))
    assert [*objects_of(code).values()] == [canonical(code.facts)]


def test_a_dirty_tree_is_made_again_byte_by_byte(repository, tmp_path):
    data = random.Random(7).randbytes(30_000)
    repository.commit(
        keep_py=b"a\nb\nc\n", gone_py=b"x\n", blob=data, moved_py=b"one\ntwo\nthree\n", run_py=b"#!\n"
    )
    repository.write("keep.py", b"a\r\nB\nc")
    repository.write("blob", data[:20_000] + b"\0\xff" + data[20_000:])
    repository.write("staged.py", b"import os\n")
    (repository.top / "gone.py").unlink()
    repository.git("mv", "moved.py", "elsewhere.py")
    repository.git("add", "staged.py")
    repository.write("staged.py", b"import os\nimport sys\n")
    (repository.top / "run.py").chmod(0o755)
    repository.write("new/deep/extra.py", b"y = 2\n")
    repository.write("tool.sh", b"#!/bin/sh\n").chmod(0o755)
    (repository.top / "link.py").symlink_to("keep.py")
    code = repository.code()

    assert code.facts["dirty"] is True
    assert (code.facts["left_out"], code.problems) == ([], [])
    assert "masked" not in code.facts
    assert tree(make_again(repository, code, tmp_path / "again")) == tree(repository.top)


def test_the_user_configuration_does_not_bend_the_diff(repository, tmp_path):
    repository.commit(a_py=b"1\n\n2\n", b_py=b"1\n")
    repository.write("a.py", b"1\n\n3\n")
    repository.write("b.py", b"2\n")
    (repository.top / "sub").mkdir()
    plain = repository.code().facts["diff"]
    for setting in (
        *("diff.noprefix true", "diff.mnemonicPrefix true", "color.ui always", "color.diff always"),
        *(
            "diff.renames copies",
            "diff.algorithm patience",
            "diff.suppressBlankEmpty true",
            "core.quotePath false",
        ),
        *("diff.relative true", "diff.context 9", "diff.interHunkContext 9", "diff.orderFile .git/order"),
        *(
            "diff.wsErrorHighlight all",
            "diff.submodule log",
            "diff.external false",
            "status.showUntrackedFiles no",
        ),
        *(
            "core.pager false",
            "diff.colorMoved zebra",
            "log.showSignature true",
            "status.relativePaths false",
        ),
    ):
        repository.git("config", *setting.split())
    repository.write(".git/order", b"b.py\n")
    code = gather_code(str(repository.top / "sub"), repository.environment, Masker())

    assert code.facts["diff"] == plain
    assert tree(make_again(repository, code, tmp_path / "again")) == tree(repository.top)


def test_a_file_with_another_time_alone_does_not_differ_and_the_index_stays(repository):
    repository.commit(same_py=b"1\n", other_py=b"1\n", last_py=b"1\n")
    for name in ("same.py", "last.py", "train.py"):
        os.utime(repository.top / name, (1, 1))
    clean = repository.code()
    repository.write("other.py", b"2\n")
    index = (repository.top / ".git/index").read_bytes()
    code = repository.code()

    assert (clean.facts["dirty"], clean.facts["diff"]) == (False, None)
    assert (repository.top / ".git/index").read_bytes() == index
    assert objects_of(code)[code.facts["diff"]] == repository.git("diff", "--binary", "HEAD")


@pytest.mark.parametrize(
    "name", ["new\nline.py", 'tab\t quote" back\\slash.py', "naïve ✓.py", " lead.py", "-x.py"]
)
def test_any_name_that_is_text_is_kept(repository, tmp_path, name):
    repository.write(name, b"z = 1\n")
    repository.write("also " + name, b"1\n")
    repository.git("add", "--", "also " + name)
    code = repository.code()

    assert [entry[0] for entry in code.facts["untracked"]] == [name]
    assert tree(make_again(repository, code, tmp_path / "again")) == tree(repository.top)


def test_a_name_that_is_no_text_is_left_out_and_named(repository):
    with open(os.path.join(os.fsencode(repository.top), b"caf\xe9.py"), "wb") as file:
        file.write(b"1\n")
    code = repository.code()

    assert code.facts["left_out"] == [["caf\ufffd.py", "its name is not UTF-8"]]


def test_a_diff_of_10_mb_is_kept_and_applies_and_a_larger_one_is_a_word(repository, tmp_path):
    line = b"x = '" + b"v" * 94 + b"'\n"
    repository.commit(big_py=b"")
    repository.write("big.py", line * 98_000)
    code = repository.code()
    size = len(objects_of(code)[code.facts["diff"]])

    assert 9_900_000 < size < git.MAX_DIFF
    assert tree(make_again(repository, code, tmp_path / "again")) == tree(repository.top)

    repository.write("big.py", line * 120_000)
    code = repository.code()

    assert (code.facts["diff"], code.facts["dirty"]) == (None, True)
    assert code.problems == ["git diff: not kept, over 10 MiB"]


def test_what_is_over_a_limit_is_left_out_and_named(repository, monkeypatch):
    monkeypatch.setattr(untracked, "MAX_FILES", 3)
    monkeypatch.setattr(untracked, "MAX_TOTAL", 5000)
    repository.write("a.py", b"1" * (untracked.MAX_FILE + 1))
    repository.write("b.py", b"1\0")
    repository.write("c.py", b"1" * 3000)
    repository.write("d.py", b"2" * 2001)
    for name in ("e.py", "f.py", "g.py"):
        repository.write(name, b"#")
    repository.write("weights.bin", b"no source")
    repository.write("notes.txt", b"no source")
    os.mkfifo(repository.top / "pipe.py")
    code = repository.code()

    assert [entry[0] for entry in code.facts["untracked"]] == ["c.py", "e.py", "f.py"]
    assert code.facts["left_out"] == [
        ["a.py", "over 1 MiB"],
        ["b.py", "binary"],
        ["d.py", "over 0 MiB in all"],
        ["g.py", "over 3 files"],
    ]


def test_what_git_ignores_and_what_a_store_wrote_is_no_source(repository):
    repository.write(".gitignore", b"local/\n")
    repository.commit()
    uid = "9f86d081884c7d659a2feaa0c55ad015"
    for name in ("local/a.py", f"results/{uid}/params.json", f"grid/{uid}_params.json", ".tracker/x.json"):
        repository.write(name, b"{}")
    code = repository.code()

    assert (code.facts["untracked"], code.facts["dirty"]) == ([], False)
    assert is_source(b"results/config.json")


def test_a_detached_head_has_no_branch(repository):
    first = repository.git("rev-parse", "HEAD").decode().strip()
    repository.commit(more_py=b"2\n")
    repository.git("checkout", "--quiet", first)
    code = repository.code()

    assert (code.facts["commit"], code.facts["branch"], code.problems) == (first, None, [])


def test_before_the_first_commit_the_files_are_kept(make_repository):
    unborn = make_repository()
    unborn.write("a.py", b"1\n")
    unborn.write("b.py", b"2\n")
    unborn.git("add", "b.py")
    code = unborn.code()

    assert (code.facts["commit"], code.facts["branch"], code.facts["dirty"]) == (None, "main", True)
    assert [entry[0] for entry in code.facts["untracked"]] == ["a.py", "b.py"]
    assert code.problems == ["git: no commit yet"]


def test_where_there_is_no_working_tree_a_word_is_left(make_repository, tmp_path):
    bare = make_repository("bare.git", "--bare")
    (tmp_path / "plain").mkdir()
    outside = gather_code(str(tmp_path / "plain"), bare.environment, Masker())
    gone = gather_code(str(tmp_path / "gone"), bare.environment, Masker())
    for code, word in (
        (bare.code(), "git: a bare repository"),
        (outside, "git: no repository"),
        (gone, "git: no such folder"),
    ):
        assert (code.facts, code.objects, code.problems) == (None, [], [word])


def test_inside_the_git_folder_there_is_no_working_tree(repository):
    code = gather_code(str(repository.top / ".git"), repository.environment, Masker())

    assert code.problems == ["git: no working tree"]


def test_without_git_a_word_is_left(repository, tmp_path):
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\ntouch ran\n")
    fake.chmod(0o755)
    for search in ("", ".", "bin", str(tmp_path / "none"), os.pathsep.join(["bin", "./bin"])):
        assert repository.code(PATH=search).problems == ["git: not installed"]


def test_a_repository_of_another_user_is_not_read(repository):
    if os.getuid() != 0:
        pytest.skip("only root can give files away")
    for folder, folders, names in os.walk(repository.top):
        for name in (".", *folders, *names):
            os.lchown(os.path.join(folder, name), 12345, 12345)

    assert repository.code().problems == ["git: the repository belongs to another user"]


def as_nobody(repository) -> git.Code:
    """Gather in a child that may not read everything, as root may."""
    if os.getuid() != 0:
        return repository.code()
    for folder, folders, names in os.walk(repository.top):
        for name in (".", *folders, *names):
            os.lchown(os.path.join(folder, name), 65534, 65534)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        code = repository.code()
        os.write(write, repr(tuple(code)).encode())
        os._exit(0)
    os.close(write)
    with open(read, "rb") as file:
        told = file.read()
    os.waitpid(child, 0)
    return git.Code(*ast.literal_eval(told.decode()))


def opened(path: Path) -> None:
    """Let others reach what lies in a temporary folder of pytest."""
    for folder in (path, *path.parents):
        if folder.owner() == "root" and str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o711)


def test_what_may_not_be_read_is_a_word_and_the_rest_is_kept(repository, tmp_path):
    opened(tmp_path)
    repository.write("hidden.py", b"1\n").chmod(0)
    repository.write("seen.py", b"2\n")
    code = as_nobody(repository)

    assert [entry[0] for entry in code.facts["untracked"]] == ["seen.py"]
    assert code.facts["left_out"] == [["hidden.py", "permission denied"]]

    path = repository.write("train.py", b"print(2)\n")
    path.chmod(0)
    code = as_nobody(repository)

    assert (code.facts["dirty"], code.facts["diff"]) == (True, None)
    assert code.problems == ["git diff: not kept, permission denied"]


@pytest.mark.parametrize("name", [".git", ".git/HEAD", ".git/index", ".git/objects", ".git/config"])
def test_a_git_folder_that_may_not_be_read_ends_nothing(repository, tmp_path, name):
    opened(tmp_path)
    path = repository.top / name
    path.chmod(0)
    code = as_nobody(repository)
    path.chmod(0o755)

    assert code.facts is None
    assert len(code.problems) == 1
    assert code.problems[0].startswith("git: ")


def test_a_damaged_repository_ends_nothing(repository):
    repository.write("train.py", b"print(2)\n")
    for name in ("index", "config", "HEAD"):
        data = (repository.top / ".git" / name).read_bytes()
        repository.write(f".git/{name}", b"\xff\0[" + data[:7])
        code = repository.code()
        repository.write(f".git/{name}", data)
        assert code.facts is None
        assert code.problems[0].startswith("git: ")
    shutil.rmtree(repository.top / ".git" / "objects")
    (repository.top / ".git" / "objects").mkdir()

    assert any(problem.startswith("git") for problem in repository.code().problems)


def test_submodules_are_listed_with_their_commits(make_repository, tmp_path):
    part = make_repository("part")
    first = part.commit(part_py=b"1\n")
    outer = make_repository("outer")
    outer.commit(a_py=b"1\n")
    for name in ("clean", "moved", "dirty", "away"):
        outer.git("submodule", "--quiet", "add", str(part.top), f"libs/{name}")
    outer.commit()
    part.commit(part_py=b"2\n")
    outer.git("pull", "--quiet", "origin", "main", folder=outer.top / "libs/moved")
    moved = outer.git("rev-parse", "HEAD", folder=outer.top / "libs/moved").decode().strip()
    (outer.top / "libs/dirty/part.py").write_bytes(b"3\n")
    outer.git("submodule", "--quiet", "deinit", "--force", "libs/away")
    code = outer.code()

    assert code.facts["submodules"] == [
        ["libs/away", first, None, None],
        ["libs/clean", first, first, False],
        ["libs/dirty", first, first, True],
        ["libs/moved", first, moved, False],
    ]
    assert code.problems == ["git: changes in 1 submodules are not kept"]
    assert objects_of(code)[code.facts["diff"]] == outer.git(
        "diff", "--binary", "HEAD", "--submodule=short", "--ignore-submodules=dirty"
    )


def test_a_worktree_and_a_submodule_are_trees_of_their_own(repository, tmp_path):
    repository.git("worktree", "add", "--quiet", "-b", "side", str(tmp_path / "side"))
    (tmp_path / "side" / "train.py").write_bytes(b"print(3)\n")
    code = gather_code(str(tmp_path / "side"), repository.environment, Masker())

    assert (code.top, code.facts["branch"], code.facts["dirty"]) == (str(tmp_path / "side"), "side", True)
    assert repository.code().facts["dirty"] is False


def test_merging_is_a_word(repository):
    repository.git("checkout", "--quiet", "-b", "side")
    repository.commit(train_py=b"print(2)\n")
    repository.git("checkout", "--quiet", "main")
    repository.commit(train_py=b"print(3)\n")
    with pytest.raises(subprocess.CalledProcessError):
        repository.git("merge", "--quiet", "side")

    assert repository.code().problems == ["git: unmerged paths"]


@pytest.mark.parametrize(
    ("url", "want"),
    [
        ("https://ada:pw12345@host.example/lab.git", "https://host.example/lab.git"),
        ("https://ghp_abcdefghij0123456789@github.com/ada/lab", "https://github.com/ada/lab"),
        ("ssh://git@host.example:22/lab.git", "ssh://git@host.example:22/lab.git"),
        ("ssh://git:pw12345@host.example/lab.git", "ssh://host.example/lab.git"),
        ("git@github.com:ada/lab.git", "git@github.com:ada/lab.git"),
        ("https://host.example/lab?private_token=abc&x=1", "https://host.example/lab?private_token=***&x=1"),
        ("../lab.git", "../lab.git"),
    ],
)
def test_the_remote_has_no_credentials(repository, url, want):
    repository.git("config", "remote.origin.url", url)

    assert repository.code().facts["remote"] == want


def test_the_remote_is_that_of_the_branch(repository):
    repository.git("remote", "add", "one", "https://one/x")
    assert repository.code().facts["remote"] == "https://one/x"

    repository.git("remote", "add", "two", "https://two/x")
    assert repository.code().facts["remote"] is None

    repository.git("config", "branch.main.remote", "two")
    assert repository.code().facts["remote"] == "https://two/x"


def test_gathering_executes_nothing_and_writes_nothing(repository, tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    script = tmp_path / "mark.sh"
    script.write_text(f'#!/bin/sh\necho "$0 $@" >> {marks}/ran\ncat\n')
    script.chmod(0o755)
    repository.write(".gitattributes", b"*.py filter=evil diff=evil\n*.txt filter=two.parts diff=evil\n")
    repository.write("a.txt", b"1\n")
    repository.commit()
    for key in (
        *("core.fsmonitor", "core.pager", "core.sshCommand", "core.editor", "core.askPass", "diff.external"),
        *("filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "filter.two.parts.clean"),
        *("diff.evil.textconv", "diff.evil.command", "credential.helper", "gpg.program", "pager.diff"),
        *("alias.status", "alias.diff", "core.alternateRefsCommand", "uploadpack.packObjectsHook"),
    ):
        repository.git("config", key, f"!{script}" if key.startswith("alias") else str(script))
    repository.git("config", "filter.evil.required", "true")
    for hook in ("post-index-change", "pre-commit", "post-checkout", "reference-transaction"):
        shutil.copy(script, repository.top / ".git/hooks" / hook)
    repository.write("train.py", b"print(2)\n")
    repository.write("a.txt", b"2\n")
    os.utime(repository.top / ".gitattributes")  # the index would be refreshed
    before = {path: path.stat().st_mtime_ns for path in repository.top.rglob("*")}
    code = repository.code(
        GIT_EXTERNAL_DIFF=str(script),
        GIT_PAGER=str(script),
        GIT_TRACE=str(marks / "trace"),
        GIT_DIR="/nowhere",
    )

    assert (code.facts["dirty"], code.problems) == (True, [])
    assert b"print(2)" in objects_of(code)[code.facts["diff"]]
    assert {path: path.stat().st_mtime_ns for path in repository.top.rglob("*")} == before
    assert [*marks.iterdir()] == []

    subprocess.run(["git", "-C", repository.top, "status"], env=repository.environment, capture_output=True)
    assert [path.name for path in marks.iterdir()] == ["ran"]  # so it would have run


def test_nothing_of_a_submodule_is_executed(make_repository, tmp_path):
    part, outer = make_repository("part"), make_repository("outer")
    part.commit(part_py=b"1\n", **{".gitattributes": b"*.py filter=evil\n"})
    outer.git("submodule", "--quiet", "add", str(part.top), "part")
    outer.commit()
    for key in ("core.fsmonitor", "filter.evil.clean", "filter.evil.process", "diff.external"):
        outer.git("config", key, f"touch {tmp_path}/ran; cat", folder=outer.top / "part")
    (outer.top / "part/part.py").write_bytes(b"2\n")
    code = outer.code()

    assert [entry[3] for entry in code.facts["submodules"]] == [True]
    assert not (tmp_path / "ran").exists()

    outer.git("status")
    assert (tmp_path / "ran").exists()  # so it would have run


def test_a_filter_that_cannot_be_named_is_not_run(repository):
    with open(repository.top / ".git/config", "a") as file:
        file.write('[filter "a=b"]\n\tclean = touch ran\n')
    repository.write(".gitattributes", b"*.py filter=a=b\n")
    repository.write("train.py", b"print(2)\n")

    assert repository.code().problems == ["git: not asked, as a filter has '=' in its name"]
    assert not (repository.top / "ran").exists()


def test_a_git_that_hangs_is_ended(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(git, "TIMEOUT_S", 0.3)
    slow = tmp_path / "bin" / "git"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nexec sleep 30\n")
    slow.chmod(0o755)
    code = repository.code(PATH=f"{slow.parent}:{os.environ['PATH']}")

    assert code.problems == ["git config: took longer than 0 s"]


def test_a_listing_that_is_too_long_keeps_what_is_tracked(repository, tmp_path):
    real = shutil.which("git")
    long = tmp_path / "bin" / "git"
    long.parent.mkdir()
    long.write_text(
        "#!/bin/sh\n"
        'case "$*" in *--untracked-files=all*) exec head -c 9000000 /dev/zero;; esac\n'
        f'exec {real} "$@"\n'
    )
    long.chmod(0o755)
    repository.write("train.py", b"print(2)\n")
    repository.write("more.py", b"print(2)\n")
    code = repository.code(PATH=f"{long.parent}:{os.environ['PATH']}")

    assert code.problems == ["git: too many untracked files to list"]
    assert (code.facts["dirty"], code.facts["untracked"]) == (True, [])


def test_the_same_tree_has_the_same_objects_from_any_folder(repository):
    repository.write("pkg/more.py", b"1\n")
    repository.write("train.py", b"print(2)\n")
    here = repository.code()
    below = gather_code(str(repository.top / "pkg"), repository.environment, Masker())

    assert here == below
    assert len(here.objects) == 3


@pytest.mark.parametrize("data", [b"", b"\0", b"# branch.head main\0", b"1 \0? \0", b"\xff"])
def test_what_is_no_answer_of_git_is_refused(data):
    with pytest.raises(GitError):
        parse_status(data)
