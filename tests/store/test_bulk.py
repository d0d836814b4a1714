"""A bulk writes what the fold writes: every table alike, whatever comes in whatever order.

Spec: spec/layout.md section 7.
"""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
import reference

from tracker import Project, filling
from tracker._codec.frame import Frame, FrameType
from tracker._model.event import (
    Captured,
    Created,
    Done,
    Event,
    Failed,
    File,
    Noted,
    Removed,
    Restored,
    Rule,
    Started,
    Summary,
    Tagged,
    decode_events,
    encode_events,
)
from tracker._model.fold import State, absorb, attempt_id, run_as_json
from tracker._model.names import run_ref
from tracker._store import bulk as room
from tracker._store.index import Filter, Index
from tracker.recorded import Recorded
from tracker.terms import RunRef, WriterId

WRITERS = [WriterId(f"01a19b7ca680700080000000000000{number:02x}") for number in range(2)]
PARAMS = [
    *('{"lr":1}', '{"lr":1.0}', '{"lr":0.25}', '{"n":18446744073709551617}', "nonsense", '{"a":"b\\nc"}'),
    '{"@repeat":"0123456789abcdef","lr":1}',
]
NAMES = [("", "train"), ("a/b", "train"), ("", "Étude")]
STRAYS = [
    "x",
    f"train/{'0' * 31}",
    f"train/{'A' * 32}",
    f"train/{'0' * 30} 0",
    f"../{'0' * 32}",
    f"/{'0' * 32}",
]

Sent = tuple[WriterId, int, int, bytes, bool]
"""Writer, clock, seq, payload, and whether it is proved."""


class History:
    """Random frames of two writers, most of them plain runs'."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.sent: list[Sent] = []
        self.seqs = dict.fromkeys(WRITERS, 0)
        self.clock = 1 << 40

    def send(self, writer: WriterId, payload: bytes, *, clock: int | None = None) -> int:
        self.seqs[writer] += 1
        self.clock += self.rng.choice([0, 1, 1 << 16])
        proven = self.rng.random() < 0.97
        self.sent.append((writer, clock or self.clock, self.seqs[writer], payload, proven))
        return self.seqs[writer]

    def run(self, number: int) -> None:
        rng, writer = self.rng, self.rng.choice(WRITERS)
        text = rng.choice([*PARAMS, *(f'{{"lr":{number}.5}}' for _ in range(6))])
        ref = run_ref(*rng.choice(NAMES), reference.uid(text))
        if rng.random() < 0.05:
            ref = RunRef(rng.choice(STRAYS))
        key = rng.choice([reference.uid(text), reference.uid(text), reference.uid('{"lr":1}'), None])
        created = Created(ref, text, key, "subfolder", "ignored" if rng.random() < 0.05 else None)
        environment = bytes(32) if rng.random() < 0.3 else None
        started = Started(
            ref, self.clock >> 16, ["w-1"] * rng.randint(0, 1), number % 3, "prefix", environment
        )
        begun = self.send(writer, encode_events(self.first(created, started, writer)))
        for _ in range(rng.choice([0, 0, 0, 0, 1])):
            self.send(rng.choice(WRITERS), self.other(ref, attempt_id(writer, begun)))
        if rng.random() < 0.93:
            self.end(ref, writer, begun)
        if rng.random() < 0.1:
            self.send(rng.choice(WRITERS), self.other(ref, attempt_id(writer, begun)))

    def first(self, created: Created, started: Started, writer: WriterId) -> list[Event]:
        usual: list[Event] = [created, started]
        seq = self.seqs[writer] + (1 if self.rng.random() < 0.9 else 2)
        facts = self.rng.choice(
            [{}, {"commit": "c0ffee", "dirty": True}, {"commit": 1, "dirty": 0, "x": [None]}]
        )
        told = Captured(created.run, attempt_id(writer, seq), facts)
        return self.rng.choice(
            [*[usual] * 9, *[[*usual, told]] * 6, usual[:1], [*usual, Noted(created.run, "x")]]
        )

    def end(self, ref: RunRef, writer: WriterId, begun: int) -> None:
        rng = self.rng
        by = writer if rng.random() < 0.95 else rng.choice(WRITERS)
        attempt = attempt_id(writer, begun if rng.random() < 0.95 else begun + 1)
        files = [File(f"f{n}", f"p{n}", n, bytes([n] * 32), False) for n in range(rng.randint(0, 2))]
        done = Done(ref, attempt, (self.clock >> 16) + 5, files)
        if rng.random() < 0.03:
            self.send(by, encode_events([done]), clock=1)
        elif rng.random() < 0.05:
            self.send(by, self.odd(["done", ref, attempt, 7, [["f", "p", 1, bytes(31), False]]]))
        elif rng.random() < 0.05:
            self.send(by, self.odd(["done", ref, attempt, 7, [], "more"]))
        else:
            self.send(by, encode_events([done]))

    def odd(self, event: list[Any]) -> bytes:
        return msgspec.msgpack.encode([event])

    def other(self, ref: RunRef, attempt: str) -> bytes:
        events: list[Event] = [
            Noted(ref, "n"),
            Tagged(ref, ["t"], []),
            Removed(ref, ""),
            Restored(ref, ""),
            Summary(ref, attempt, {"loss": 0.5}),  # type: ignore[arg-type]
            Failed(ref, attempt, 9, [], "E", "m", None),  # type: ignore[arg-type]
            Started(ref, 8, [attempt], 1, "prefix", None),  # type: ignore[list-item]
            Rule("ignore", "x", None),
            Done(ref, attempt, 4, []),  # type: ignore[arg-type]
        ]
        if self.rng.random() < 0.1:
            return self.odd(["unheard of", ref, 1])
        return encode_events(self.rng.sample(events, self.rng.randint(1, 2)))


def sent_by(seed: int) -> list[Sent]:
    rng = random.Random(seed)
    history = History(rng)
    for number in range(rng.randint(1, 40)):
        history.run(number)
    sent = history.sent
    if rng.random() < 0.5:  # writers' segments come one after another
        sent.sort(key=lambda one: (one[0], one[2]))
    if rng.random() < 0.2:
        rng.shuffle(sent)
    sent += rng.sample(sent, min(len(sent), rng.choice([0, 0, 3])))
    return sent


def take(state: State, one: Sent) -> None:
    writer, clock, seq, payload, proven = one
    absorb(state, decode_events(payload), clock, writer, seq, proven=proven)


def by_fold(sent: list[Sent]) -> Index:
    state, index = State(), Index(None)
    for one in sent:
        take(state, one)
    with index.transaction():
        index.absorb(state, 7)
    return index


def by_bulk(sent: list[Sent], rng: random.Random) -> tuple[Index, int]:
    index, state, plain = Index(None), State(), 0
    with index.transaction():
        index.begin_bulk()
        for one in sent:
            bulk = index.bulk
            writer, clock, seq, payload, proven = one
            if proven and bulk is not None:
                frame = Frame(int(FrameType.EVENTS), seq, clock, memoryview(payload), bytes(32), 0)
                others = list(bulk.iter_others([frame], writer, state))
                assert others in ([], [frame])
                for _ in others:
                    take(state, one)
            else:
                take(state, one)
            if rng.random() < 0.1:
                index.absorb(state, 7)
                state = State()
        index.absorb(state, 7)
        (plain,) = index.connection.execute("select count(*) from runs where plain is not null").fetchone()
        index.end_bulk()
    return index, plain


def tables(index: Index) -> dict[str, Any]:
    """All that the index holds, but for numbers of rows and how a history is spelled."""
    columns = [row[1] for row in index.connection.execute("pragma table_info(runs)")]
    named = ", ".join(f'"{name}"' for name in columns if name not in ("id", "plain"))
    runs = index.connection.execute(f"select {named} from runs order by uid, identifier, relpath").fetchall()
    histories = {ref: (history, doubts) for ref, history, doubts in index.histories(Filter(removed=None))}
    spellings = index.connection.execute("select * from spellings order by 1, 2, 3").fetchall()
    return {
        "runs": runs,
        "histories": histories,
        "rules": index.rules(),
        "spellings": spellings,
        "clock": index.clock(),
    }


@pytest.mark.parametrize("start", range(0, 400, 100))
def test_a_bulk_is_what_the_fold_makes(start: int) -> None:
    plain = runs = 0
    for seed in range(start, start + 100):
        sent = sent_by(seed)
        fold = tables(by_fold(sent))
        index, count = by_bulk(sent, random.Random(seed))
        made = tables(index)
        index.close()

        assert made == fold, seed
        plain, runs = plain + count, runs + len(made["runs"])
    assert plain > runs / 5
    assert runs - plain > runs / 5


def test_a_plain_run_changes_as_any_other() -> None:
    """What comes later takes its plain row's place; nothing of it stays behind."""
    text = '{"lr":1}'
    ref = run_ref("", "train", reference.uid(text))
    first = encode_events([Created(ref, text, None, "prefix"), Started(ref, 1, [], 0, "prefix", None)])
    sent = [
        (WRITERS[0], 1 << 20, 1, first, True),
        (WRITERS[0], 2 << 20, 2, encode_events([Done(ref, attempt_id(WRITERS[0], 1), 2, [])]), True),
    ]
    index, plain = by_bulk(sent, random.Random(0))
    state = State()
    absorb(state, [Tagged(ref, ["x"], [])], 3 << 20, WRITERS[1], 1)
    with index.transaction():
        index.absorb(state, 8)

    assert plain == 1
    assert index.connection.execute("select count(*), count(plain), max(tags) from runs").fetchone() == (
        *(1, 0),
        '["x"]',
    )
    whole = by_fold([*sent, (WRITERS[1], 3 << 20, 1, encode_events([Tagged(ref, ["x"], [])]), True)])
    assert tables(index)["histories"] == tables(whole)["histories"]


def test_runs_that_only_began_do_not_fill_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_BEGUN_MAX", 3)
    monkeypatch.setattr(room, "_LATER_MAX", 2)
    for seed in range(40):
        sent = sent_by(seed)
        index, _ = by_bulk(sent, random.Random(seed))

        assert tables(index)["histories"] == tables(by_fold(sent))["histories"]


@pytest.mark.parametrize("chunk", [0, 1 << 20])
def test_a_store_is_read_in_bulk_as_the_reference_reads_it(
    store: Project, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """Runs that go on over several segments, end otherwise, twice or not at all, are removed, have tags."""
    for number in range(40):
        run = store.session("train", {"n": number, "lr": 1.0 if number % 3 else 0.5}).start()
        if number % 5 == 1:
            store.ledger.seal()
        if number % 7 == 2:
            run.error(ValueError("x"))
            run.start()
        if number % 11 != 3:
            run.done()
        if number % 6 == 4:
            ref = run.ref
            store.ledger.append(lambda _, ref=ref: [Tagged(ref, ["t"], []), Removed(ref, "")])
        if number % 9 == 5:
            store.ledger.seal()
    store.ledger.seal()
    monkeypatch.setattr(filling, "BULK_BYTES", 1)
    monkeypatch.setattr(filling, "_CHUNK_BYTES", chunk)
    told: list[int] = []
    ended = Index.end_bulk

    def counted(index: Index) -> None:
        rows = index.connection.execute("select count(*) from runs where plain is not null")
        told.append(rows.fetchone()[0] if index.bulk is not None else 0)
        ended(index)

    monkeypatch.setattr(Index, "end_bulk", counted)
    found = Recorded(store.root).find(Filter(removed=None))

    want = reference.read_store(store.root)["runs"]
    assert [run_as_json(run) for run in found] == want
    assert len(want) > max(told) > 10
