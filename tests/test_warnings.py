"""What in params may not mean what its author meant is said once, at the author's line.

Spec: spec/canonical.md, "Warnings", "Twins".
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tracker import ParamsWarning, Project, Session


def enter(session: Session) -> None:
    with session:
        pass


WAYS: dict[str, Callable[[Session], object]] = {
    "start": lambda session: session.start().done(),
    "done": lambda session: session.done(),
    "error": lambda session: session.error(),
    "with": enter,
    "attach": lambda session: session.attach_files({"log": "log"}).done(),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_warning_names_the_line_that_records_the_run(store: Project, way: str) -> None:
    with pytest.warns(ParamsWarning, match="absolute path") as caught:
        WAYS[way](store.session("train", params={"data": "/data/x"}))

    assert [warning.filename for warning in caught] == [__file__]


def test_a_numeric_twin_is_reported_and_stays_another_run(store: Project) -> None:
    store.session("train", params={"lr": 1}).done()
    with pytest.warns(ParamsWarning, match="as doubles they are equal"):
        store.session("train", params={"lr": 1.0}).done()

    assert [session.params for session in store.find()] == [{"lr": 1}, {"lr": 1.0}]
    assert [type(session.params["lr"]) for session in store.find()] == [int, float]


def test_a_twin_that_another_process_recorded_is_found_in_the_index(store: Project) -> None:
    store.session("train", params={"lr": 1, "bs": 2.0}).done()
    store.ledger.close()
    with pytest.warns(ParamsWarning, match="as doubles they are equal"):
        store.session("train", params={"lr": 1.0, "bs": 2}).done()


def test_looking_for_a_run_warns_of_nothing(store: Project, recwarn: pytest.WarningsRecorder) -> None:
    assert not store.session("train", params={"data": "/data/x"}).is_done()
    assert not store.has("train", {"data": "/data/x"})
    assert list(recwarn) == []
