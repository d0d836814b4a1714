"""Names that every file system carries, and paths that read back. Spec: spec/layout.md."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime
from pathlib import PurePath, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker._model import names
from tracker.errors import NameRefusedError, TrackerError
from tracker.terms import StorageMode

UID = "a7f6c8b122de39b556aa975ba9567946"
WRITER = "019abc0011227333844455566677788f"
HASH16 = "5d41402abc4b2a76"
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

CHECKS = [names.check_identifier, names.check_relpath, names.check_name]


def _accepts(check, value) -> bool:
    try:
        check(value)
    except NameRefusedError:
        return False
    return True


hexes = {n: st.text("0123456789abcdef", min_size=n, max_size=n) for n in (16, 32, 64)}
texts = st.text("abcXYZ019._- éß漢", min_size=1, max_size=30)
identifiers = texts.filter(lambda text: _accepts(names.check_identifier, text))
relpaths = (
    st.lists(identifiers, max_size=3).map("/".join).filter(lambda text: _accepts(names.check_relpath, text))
)


PORTABLE = [
    "train",
    "x",
    "Train-2.1_b",
    "lr=0.1, seed=3",
    "größe",
    "训练",
    "🙂",
    ".hidden",
    ".trac",
    "a.tracker",
    "console",
    "com",
    "com10",
    "nul_",
    "auxiliary.py",
    "a" * 100,
    "é" * 50,
    UID + "0",
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", PORTABLE)
def test_a_portable_name_comes_back_as_it_is(check, name):
    assert check(name) == name


UNPORTABLE = [
    ("a" * 101, "has 101 bytes"),
    ("é" * 51, "has 102 bytes"),
    ("a\tb", r"holds '\t'"),
    ("a\nb", r"holds '\n'"),
    ("a\n", r"holds '\n'"),
    ("a\0b", r"holds '\x00'"),
    ("a\x7fb", r"holds '\x7f'"),
    ("a\\b", r"holds '\\'"),
    *[(f"a{character}b", f"holds {character!r}") for character in '<>:"|?*'],
    (".", "another folder"),
    ("..", "another folder"),
    ("a.", "ends in a dot or a space"),
    ("a ", "ends in a dot or a space"),
    ("...", "ends in a dot or a space"),
    (" a", "begins with a space"),
    (".tracker", "begins with .tracker"),
    (".tracker-old", "begins with .tracker"),
    (".Tracker", "begins with .tracker"),
    (".trac\u212aer", "begins with .tracker"),
    ("con", "device"),
    ("PRN", "device"),
    ("aux.txt", "device"),
    ("nul.tar.gz", "device"),
    ("NUL .txt", "device"),
    ("COM0", "device"),
    ("lpt9.x", "device"),
    ("com¹", "device"),
    ("\ud800", "no UTF-8 form"),
]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("shape", ["{}", "a/{}", "{}/a"])
@pytest.mark.parametrize(("name", "why"), UNPORTABLE)
def test_an_unportable_part_is_refused_with_the_reason(check, shape, name, why):
    value = shape.format(name)
    if check is names.check_identifier and "/" in value:
        why = "holds '/'"

    with pytest.raises(NameRefusedError, match=re.escape(why)) as caught:
        check(value)

    assert caught.value.value == value
    assert caught.value.cure


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (names.check_identifier, "", "identifier '': is empty; leave no part empty"),
        (names.check_identifier, "a/b", "identifier 'a/b': holds '/'; name folders with sub()"),
        (
            names.check_identifier,
            7,
            "identifier 7: is of type int; give it as text",
        ),
        (names.check_relpath, "a/..", "namespace 'a/..': its part '..' leads to another folder; "),
        (names.check_relpath, "/abs", "namespace '/abs': is an absolute path; give it relative, "),
        (names.check_relpath, "a//b", "namespace 'a//b': its part '' is empty; "),
        (names.check_relpath, "a/", "namespace 'a/': its part '' is empty; "),
        (names.check_relpath, UID.upper(), f"namespace {UID.upper()!r}: {UID.upper()!r} looks like the "),
        (names.check_relpath, f"a/{UID}", f"namespace 'a/{UID}': {UID!r} looks like the folder of a run; "),
        (names.check_name, "", "file name '': is empty; "),
        (names.check_name, "/tmp/x", "file name '/tmp/x': is an absolute path; "),
        (names.check_name, b"x", "file name b'x': is of type bytes; give it as text"),
        (names.check_name, "params.json", "file name 'params.json': the name params.json is kept "),
        (names.check_name, "sub/Params.JSON", "file name 'sub/Params.JSON': the name params.json is kept "),
    ],
)
def test_a_refusal_names_the_place_the_value_and_the_cure(check, value, message):
    with pytest.raises(TrackerError) as caught:
        check(value)

    assert str(caught.value).startswith(message)
    assert isinstance(caught.value, ValueError)


def test_what_was_refused_once_is_refused_again():
    refusals = [_accepts(names.check_identifier, "a/b") for _ in range(3)]

    assert refusals == [False, False, False]


@pytest.mark.parametrize("root", ["", PurePosixPath("."), PurePath(), PurePath("")])
def test_the_empty_relpath_is_the_root(root):
    assert names.check_relpath(root) == ""


def test_paths_give_posix_text_in_their_own_spelling():
    spellings = [PureWindowsPath("Grid\\A"), PureWindowsPath("grid\\a"), PurePosixPath("grid/a/")]

    assert [names.check_relpath(path) for path in spellings] == ["Grid/A", "grid/a", "grid/a"]
    assert [names.check_name(path) for path in spellings] == ["Grid/A", "grid/a", "grid/a"]


@pytest.mark.parametrize("path", [PureWindowsPath("C:\\a"), PureWindowsPath("\\a"), PurePosixPath("a\\b")])
def test_paths_of_a_drive_or_with_a_backslash_are_refused(path):
    assert not _accepts(names.check_relpath, path)


def test_a_text_of_a_subclass_comes_back_as_plain_text():
    assert type(names.check_identifier(StorageMode.PREFIX)) is str


def test_a_uid_may_be_an_identifier_and_a_file_name_but_no_namespace():
    verdicts = [_accepts(check, UID) for check in CHECKS]

    assert verdicts == [True, False, True]


@given(st.text(max_size=12))
def test_no_accepted_name_breaks_a_rule_of_the_spec(text):
    if not _accepts(names.check_identifier, text):
        return

    assert 1 <= len(text.encode()) <= 100
    assert not any(ord(c) < 0x20 or c == "\x7f" or c in '\\/<>:"|?*' for c in text)
    assert text not in (".", "..") and text[-1] not in ". " and text[0] != " "
    assert PureWindowsPath(text).name == text == PurePosixPath(text).name


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Grid", "gRID"),
        ("\u00e9", "e\u0301"),
        ("\u00c9", "e\u0301"),
        ("straße", "STRASSE"),
        ("\u212a", "k"),
        ("\u01f0\u0323", "J\u0323\u030c"),
    ],
)
def test_spellings_of_one_name_fold_alike(one, other):
    assert names.fold_name(one) == names.fold_name(other)


@given(st.text())
def test_folding_is_done_after_one_pass_and_ignores_the_normal_form(text):
    folded = names.fold_name(text)

    assert names.fold_name(folded) == folded
    assert names.fold_name(unicodedata.normalize("NFD", text)) == folded


@given(relpaths, identifiers, hexes[32])
def test_a_ref_reads_back_and_prints_the_same(relpath, identifier, uid):
    ref = names.run_ref(relpath, identifier, uid)

    assert names.split_ref(ref) == (relpath, identifier, uid)


def test_a_run_at_the_root_has_a_ref_without_a_leading_slash():
    assert names.run_ref("", "train", UID) == f"train/{UID}"
    assert names.run_ref("a/b", "train", UID) == f"a/b/train/{UID}"


@pytest.mark.parametrize(
    "ref",
    [
        "",
        UID,
        f"/{UID}",
        f"/train/{UID}",
        f"a//train/{UID}",
        f"../train/{UID}",
        f"a/./train/{UID}",
        f"../{UID}",
        f"tr\0ain/{UID}",
        f"train/{UID.upper()}",
        f"train/{UID[1:]}",
        f"train/{UID}\n",
        f"train/{UID}/",
    ],
)
def test_junk_is_no_ref(ref):
    with pytest.raises(ValueError, match="not a run's ref"):
        names.split_ref(ref)


@given(st.one_of(st.text(), st.from_regex(r"[a./]{0,5}/[0-9a-f]{32}", fullmatch=True)))
def test_what_splits_prints_the_same(ref):
    try:
        name = names.split_ref(ref)
    except ValueError:
        return

    assert names.run_ref(*name) == ref


SUBFOLDER, PREFIX = StorageMode.SUBFOLDER, StorageMode.PREFIX


@pytest.mark.parametrize(
    ("relpath", "mode", "name", "include_identifier", "want"),
    [
        ("", SUBFOLDER, "model.pt", True, f"{UID}/train_model.pt"),
        ("", SUBFOLDER, "model.pt", False, f"{UID}/model.pt"),
        ("grid/a", SUBFOLDER, "sub/f.pt", True, f"grid/a/{UID}/sub/train_f.pt"),
        ("grid", SUBFOLDER, "sub/f.pt", False, f"grid/{UID}/sub/f.pt"),
        ("", PREFIX, "ckpt.pt", True, f"{UID}_train_ckpt.pt"),
        ("", PREFIX, "ckpt.pt", False, f"{UID}_ckpt.pt"),
        ("grid", PREFIX, "ckpt.pt", True, f"grid/{UID}_train_ckpt.pt"),
        ("grid", PREFIX, "sub/dir/f.pt", True, f"grid/sub/dir/{UID}_train_f.pt"),
        ("", PREFIX, "sub/f.pt", True, f"sub/{UID}_train_f.pt"),
    ],
)
def test_a_file_lies_where_the_table_of_the_spec_says(relpath, mode, name, include_identifier, want):
    assert names.file_path(relpath, "train", UID, mode, name, include_identifier) == want


@pytest.mark.parametrize(
    ("relpath", "mode", "folder", "params"),
    [
        ("", SUBFOLDER, UID, f"{UID}/params.json"),
        ("grid", SUBFOLDER, f"grid/{UID}", f"grid/{UID}/params.json"),
        ("", PREFIX, "", f"{UID}_params.json"),
        ("a/b", PREFIX, "a/b", f"a/b/{UID}_params.json"),
    ],
)
def test_folder_and_params_lie_where_the_table_of_the_spec_says(relpath, mode, folder, params):
    assert names.folder_of(relpath, UID, mode) == folder
    assert names.params_path(relpath, UID, mode) == params


@given(
    relpaths,
    identifiers,
    st.lists(identifiers, min_size=1, max_size=3).map("/".join),
    st.sampled_from(StorageMode),
    st.booleans(),
    st.lists(st.sampled_from(["sub", "Sub", "params.json", f"{UID}_params.json"]), max_size=2),
)
def test_no_file_lies_where_a_run_has_its_params(relpath, identifier, name, mode, include_identifier, more):
    name = "/".join([name, *more])
    if not _accepts(names.check_name, name):
        return

    path = names.file_path(relpath, identifier, UID, mode, name, include_identifier)
    folder, _, last = path.rpartition("/")
    above, _, run = folder.rpartition("/")
    is_params = last == f"{UID}_params.json" and _accepts(names.check_relpath, folder)
    is_params |= last == "params.json" and run == UID and _accepts(names.check_relpath, above)
    assert not is_params


@given(
    hexes[32],
    st.integers(0, 10**12),
    st.one_of(st.tuples(st.just("open"), st.none()), st.tuples(st.sampled_from(["seg", "part"]), hexes[16])),
)
def test_the_name_of_a_segment_reads_back(writer, number, sealed):
    kind, hash16 = sealed
    name = names.segment_name(writer, number, kind, hash16)

    assert names.parse_segment_name(name) == (writer, number, hash16, kind)
    assert re.fullmatch("[0-9a-z.-]+", name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        f"{WRITER}.open",
        f"{WRITER}-.open",
        f"{WRITER}-01.open",
        f"{WRITER}-+1.open",
        f"{WRITER}-٣.open",
        f"{WRITER}-1.open\n",
        f"{WRITER}-1.seg",
        f"{WRITER}-1.part",
        f"{WRITER}-1-{HASH16}.open",
        f"{WRITER}-1-{HASH16[1:]}.seg",
        f"{WRITER}-1-{HASH16.upper()}.seg",
        f"{WRITER.upper()}-1.open",
        f"{WRITER[1:]}-1.open",
        f"{WRITER}-1-{HASH16}.seg.conflict",
        f"{WRITER}-1-{HASH16} (copy).seg",
        f".{WRITER}-1-{HASH16}.seg.Ab12cd",
        "tmp-00ff",
        f"{WRITER}-{'9' * 5000}.open",
    ],
)
def test_another_name_is_no_segment(name):
    assert names.parse_segment_name(name) is None


def test_a_journal_with_a_hash_or_a_sealed_file_without_one_is_a_bug():
    with pytest.raises(AssertionError, match="a journal has no hash"):
        names.segment_name(WRITER, 0, "open", HASH16)
    with pytest.raises(AssertionError, match="a sealed file has one"):
        names.segment_name(WRITER, 0, "seg")


@given(hexes[32], hexes[16])
def test_the_path_of_a_manifest_reads_back(uid, hash16):
    assert names.parse_manifest_path(names.manifest_path(uid, hash16)) == (uid, hash16)


@given(hexes[64])
def test_the_path_of_an_object_reads_back(digest):
    assert names.parse_object_path(names.object_path(digest)) == digest


def test_paths_of_the_store_are_those_of_the_spec():
    manifest = names.manifest_path("a7f6c8b122de39b556aa975ba9567946", "1f3870be274f6c49")

    assert manifest == "manifests/a7/f6c8b122de39b556aa975ba9567946-1f3870be274f6c49.json"
    assert names.object_path(DIGEST) == f"objects/9f/{DIGEST[2:]}"


@pytest.mark.parametrize(
    "path",
    [
        "",
        names.manifest_path(UID, HASH16).upper(),
        names.manifest_path(UID, HASH16) + "\n",
        names.manifest_path(UID, HASH16).removeprefix("manifests/"),
        names.manifest_path(UID, HASH16).replace("/a7/", "/a7//"),
        names.manifest_path(UID, HASH16[1:]),
        names.object_path(DIGEST) + "0",
        names.object_path(DIGEST[1:]),
        f"objects/{DIGEST}",
        f"objects/../{DIGEST[2:]}",
    ],
)
def test_another_path_is_no_manifest_and_no_object(path):
    assert names.parse_manifest_path(path) is None
    assert names.parse_object_path(path) is None


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31)))
def test_the_month_of_a_time_is_its_utc_month(moment):
    ms = int(moment.replace(tzinfo=UTC).timestamp() * 1000)
    month = names.month_of(ms)

    assert month == f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m}"
    assert names.is_month(month)


@pytest.mark.parametrize(
    ("ms", "month"), [(0, "1970-01"), (-1, "1970-01"), (1 << 64, "9999-12"), (1764547199999, "2025-11")]
)
def test_a_mad_clock_still_has_a_month(ms, month):
    assert names.month_of(ms) == month


@pytest.mark.parametrize("name", ["", "2026-13", "2026-00", "2026-1", "26-01", "2026-01\n", "2026-01 2"])
def test_another_name_is_no_month(name):
    assert not names.is_month(name)


@given(st.binary(min_size=1, max_size=16))
def test_the_name_of_a_temporary_file_is_known_again(random):
    assert names.is_temporary(names.temporary_name(random))


@pytest.mark.parametrize("name", ["", "tmp-", "tmp-XY", "tmp-0f.json", "tmp", "a-tmp-00", "tmp-00\n"])
def test_another_name_is_no_temporary_file(name):
    assert not names.is_temporary(name)
