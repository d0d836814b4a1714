"""Tags, notes, names and parents through a handle: events of the run, in whatever state it is.

Spec: spec/events.md sections 2 to 4.
"""

from __future__ import annotations

from typing import Any

import pytest
import reference

from tracker import NameRefusedError, NotFoundError, Project, Session, StateError, Status

PARAMS = {"lr": 0.1}


def run_of(session: Session) -> dict[str, Any]:
    runs = reference.read_store(session._place.root)["runs"]
    return next(run for run in runs if run["ref"] == session.ref)


def test_a_tag_records_a_run_that_was_not_recorded_and_begins_nothing(store):
    session = store.session("train", PARAMS).tag("paper", "best")

    assert session.status is Status.PENDING
    assert run_of(session)["tags"] == session.tags == ["best", "paper"]
    assert run_of(session)["attempts"] == []


def test_the_last_word_on_a_tag_counts_and_queries_see_it(store):
    session = store.session("train", PARAMS).done()
    session.tag("paper", "draft").untag("draft")

    assert session.tags == run_of(session)["tags"] == ["paper"]
    assert [found.uid for found in store.runs("'paper' in tags")] == [session.uid]
    assert len(store.runs("'draft' in tags")) == 0


def test_notes_stay_in_the_order_in_which_they_were_made(store):
    session = store.session("train", PARAMS).note("looks odd").note("it was the seed")

    assert session.notes == run_of(session)["notes"] == ["looks odd", "it was the seed"]


def test_a_name_is_set_changed_and_taken_away(store):
    session = store.session("train", PARAMS)
    seen = [session.name]
    for name in ("first", "größte", None):
        session.name = name
        seen.append(session.name)

    assert seen == [None, "first", "größte", None]
    assert "name" not in run_of(session)


def test_a_parent_is_a_recorded_run(store):
    parent = store.session("sweep", {"of": "train"}).start()
    child = store.session("train", PARAMS)
    child.parent = parent

    assert child.parent == run_of(child)["parent"] == parent.ref
    with pytest.raises(StateError, match="cannot be its parent"):
        parent.parent = child
    with pytest.raises(NotFoundError, match="start it first"):
        child.parent = store.session("train", {"lr": 0.2})
    child.parent = None
    assert child.parent is None


@pytest.mark.parametrize("tag", ["", " a", "a,b", "a\nb", "x" * 65, 7])
def test_a_tag_that_cannot_be_kept_is_refused_before_anything_is_recorded(store, tag):
    with pytest.raises(NameRefusedError):
        store.session("train", PARAMS).tag("fine", tag)

    assert not store.root.exists()


def test_marks_go_through_any_handle_and_are_seen_by_others(store):
    store.session("train", PARAMS).done()
    Project(store.root).get("train", PARAMS).tag("a")
    store.ledger.close()

    assert Project(store.root).get("train", PARAMS).tags == ["a"]
