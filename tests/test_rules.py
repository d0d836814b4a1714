"""Rules in a store: runs found through them, sessions made under them, programs that state them.

The judges are the worked example of the page, b3sum's number of the file on disk, and `reference.alias`.
"""

from __future__ import annotations

import json
import pickle
import shutil
import time
from typing import Any

import pytest
import reference
from blake3 import blake3

import tracker
from tracker import Durability, ExistingRun, NotFoundError, ParamsError, Project, Status, interrupts
from tracker._model.event import Created
from tracker._model.event import Rule as RuleEvent
from tracker._model.rules import Rule, RuleError
from tracker.ledger import Ledger
from tracker.ruling import Added, add_rule, plan_rule, ruling_of
from tracker.trash import remove

OLD = {"loader": {"num_workers": 4}, "lr": 0.1, "model": "tiny"}
NEW = {
    "loader": {"num_workers": 16}, "device": "cuda", "ema": False, "model": "tiny", "optim": {"lr": 0.1},
}  # fmt: skip
OLD_UID = "947cdabc0611c859f729ecca89adcc9d"
NEW_UID = "14cfc557481a0455105f3faf165d920c"
EMA_UID = "f37ee2e0fbe56e5fc6eed89620fb7ec4"
RULES = [
    Rule.ignore("loader.num_workers"), Rule.ignore("device"), Rule.absent("ema", value=False),
    Rule.rename("lr", "optim.lr"),
]  # fmt: skip


def add(project: Project, *rules: Rule) -> None:
    for rule in rules:
        assert add_rule(project.ledger, rule).is_new


def refs(project: Project, **wanted: Any) -> list[str]:
    return [session.ref for session in project.find(**wanted)]


def done(project: Project, params: Any, identifier: str = "train") -> str:
    return project.session(identifier, params).start().done().ref


def test_the_worked_example(store):
    assert store.uid(OLD) == OLD_UID
    with store.session("train", OLD) as run:
        run.path("model.pt").write_bytes(b"w")
    before = {path: path.read_bytes() for path in store.root.glob("[0-9a-f]*/*")}
    add(store, *RULES)

    assert store.uid(NEW) == store.uid(OLD) == NEW_UID
    assert store.uid({**NEW, "ema": True}) == EMA_UID
    assert store.has("train", NEW)
    assert store.has("train", OLD)
    assert store.session("train", NEW).ref == f"train/{OLD_UID}"
    assert store.session("train", NEW).is_done()
    assert store.get("train", NEW).uid == OLD_UID
    assert refs(store, params=NEW) == [f"train/{OLD_UID}"]
    assert {path: path.read_bytes() for path in store.root.glob("[0-9a-f]*/*")} == before, "nothing is moved"
    text = (store.root / OLD_UID / "params.json").read_bytes()
    assert blake3(text).hexdigest(length=16) == OLD_UID


def test_a_run_made_under_rules_has_its_written_form_on_disk(store):
    add(store, *RULES)
    with store.session("train", {**NEW, "ema": True}) as run:
        assert run.params == {"ema": True, "model": "tiny", "optim": {"lr": 0.1}}
        assert run.ignored == {"device": "cuda", "loader": {"num_workers": 16}}
        assert run.uid == EMA_UID
        folder = run.folder
    text = (folder / "params.json").read_bytes()

    assert text == b'{"ema":true,"model":"tiny","optim":{"lr":0.1}}'
    assert blake3(text).hexdigest(length=16) == EMA_UID == folder.name


def test_what_was_ignored_is_recorded_with_the_run_and_nowhere_else(store):
    add(store, *RULES)
    done(store, NEW)
    events = reference.read_events(reference.read_ledger(store.root))
    (created,) = [event for event in events if event.tag == "created"]

    assert reference.ignored_of(created) == '{"device":"cuda","loader":{"num_workers":16}}'
    (told,) = [event for _, event in store.ledger.events() if isinstance(event, Created)]
    assert told.params == created.fields[1] == '{"model":"tiny","optim":{"lr":0.1}}'


def test_two_params_that_differ_in_what_is_ignored_are_one_run(store):
    add(store, Rule.ignore("device"))
    first = done(store, {"lr": 1, "device": "cpu"})

    assert store.session("train", {"lr": 1, "device": "cuda"}).is_done()
    assert store.session("train", {"lr": 1}).ref == first
    assert not store.has("train", {"lr": 2, "device": "cpu"})


def test_several_runs_under_one_alias_are_all_found_and_resume_takes_the_earliest_that_is_done(store):
    first, second = (store.session("train", {"lr": 1, "w": w}) for w in (4, 8))
    first.start()
    second.start().done()
    add(store, Rule.ignore("w"))

    assert refs(store, params={"lr": 1}) == [first.ref, second.ref]
    assert store.session("train", {"lr": 1}).ref == second.ref
    first.done()
    assert store.session("train", {"lr": 1}).ref == first.ref, "its first event is first"
    assert store.get("train", {"lr": 1}).ref == first.ref


def test_the_plain_run_comes_before_aliases_once_it_is_done(store):
    old = done(store, {"lr": 1, "w": 4})
    add(store, Rule.ignore("w"))
    plain = store._handle(
        "train", store.uid({"lr": 1}), store.uid({"lr": 1}), b'{"lr":1}', store.storage_mode
    )
    plain.start()

    assert store.session("train", {"lr": 1}).ref == old
    plain.done()
    assert store.session("train", {"lr": 1}).ref == plain.ref
    assert store.get("train", {"lr": 1}).ref == plain.ref
    assert refs(store, params={"lr": 1}) == [old, plain.ref]


def test_a_run_by_alias_that_is_not_done_is_not_resumed(store):
    store.session("train", {"lr": 1, "w": 4}).start().error(ValueError("no"))
    add(store, Rule.ignore("w"))

    assert store.session("train", {"lr": 1}).uid == store.uid({"lr": 1})
    assert not store.has("train", {"lr": 1})
    assert [s.status for s in store.find(params={"lr": 1})] == [Status.ERROR]
    assert refs(store, params={"lr": 1}, status="done") == []


def test_removed_runs_do_not_answer(store):
    ref = done(store, {"lr": 1, "w": 4})
    add(store, Rule.ignore("w"))
    remove(store.ledger, ref, "")

    assert not store.has("train", {"lr": 1})
    assert refs(store, params={"lr": 1}) == []


def test_repeats_of_old_runs_answer_too(store):
    repeat = store.session("train", {"lr": 1, "w": 4}, existing_run_strategy=ExistingRun.NEW).start().done()
    without = store.session("train").start().done()
    add(store, Rule.ignore("w"))

    assert store.session("train", {"lr": 1}).ref == repeat.ref
    assert refs(store, params={"lr": 1}) == [repeat.ref]
    assert without.ref not in refs(store, params={})


def test_a_new_repeat_has_the_key_of_the_written_form(store):
    add(store, Rule.ignore("w"))
    repeat = store.session("train", {"lr": 1, "w": 4}, existing_run_strategy="new").start().done()

    assert repeat.key == store.uid({"lr": 1})
    assert repeat.ignored == {"w": 4}
    assert store.session("train", {"lr": 1, "w": 5}).ref == repeat.ref


def test_identifiers_and_namespaces_stay_apart(store):
    done(store, {"lr": 1, "w": 4})
    done(store.sub("inner"), {"lr": 1, "w": 4})
    add(store, Rule.ignore("w"))

    assert store.session("eval", {"lr": 1}).identifier == "eval"
    assert not store.has("eval", {"lr": 1})
    assert len(refs(store, params={"lr": 1})) == len(refs(store.sub("inner"), params={"lr": 1})) == 1


def test_aliases_of_a_store_are_the_references_whatever_the_index_is(store, monkeypatch):
    for n in range(30):
        done(store, {"lr": n % 5, "w": n, "ema": bool(n % 2)})
    store.ledger.seal()
    add(store, Rule.ignore("w"), Rule.absent("ema", value=False), Rule.rename("lr", "o.lr"))
    done(store, {"o": {"lr": 9}})
    rows = [[e.kind, e.path, e.value] for _, e in store.ledger.rules()]
    state = reference.read_store(store.root)
    want: dict[str, list[str]] = {}
    for run in state["runs"]:
        want.setdefault(reference.alias(rows, run["params"]), []).append(run["ref"])

    assert len(want) == 11
    other = Ledger(store.root)
    for alias, runs in want.items():
        for ledger in (store.ledger, other):
            plain = [ref for ref in runs if ref.endswith(alias)]
            found = [run.ref for run in ruling_of(ledger).aliased(alias, "", "train")]
            assert found == [ref for ref in runs if ref not in plain]
    other.close()


def test_runs_that_arrive_from_a_copy_without_the_rule_are_found(store, tmp_path):
    there = Project(tmp_path / "there", durability=Durability.OFF)
    done(there, {"lr": 1, "w": 4})
    there.ledger.close()
    add(store, Rule.ignore("w"))
    assert not store.has("train", {"lr": 1})
    shutil.copytree(
        tmp_path / "there" / ".tracker" / "ledger", store.root / ".tracker" / "ledger", dirs_exist_ok=True
    )
    shutil.copytree(
        tmp_path / "there" / ".tracker" / "manifests",
        store.root / ".tracker" / "manifests",
        dirs_exist_ok=True,
    )

    assert store.has("train", {"lr": 1})


def test_a_rule_that_another_process_adds_holds_at_the_next_look(store):
    done(store, {"lr": 1, "w": 4})
    assert not store.has("train", {"lr": 1})
    other = Ledger(store.root)
    add_rule(other, Rule.ignore("w"))

    assert store.has("train", {"lr": 1})
    assert store.session("train", {"lr": 1}).is_done()
    other.close()


def test_a_session_of_a_miss_sees_a_rule_of_a_moment_ago(store):
    """A hit may be 0.1 s old; for what is to be made the folder is looked at again."""
    done(store, {"lr": 1})
    other = Ledger(store.root)
    store.uid({"lr": 1})
    add_rule(other, Rule.ignore("w"))
    time.sleep(0.001)

    assert store.session("train", {"lr": 2, "w": 5}).params == {"lr": 2}
    other.close()


def test_a_sweep_runs_each_written_form_once(store):
    add(store, Rule.ignore("w"))
    done(store, {"n": 0})
    sweep = store.sweep("train", [{"n": n, "w": w} for n in range(3) for w in (1, 2)])
    ran = []
    for run in sweep:
        with run:
            ran.append((run.params, run.ignored))
    interrupts.forget()

    assert len(sweep) == 3
    assert sorted(ran, key=str) == [({"n": 1}, {"w": 1}), ({"n": 2}, {"w": 1})]
    assert sweep.left() == []


def test_a_map_gives_configs_that_are_one_run_one_outcome(store):
    add(store, Rule.ignore("w"))
    outcomes = store.map(lambda run: run.ignored["w"], [{"n": 1, "w": 5}, {"n": 1, "w": 6}], identifier="f")

    assert outcomes[0] == outcomes[1]
    assert (outcomes[0].value, outcomes[0].params) == (6, {"n": 1})


def test_a_session_that_is_sent_takes_what_was_ignored_along(store):
    add(store, Rule.ignore("w"))
    session = store.session("train", {"lr": 1, "w": 4})

    assert pickle.loads(pickle.dumps(session)).ignored == {"w": 4}


# Adding


def test_a_rule_that_is_there_is_not_recorded_again(store):
    add(store, Rule.ignore("w"))
    assert not add_rule(store.ledger, Rule.ignore("['w']")).is_new

    assert reference.read_store(store.root)["rules"] == [["ignore", "w", None]]


def test_a_contradiction_is_refused_and_nothing_is_recorded(store):
    add(store, Rule.absent("ema", value=False))
    with pytest.raises(RuleError, match="`absent ema false` and rule `absent ema true`"):
        add_rule(store.ledger, Rule.absent("ema", value=True))

    assert len(reference.read_store(store.root)["rules"]) == 1


def test_a_plan_counts_and_changes_nothing(store):
    for w in (4, 8, None):
        done(store, {"lr": 1} if w is None else {"lr": 1, "w": w})
    done(store, {"lr": 2, "w": 4})
    done(store, {"lr": 3})

    assert plan_rule(store.ledger, Rule.ignore("w")) == Added("ignore w", is_new=True, changed=3, sharing=3)
    assert store.ledger.rules() == []
    store.ledger.seal()
    assert plan_rule(store.ledger, Rule.absent("w", 4)) == Added(
        "absent w 4", is_new=True, changed=2, sharing=2
    )


@pytest.mark.parametrize("closed", [True, False])
def test_an_added_rule_is_on_disk(store, closed):
    done(store, {"lr": 1})
    add(store, *RULES)
    if closed:
        store.ledger.close()

    assert reference.read_store(store.root)["rules"] == [
        ["ignore", "loader.num_workers", None], ["ignore", "device", None], ["absent", "ema", "false"],
        ["rename", "lr", '"optim.lr"'],
    ]  # fmt: skip


def test_stores_whose_united_ledgers_contradict_each_other_read_on_and_refuse_params(store):
    ref = done(store, {"lr": 1})
    store.ledger.append(
        lambda _: [Rule.absent("ema", value=False).event, Rule.absent("ema", value=True).event]
    )

    for ask in (store.uid, lambda p: store.has("train", p), lambda p: store.session("train", p)):
        with pytest.raises(
            RuleError, match=r"`absent ema false` and rule `absent ema true`.*keep the copies apart"
        ):
            ask({"lr": 1})
    assert refs(store) == [ref]
    assert store.get(uid=ref[-32:]).is_done()
    assert store.session("train").start().done().is_done()


def test_a_rule_of_a_kind_that_is_not_known_refuses_params(store):
    done(store, {"lr": 1})
    store.ledger.append(lambda _: [RuleEvent("forget", "a", "1")])

    with pytest.raises(RuleError, match="forget a 1"):
        store.has("train", {"lr": 1})


def test_params_that_a_rename_cannot_move_are_refused_before_anything_is_made(store):
    done(store, {"n": 1})
    add(store, Rule.rename("lr", "optim.lr"))
    before = sorted(store.root.rglob("*"))
    with pytest.raises(ParamsError, match=r"optim.lr is there"):
        store.session("train", {"lr": 1, "optim": {"lr": 2}})

    assert sorted(store.root.rglob("*")) == before
    with pytest.raises(ParamsError, match=r"configs\[1\] at lr"):
        store.sweep("train", [{"n": 1}, {"lr": 1, "optim": {"lr": 2}}])


# Stated by a program


def test_stated_rules_are_recorded_with_the_first_run(tmp_path):
    project = Project(tmp_path / "s", rules=RULES, provenance=False)
    assert project.uid(NEW) == NEW_UID
    assert not (tmp_path / "s").exists()
    done(project.sub("inner"), NEW)
    events = reference.read_events(reference.read_ledger(tmp_path / "s"))

    assert [event.tag for event in events] == ["rule"] * 4 + ["created", "started", "done"]
    assert len({event.held.frame.seq for event in events[:6]}) == 1
    assert Project(tmp_path / "s").uid(NEW) == NEW_UID
    done(project, {"n": 2})
    assert len(reference.read_store(tmp_path / "s")["rules"]) == 4


def test_a_stated_rule_that_the_store_lacks_is_an_error_with_the_command(store):
    done(store, {"n": 1})
    project = Project(store.root, rules=[Rule.rename('["a b"]', "c")])
    with pytest.raises(RuleError) as caught:
        project.session("train", {"n": 1})

    assert f"""tracker -C {store.root} rule add rename '["a b"]' c""" in str(caught.value)
    with pytest.raises(RuleError):
        project.session("train")


def test_a_stored_rule_that_is_not_stated_is_an_error_that_names_it(store):
    add(store, Rule.ignore("w"))
    with pytest.raises(RuleError, match="rule `ignore w`: the store"):
        Project(store.root, rules=[]).has("train", {"n": 1})

    assert not Project(store.root, rules=[Rule.ignore("w")]).has("train", {"n": 1})


def test_a_difference_names_both(store):
    add(store, Rule.absent("ema", value=False))
    with pytest.raises(RuleError, match="rule `absent ema true` and rule `absent ema false`"):
        Project(store.root, rules=[Rule.absent("ema", value=True)]).uid({})


def test_stated_rules_that_contradict_each_other_are_refused_at_once(tmp_path):
    with pytest.raises(RuleError, match="circle"):
        Project(tmp_path / "s", rules=[Rule.rename("a", "b"), Rule.rename("b", "a")])


def test_without_rules_nothing_is_different(store):
    session = store.session("train", OLD).start().done()

    assert session.ignored == {}
    assert store.uid(OLD) == tracker.uid(OLD) == OLD_UID
    with pytest.raises(NotFoundError):
        store.get("train", NEW)
    (created,) = [e for e in reference.read_events(reference.read_ledger(store.root)) if e.tag == "created"]
    assert len(created.fields) == 4
    assert json.loads((session.folder / "params.json").read_bytes()) == OLD


def test_the_index_keeps_what_was_ignored_and_the_aliases(store):
    done(store, {"lr": 1, "w": 4})
    add(store, Rule.ignore("w"))
    done(store, {"lr": 2, "w": 5})
    store.ledger.close()
    other = Project(store.root)

    assert other.session("train", {"lr": 1, "w": 9}).is_done()
    created = {
        event.params: event.ignored for _, event in other.ledger.events() if isinstance(event, Created)
    }
    assert created == {'{"lr":1,"w":4}': None, '{"lr":2}': '{"w":5}'}
