"""Packs as the reference writes and reads them; the judges are GNU tar, tarfile and loose files.

Spec: spec/packs.md sections 1, 3 and 4.
"""

from __future__ import annotations

import io
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from blake3 import blake3

SPEC = Path(__file__).resolve().parents[2] / "spec"
sys.path.insert(0, str(SPEC))

import reference  # noqa: E402  (its folder must be on the path first)

LONG = f"metrics/a7/{'c' * 30}-{'d' * 16}-{'e' * 32}-0-{'f' * 16}.seg"
MEMBERS = {
    "manifests/a7/short.json": b"",
    "m" * 100: b"m" * 512,
    "m" * 101: b"n" * 513,
    "n" * 255: bytes(range(256)) * 12,
    LONG: b"\n",
}
PACK = reference.tar_file(MEMBERS)
IN_ORDER = sorted(MEMBERS.items())


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << at % 7]) + data[at + 1 :]


def gnu_tar() -> str:
    for name in ("tar", "gtar"):
        path = shutil.which(name)
        if path and b"GNU tar" in subprocess.run([path, "--version"], capture_output=True).stdout:
            return path
    pytest.skip("GNU tar is not installed")


def test_gnu_tar_makes_the_same_bytes_by_the_command_of_the_page(tmp_path: Path) -> None:
    for name, data in MEMBERS.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    page = (SPEC / "packs.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^```sh\ntar (.*?) PACK NAME…\n```", page, re.MULTILINE | re.DOTALL)
    options = shlex.split(line.replace("\\\n", ""))
    command = [gnu_tar(), *options, str(tmp_path / "pack"), *sorted(MEMBERS)]
    subprocess.run(command, cwd=tmp_path, check=True)

    assert (tmp_path / "pack").read_bytes() == PACK


def test_gnu_tar_of_short_names_needs_no_pax(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"x")
    plain = "--format=ustar -b1 --owner=0 --group=0 --numeric-owner --mtime=@0 --mode=0444 -cf pack short"
    subprocess.run([gnu_tar(), *plain.split()], cwd=tmp_path, check=True)

    assert (tmp_path / "pack").read_bytes() == reference.tar_file({"short": b"x"})


def test_gnu_tar_puts_the_members_where_they_were(tmp_path: Path) -> None:
    subprocess.run([gnu_tar(), "-xf", "-", "-C", str(tmp_path)], input=PACK, check=True)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]

    assert {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in files} == MEMBERS


def test_tarfile_lists_the_same_names_and_bytes() -> None:
    with tarfile.open(fileobj=io.BytesIO(PACK), mode="r:") as archive:
        opened = [(member, archive.extractfile(member)) for member in archive]
        found = [(member.name, file.read()) for member, file in opened if file is not None]

    assert found == IN_ORDER == [*reference.tar_members(PACK)]


@pytest.mark.parametrize("length", [1, 99, 100, 101, 102, 254, 255])
def test_a_header_is_one_block_or_three(length: int) -> None:
    header = reference.tar_header("n" * length, 7)

    assert len(header) == (512 if length <= 100 else 1536)
    assert reference.parse_tar_header(header, 0) == ("n" * length, 7, len(header))


@pytest.mark.parametrize("length", [0, 256])
def test_a_name_that_is_empty_or_too_long_has_no_header(length: int) -> None:
    with pytest.raises(ValueError, match="is no name of a member"):
        reference.tar_header("n" * length, 7)


def test_a_wrong_bit_in_a_long_header_costs_its_own_member_alone() -> None:
    behind = LONG.replace("-0-", "-1-")
    pack = reference.tar_file({LONG: b"x" * 2000, behind: b"behind"})
    for at in range(3 * reference.BLOCK):
        found = dict(reference.tar_members(flipped(pack, at)))

        assert found.pop(behind) == b"behind", at
        assert LONG not in found, at
        assert all(name.startswith(LONG[:100]) for name in found), at


def test_a_wrong_bit_in_what_a_cut_name_lacks_gives_another_name() -> None:
    pack = reference.tar_file({LONG: b"x"})
    at = pack.index(LONG.encode())
    for place in range(100, len(LONG)):
        ((name, data),) = reference.tar_members(flipped(pack, at + place))

        assert (len(name), name[:100], data) == (len(LONG), LONG[:100], b"x")
        assert name != LONG


def test_of_a_pack_that_was_cut_short_all_before_the_cut_is_read() -> None:
    for end in range(0, len(PACK), 37):
        found = [*reference.tar_members(PACK[:end])]
        *before, last = found or [("", b"")]
        if not found:
            assert end < reference.BLOCK
            continue
        assert before == IN_ORDER[: len(before)]
        assert (last[0], last[1]) == (IN_ORDER[len(before)][0], IN_ORDER[len(before)][1][: len(last[1])])


# Metrics in packs


def vector_of(path: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    header, *sections = path.read_text(encoding="utf-8").rstrip("\n").split("\n\n")
    files = [section.removeprefix("file: ").partition("\n") for section in sections if section[:5] == "file:"]
    facts = dict(line.split(": ", 1) for line in header.splitlines())
    return facts, {name: bytes.fromhex(text) for name, _, text in files}


def is_sealed(name: str) -> bool:
    return name.endswith((".seg", ".part"))


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def packed(files: dict[str, bytes]) -> dict[str, bytes]:
    """Give the files with all that are sealed in one pack of their folder."""
    pack = reference.tar_file(
        {name.removeprefix(".tracker/"): files[name] for name in files if is_sealed(name)}
    )
    folder = next(iter(files)).rpartition("/")[0]
    rest = {name: data for name, data in files.items() if not is_sealed(name)}
    return rest | {f"{folder}/{blake3(pack).hexdigest()[:16]}.pack": pack}


VECTORS = {path.stem: vector_of(path) for path in sorted((SPEC / "vectors" / "metrics").glob("*.txt"))}
SEALED = [
    name for name, (facts, files) in VECTORS.items() if facts["exit"] != "2" and any(map(is_sealed, files))
]


def test_there_are_vectors_with_sealed_files() -> None:
    assert len(SEALED) > 15


@pytest.mark.parametrize("name", SEALED)
def test_metrics_mean_the_same_packed_and_loose(name: str, tmp_path: Path) -> None:
    facts, files = VECTORS[name]
    write(tmp_path / "loose", files)
    write(tmp_path / "packed", packed(files))
    loose, in_packs = [reference.metrics(tmp_path / of, facts["run"]) for of in ("loose", "packed")]

    assert repr(in_packs) == repr(loose)


def test_metrics_of_a_later_format_in_a_pack_are_refused(tmp_path: Path) -> None:
    facts, files = VECTORS["type-5"]
    write(tmp_path, packed(files))

    with pytest.raises(reference.NewerFormat):
        reference.metrics(tmp_path, facts["run"])
