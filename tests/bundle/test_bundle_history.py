"""What the ledger of a bundle tells. The judge is the reference: the same runs, told as they were.

Spec: spec/bundle.md section 2.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from blake3 import blake3
from bundle_world import (
    FACTS,
    as_written_anew,
    diverge,
    files_below,
    fill,
    finish,
    fresh,
    make,
    runs_of,
    tell,
    unpacked,
)

from tracker import Project, Rule
from tracker._model.event import Noted, Tagged
from tracker.check import Level, Severity, rebuild, verify
from tracker.merge import merge
from tracker.packing import pack
from tracker.trash import remove

pytestmark = pytest.mark.unchecked_store("manifests of another ledger lie beside the bundle's")


def problems(root: Path) -> list[str]:
    found = verify(Project(root).ledger, Level.REPLAY).findings
    return [f"{f.code} {f.path}: {f.what}" for f in found if f.severity is not Severity.NOTE]


def test_runs_of_one_sweep_are_written_anew_and_are_what_they_were(
    tmp_path: Path, reference: ModuleType
) -> None:
    refs = fill(tmp_path / "s")
    chosen = sorted(set(refs.values()))
    before = runs_of(reference, tmp_path / "s")
    done = make(tmp_path / "s", tmp_path / "x.tar", chosen)
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")
    after = runs_of(reference, root)

    assert done.verbatim == []
    assert done.anew > 40
    assert sorted(after) == chosen
    assert set(before) - set(after) == {f"eval/{refs['done'][-32:]}"}
    for ref in chosen:
        assert as_written_anew(after[ref]) == as_written_anew(before[ref])
        assert after[ref]["first"][0] == before[ref]["first"][0], "under the clock that it had"
    assert {run["status"] for run in after.values()} == {"done", "error", "interrupted", "running", "lost"}


@pytest.mark.parametrize("seed", ["done", "error", "done error", "both", "prefix", "repeat", "lost", FACTS])
def test_one_run_alone_is_what_it_was(tmp_path: Path, reference: ModuleType, seed: str) -> None:
    ref = fill(tmp_path / "s")[seed]
    before = runs_of(reference, tmp_path / "s")[ref]
    make(tmp_path / "s", tmp_path / "x.tar", [ref])
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")
    after = runs_of(reference, root)

    assert list(after) == [ref]
    assert as_written_anew(after[ref]) == as_written_anew(before)
    assert problems(root) == []


def test_a_bundle_is_clean_and_its_names_are_hashes(tmp_path: Path) -> None:
    refs = fill(tmp_path / "s")
    make(tmp_path / "s", tmp_path / "x.tar", refs.values())
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")
    named = [*root.glob(".tracker/ledger/*/*.seg"), *root.glob(".tracker/manifests/*/*.json")]
    objects = [*root.glob(".tracker/objects/*/*")]

    assert problems(root) == []
    assert len(named) > 20
    assert all(blake3(path.read_bytes()).hexdigest()[:16] == path.stem[-16:] for path in named)
    assert objects
    assert all(blake3(path.read_bytes()).hexdigest() == path.parent.name + path.name for path in objects)


@pytest.mark.skipif(shutil.which("b3sum") is None, reason="needs b3sum")
def test_b3sum_prints_the_name_of_the_new_segment(tmp_path: Path) -> None:
    refs = fill(tmp_path / "s")
    make(tmp_path / "s", tmp_path / "x.tar", refs.values())
    (segment,) = unpacked(tmp_path / "x.tar", tmp_path / "u").glob(".tracker/ledger/*/*")
    printed = subprocess.run(["b3sum", "--no-names", segment], capture_output=True, text=True, check=True)

    assert segment.stem.endswith(printed.stdout[:16])


def test_each_end_has_a_note_and_the_original_manifest_beside_it(
    tmp_path: Path, reference: ModuleType
) -> None:
    refs = fill(tmp_path / "s")
    originals = reference.manifests(tmp_path / "s")
    mine = {path: data for path, data in originals.items() if json.loads(data)["identifier"] == "train"}
    make(tmp_path / "s", tmp_path / "x.tar", refs.values())
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")
    notes = {note for run in runs_of(reference, root).values() for note in run["notes"]}
    implied = reference.manifests(root)
    there = {
        path: data for path, data in files_below(root / ".tracker").items() if path.startswith("manifests/")
    }

    assert len(mine) > 12
    assert there == mine | implied
    for path, data in mine.items():
        through = json.loads(data)["through"]
        frame = f"frame {through['seq']} of writer {through['writer']} is not here"
        taken = f"recovered from manifest {path}; {frame}"
        not_taken = f"not recovered from manifest {path}: a later attempt or end is known; {frame}"
        assert len({taken, not_taken} & notes) == 1


def test_the_original_manifests_are_settled(tmp_path: Path) -> None:
    refs = fill(tmp_path / "s")
    make(tmp_path / "s", tmp_path / "x.tar", refs.values())
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")
    before = files_below(root / ".tracker")
    made = rebuild(Project(root).ledger, lost_log=True)
    Project(root).ledger.close()

    assert (made.recovered, made.unmatched, made.manifests_written) == ([], [], 0)
    assert files_below(root / ".tracker") == before


def test_attempts_that_did_not_know_each_other_are_both_heads(tmp_path: Path, reference: ModuleType) -> None:
    ref = diverge(fresh(tmp_path / "s"), {"lr": 1})
    finish(fresh(tmp_path / "s"), {"lr": 2})
    before = runs_of(reference, tmp_path / "s")[ref]
    make(tmp_path / "s", tmp_path / "x.tar", [ref])
    after = runs_of(reference, unpacked(tmp_path / "x.tar", tmp_path / "u"))[ref]

    assert len(before["attempts"]) == len(after["attempts"]) == 2
    assert as_written_anew(after) == as_written_anew(before)


def test_a_store_that_is_bundled_whole_keeps_its_history_byte_for_byte(
    tmp_path: Path, reference: ModuleType
) -> None:
    fill(tmp_path / "s")
    project = fresh(tmp_path / "s")
    project.ledger.close()
    before = reference.read_store(tmp_path / "s")
    done = make(tmp_path / "s", tmp_path / "x.tar", [run["ref"] for run in before["runs"]])
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")
    segments = {p: d for p, d in files_below(tmp_path / "s").items() if p.startswith(".tracker/ledger/")}

    assert (done.anew, done.left_out, sorted(done.verbatim)) == (0, [], sorted(segments))
    assert reference.read_store(root) == before
    assert segments.items() <= files_below(root).items()
    assert {p: d for p, d in files_below(root).items() if "/manifests/" in p} == {
        f".tracker/{p}": d for p, d in reference.manifests(tmp_path / "s").items()
    }


def test_a_run_with_a_process_of_its_own_keeps_its_segment(tmp_path: Path, reference: ModuleType) -> None:
    refs = []
    for number in range(3):
        refs.append(finish(fresh(tmp_path / "s"), {"n": number}))
        fresh(tmp_path / "s").ledger.close()
    tell(fresh(tmp_path / "s"), Tagged(refs[0], ["paper"], []), Noted(refs[1], "not chosen"))
    before = runs_of(reference, tmp_path / "s")
    done = make(tmp_path / "s", tmp_path / "x.tar", [refs[0], refs[2]])
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")
    after = runs_of(reference, root)

    assert (len(done.verbatim), done.anew) == (2, 1)
    assert after == {ref: before[ref] for ref in (refs[0], refs[2])}
    assert after[refs[0]]["tags"] == ["paper"]
    assert "not chosen" not in str(files_below(root / ".tracker"))
    assert problems(root) == []


def test_a_run_with_an_attempt_in_a_shared_segment_is_written_anew_as_a_whole(
    tmp_path: Path, reference: ModuleType
) -> None:
    """Else what its first segment tells as a head would stand beside the attempt that superseded it."""
    ref = finish(fresh(tmp_path / "s"), {"n": 0}, "done")
    fresh(tmp_path / "s").ledger.close()
    finish(fresh(tmp_path / "s"), {"n": 1})
    finish(fresh(tmp_path / "s"), {"n": 0}, "error")
    before = runs_of(reference, tmp_path / "s")[ref]
    done = make(tmp_path / "s", tmp_path / "x.tar", [ref])
    after = runs_of(reference, unpacked(tmp_path / "x.tar", tmp_path / "u"))[ref]

    assert (before["status"], len(before["attempts"])) == ("error", 2)
    assert (done.verbatim, len(done.left_out)) == ([], 1)
    assert as_written_anew(after) == as_written_anew(before)


def test_of_a_journal_that_is_written_the_good_prefix_is_taken(tmp_path: Path, reference: ModuleType) -> None:
    ref = finish(fresh(tmp_path / "s"), {"n": 0}, "running")
    (journal,) = (tmp_path / "s").glob(".tracker/ledger/*/*.open")
    whole = journal.read_bytes()
    before = runs_of(reference, tmp_path / "s")
    done = make(tmp_path / "s", tmp_path / "x.tar", [ref])
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")
    (part,) = root.glob(".tracker/ledger/*/*.part")

    assert done.unfinished == [ref]
    assert part.read_bytes() == whole
    assert runs_of(reference, root) == before
    assert not list(root.rglob("train_out.bin"))


def test_rules_come_along(tmp_path: Path, reference: ModuleType) -> None:
    project = Project(tmp_path / "s", provenance=False, rules=[Rule.ignore("device")])
    ref = finish(project, {"n": 0, "device": "cpu"})
    finish(project, {"n": 1, "device": "cpu"})
    want = reference.read_store(tmp_path / "s")["rules"]
    make(tmp_path / "s", tmp_path / "x.tar", [ref])
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")

    assert reference.read_store(root)["rules"] == want
    assert want == [["ignore", "device", None]]
    assert Project(root).has("train", {"n": 0, "device": "gpu"})


def test_with_whole_the_originals_come_with_other_runs_and_without_their_files(
    tmp_path: Path, reference: ModuleType
) -> None:
    refs = fill(tmp_path / "s")
    fresh(tmp_path / "s").ledger.close()
    before = runs_of(reference, tmp_path / "s")
    done = make(tmp_path / "s", tmp_path / "x.tar", [refs["done"]], whole=True)
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")

    assert done.strangers == len(before) - 1
    assert done.anew == 0
    assert runs_of(reference, root) == before
    assert [p.parent.name for p in root.rglob("train_out.bin")] == [refs["done"][-32:]]


def test_packed_segments_are_taken_too(tmp_path: Path, reference: ModuleType) -> None:
    refs = [
        finish(fresh(tmp_path / "s"), {"n": n}) for n in range(2) if not fresh(tmp_path / "s").ledger.close()
    ]
    project = fresh(tmp_path / "s")
    project.ledger.close()
    pack(project.ledger)
    assert not list((tmp_path / "s").glob(".tracker/ledger/*/*.seg"))
    before = runs_of(reference, tmp_path / "s")
    done = make(tmp_path / "s", tmp_path / "x.tar", [refs[0]])
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")

    assert len(done.verbatim) == 1
    assert runs_of(reference, root) == {refs[0]: before[refs[0]]}


def test_a_damaged_segment_is_written_anew_and_said_to_be_unproven(
    tmp_path: Path, reference: ModuleType
) -> None:
    ref = finish(fresh(tmp_path / "s"), {"n": 0})
    fresh(tmp_path / "s").ledger.close()
    (segment,) = (tmp_path / "s").glob(".tracker/ledger/*/*.seg")
    data = bytearray(segment.read_bytes())
    at = data.index(b"created")
    data[at] ^= 1
    segment.chmod(0o644)
    segment.write_bytes(data)
    before = runs_of(reference, tmp_path / "s")[ref]
    done = make(tmp_path / "s", tmp_path / "x.tar", [ref])
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")
    after = runs_of(reference, root)[ref]

    assert before["unproven"] and before["params"] is None
    assert (done.unproven, done.verbatim) == ([ref], [])
    assert after["status"] == before["status"]
    assert any("salvaged from a damaged segment" in note for note in after["notes"])


def test_removed_runs_are_not_bundled(tmp_path: Path, reference: ModuleType) -> None:
    refs = fill(tmp_path / "s")
    project = fresh(tmp_path / "s")
    remove(project.ledger, refs["done"])
    done = make(tmp_path / "s", tmp_path / "x.tar", [refs["done"], refs["error"]])

    assert done.runs == [refs["error"]]


def test_merged_back_nothing_false_is_added(tmp_path: Path, reference: ModuleType) -> None:
    """Also where the original went on: a tag was taken away, a run begun anew."""
    refs = fill(tmp_path / "s")
    make(tmp_path / "s", tmp_path / "x.tar", refs.values())
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")
    project = fresh(tmp_path / "s")
    tell(project, Tagged(refs[FACTS], [], ["paper"]))
    finish(project, {"lr": "error"}, "done")
    project.ledger.close()
    before, files = runs_of(reference, tmp_path / "s"), files_below(tmp_path / "s")
    report = merge(project.ledger, root)
    project.ledger.close()
    after = runs_of(reference, tmp_path / "s")

    assert report.exit_code == 0
    assert after.keys() == before.keys()
    for ref, run in after.items():
        told = ("status", "params", "key", "mode", "tags", "summary", "divergent", "canonical", "name")
        assert {t: run.get(t) for t in told} == {t: before[ref].get(t) for t in told}
        assert run["attempts"] == before[ref]["attempts"]
    kept = files_below(tmp_path / "s")
    assert files
    assert {path: kept.get(path) for path in files} == files
    assert {
        f.code for f in verify(project.ledger, Level.FULL).findings if f.severity is not Severity.NOTE
    } == set()
    rebuild(project.ledger)
    assert problems(tmp_path / "s") == []


def test_two_bundles_of_one_store_become_one(tmp_path: Path, reference: ModuleType) -> None:
    refs = fill(tmp_path / "s")
    before = runs_of(reference, tmp_path / "s")
    make(tmp_path / "s", tmp_path / "a.tar", [refs["done"], refs["prefix"]])
    make(tmp_path / "s", tmp_path / "b.tar", [refs["error"], refs["prefix"]])
    root = unpacked(tmp_path / "a.tar", tmp_path / "u")
    merge(Project(root).ledger, unpacked(tmp_path / "b.tar", tmp_path / "v"))
    Project(root).ledger.close()
    after = runs_of(reference, root)

    assert {ref: run["status"] for ref, run in after.items()} == {
        refs[name]: before[refs[name]]["status"] for name in ("done", "prefix", "error")
    }
    assert problems(root) == []


def live_a_while(luck: random.Random, root: Path, runs: int) -> None:
    """Attempts, ends, tags and notes by several writers, in any order."""
    project = fresh(root)
    for _ in range(20):
        params = {"n": luck.randrange(runs)}
        ref = finish(project, params, luck.choice(("done", "done", "error", "interrupted")))
        if luck.random() < 0.3:
            tell(project, Tagged(ref, [luck.choice("ab")], [luck.choice("bc")]), Noted(ref, str(params)))
        if luck.random() < 0.4:
            project.ledger.close()
    project.ledger.close()


@pytest.mark.parametrize("seed", range(12))
def test_of_any_store_any_choice_is_what_it_was(tmp_path: Path, reference: ModuleType, seed: int) -> None:
    """Two hosts that did not know each other, merged; some runs kept by segment, some written anew."""
    luck = random.Random(seed)
    runs = luck.choice((4, 12))
    live_a_while(luck, tmp_path / "s", runs)
    live_a_while(luck, tmp_path / "other", runs)
    merge(fresh(tmp_path / "s").ledger, tmp_path / "other")
    fresh(tmp_path / "s").ledger.close()
    before = runs_of(reference, tmp_path / "s")
    chosen = luck.sample(sorted(before), luck.randrange(1, len(before) + 1))
    done = make(tmp_path / "s", tmp_path / "x.tar", chosen, allow_missing=True)
    root = unpacked(tmp_path / "x.tar", tmp_path / "u")
    after = runs_of(reference, root)

    assert sorted(after) == sorted(chosen)
    for ref in chosen:
        assert as_written_anew(after[ref]) == as_written_anew(before[ref])
        if not done.anew:
            assert after[ref] == before[ref]
    report = verify(Project(root).ledger, Level.REPLAY)
    codes = {f.code for f in report.findings if f.severity is not Severity.NOTE}
    assert codes == ({"file-missing"} if done.unfit else set())
