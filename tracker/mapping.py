"""A function over a list of configs, here or by any executor, each run recorded where it is executed.

Knows of an executor only that it has `submit`. What goes to a worker is the function and a session, which
finds its store there by its path. What comes back must not break the way back: exceptions are sent as plain
data.

Spec: spec/claims.md section 7.
"""

from __future__ import annotations

import os
import queue
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from types import FunctionType
from typing import Any, Protocol

from msgspec import Struct

from tracker import interrupts
from tracker.progress import Bar
from tracker.session import Session
from tracker.sweep import WANTED, Found, Retry, check_configs, plain_uid, take
from tracker.terms import Status, Uid

Function = Callable[[Session], Any]
Progress = Callable[[int, int], object]


class Executor(Protocol):
    """Whoever calls a function somewhere and gives a future: with `add_done_callback` and `result`."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Any: ...


class Outcome(Struct, frozen=True):
    """What became of one config.

    `status` is the run's when the map was through; `skipped` says that the function was not called for it.
    `error` is empty if all is well, else what the function raised or what befell the executor. `exception` is
    None where it could not be sent; the run's record has its traceback in any case.
    """

    params: dict[str, Any]
    uid: Uid
    status: Status
    skipped: bool
    value: Any = None
    error: str = ""
    exception: BaseException | None = None


def run_all(
    session_of: Callable[[Any], Session],
    fn: Function,
    configs: Iterable[Any],
    *,
    executor: Executor | None = None,
    retry: str = Retry.LOST,
    progress: Progress | None = None,
    uid_of: Callable[[Any], Uid] = plain_uid,
) -> list[Outcome]:
    """Call `fn(session)` for each config that is to be run, and give what became of each, in their order.

    Without an executor they run here, one after another. What is done, or is executed by somebody else, is
    not submitted. An exception is recorded as its run's error and does not stop the others; what a broken
    executor did not run has an outcome that says so. Configs that are one have one outcome.

    Raises: ParamsError before anything is made. Ctrl-C goes up, and what waits is cancelled.
    Cost: 20 µs for a config that is done.
    """
    wanted = Retry.of(retry)
    listed, uids = check_configs(configs, uid_of)
    sessions = {uid: session_of(config) for uid, config in dict(zip(uids, listed, strict=True)).items()}
    todo = {uid: session for uid, session in sessions.items() if _is_wanted(session, wanted)}
    answers = dict(_answers(fn, todo, wanted, executor, progress))
    outcomes = {uid: _outcome(session, answers.get(uid, _SKIPPED)) for uid, session in sessions.items()}
    return [outcomes[uid] for uid in uids]


def _is_wanted(session: Session, retry: Retry) -> bool:
    return not session.is_done() and session.status in WANTED[retry]


def _answers(
    fn: Function,
    todo: Mapping[Uid, Session],
    retry: Retry,
    executor: Executor | None,
    progress: Progress | None,
) -> Iterator[tuple[Uid, Answer]]:
    """What came back, as it comes, with a word to whoever watches."""
    arriving = _run_here(fn, todo, retry) if executor is None else _submit(executor, fn, todo, retry)
    err = sys.stderr
    with Bar(err, is_on=progress is None and err is not None and err.isatty()) as bar:
        tell = progress or bar.of(getattr(fn, "__name__", "map"))
        for count, (uid, answer) in enumerate(arriving, 1):
            tell(count, len(todo))
            yield uid, answer


def _run_here(fn: Function, todo: Mapping[Uid, Session], retry: Retry) -> Iterator[tuple[Uid, Answer]]:
    for uid, session in todo.items():
        yield uid, run_one(fn, session, retry)


def _submit(
    executor: Executor, fn: Function, todo: Mapping[Uid, Session], retry: Retry
) -> Iterator[tuple[Uid, Answer]]:
    """Submit all, then give each answer as it comes."""
    finished: queue.SimpleQueue[tuple[Uid, Any]] = queue.SimpleQueue()
    ticket = os.urandom(8).hex()
    futures = []
    try:
        for uid, session in todo.items():
            try:
                future = executor.submit(run_one, fn, session, retry, ticket)
            except Exception as error:  # a pool that broke meanwhile, or was shut down
                yield uid, _lost_on_the_way(error)
                continue
            futures.append(future)
            future.add_done_callback(partial(_put, finished, uid))
        for _ in futures:
            uid, future = finished.get()
            yield uid, _answer_of(future)
    except BaseException:
        for future in futures:
            if hasattr(future, "cancel"):
                future.cancel()
        raise


def _put(finished: queue.SimpleQueue[tuple[Uid, Any]], uid: Uid, future: Any) -> None:
    finished.put((uid, future))


def _answer_of(future: Any) -> Answer:
    try:
        answer: Answer = future.result()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a killed worker, SystemExit there, a value that cannot be sent
        return _lost_on_the_way(error)
    return answer


def _lost_on_the_way(error: BaseException) -> Answer:
    return Answer(error=f"no answer from the executor: {_text_of(error)}", carried=Carried(error))


def _outcome(session: Session, answer: Answer) -> Outcome:
    exception = None if answer.carried is None else answer.carried.exception
    return Outcome(
        session.params, session.uid, session.status, answer.skipped, answer.value, answer.error, exception
    )


# In the worker


def run_one(fn: Function, session: Session, retry: Retry, ticket: str = "") -> Answer:
    """Execute one run in this process, if it is still to be run. After SIGTERM or SIGUSR1 none is begun.

    `ticket` is not used: it makes the call unlike an earlier one, as Dask answers equal calls from memory.
    Raises: what is no Exception: Ctrl-C, SystemExit.
    """
    told = interrupts.signal_name()
    if told is not None:
        return Answer(skipped=True, error=f"not run: this process was told to stop by {told}")
    try:
        if take(session, retry) is not Found.TAKEN:
            return _SKIPPED
        with session:
            value = fn(session)
    except Exception as error:
        return Answer(error=_text_of(error), carried=Carried(error))
    return Answer(value=value)


def _text_of(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip()


class Carried:
    """An exception that may be sent to another process. There it is the same, or None.

    Left to pickle, an exception whose `__init__` wants other arguments than its `args` cannot be read where
    it arrives, and concurrent.futures takes that for a broken pool: no other answer comes through.
    """

    def __init__(self, exception: BaseException | None) -> None:
        self.exception = exception

    def __reduce__(self) -> tuple[Callable[..., Carried], tuple[Any, ...]]:
        kind = type(self.exception)
        reduced: Any = None if self.exception is None else self.exception.__reduce__()
        if type(reduced) is not tuple or reduced[0] is not kind or not _is_plain(reduced[1:]):
            return Carried, (None,)
        return _unpack, (kind.__module__, kind.__qualname__, *reduced[1:])


def _unpack(module: str, name: str, args: tuple[Any, ...], fields: dict[str, Any] | None = None) -> Carried:
    """The exception with these args and fields, if its class is known here and can be made so."""
    kind: Any = sys.modules.get(module)
    for part in name.split("."):
        kind = getattr(kind, part, None)
    if not isinstance(kind, type) or not issubclass(kind, BaseException):
        return Carried(None)
    try:
        exception = _made(kind, args)
        exception.__setstate__(fields)
    except Exception:
        return Carried(None)  # its text is in the answer
    return Carried(exception)


def _made(kind: type[BaseException], args: tuple[Any, ...]) -> Any:
    if isinstance(kind.__reduce__, FunctionType):  # it says itself what its __init__ takes
        return kind(*args)
    # an __init__ in Python was called where the exception arose: what it made is in args and fields
    inits = [vars(base)["__init__"] for base in kind.__mro__ if "__init__" in vars(base)]
    exception = kind.__new__(kind, *args)
    next(init for init in inits if not isinstance(init, FunctionType))(exception, *args)
    return exception


_PLAIN = (str, int, float, bool, bytes, type(None), Status)


def _is_plain(value: Any, depth: int = 10) -> bool:
    """True for what any two processes can send each other."""
    if type(value) is dict:
        value = [*value, *value.values()]
    if type(value) in (list, tuple):
        return depth > 0 and all(_is_plain(item, depth - 1) for item in value)
    return type(value) in _PLAIN


class Answer(Struct, frozen=True):
    """What a worker sends back."""

    skipped: bool = False
    value: Any = None
    error: str = ""
    carried: Carried | None = None


_SKIPPED = Answer(skipped=True)
