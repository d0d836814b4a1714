"""The other process of a probe: does one task in a folder when it is told to, and prints what came of it.

Run as a script of its own: it imports nothing of tracker, so that it starts at once. It prints "ready",
waits for a line, works, and prints one JSON object. An error of the system is {"error": its name}.
"""

import errno
import fcntl
import json
import os
import sys
import time
from collections.abc import Callable

Result = dict[str, object]


PATIENCE_S = 10.0


def create(folder: str, me: str, count: int) -> Result:
    """Create names that another creates too; tell which were ours."""
    ours = []
    _meet(folder, me)
    for number in range(count):
        try:
            os.close(os.open(f"{folder}/{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            continue
        ours.append(number)
        _let_the_other_catch_up()
    return {"ours": ours}


def link(folder: str, me: str, count: int) -> Result:
    """The same with second names of a file of ours."""
    ours = []
    _meet(folder, me)
    for number in range(count):
        try:
            os.link(f"{folder}/{me}.here", f"{folder}/{number}")
        except FileExistsError:
            continue
        ours.append(number)
        _let_the_other_catch_up()
    return {"ours": ours}


def _meet(folder: str, me: str) -> None:
    """Make a file of ours, and go on when the other has made its own."""
    os.close(os.open(f"{folder}/{me}.here", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    other = f"{folder}/{'b' if me == 'a' else 'a'}.here"
    end = time.monotonic() + PATIENCE_S
    while not os.path.exists(other) and time.monotonic() < end:
        time.sleep(0)


def _let_the_other_catch_up() -> None:
    time.sleep(5e-5)


def append(folder: str, me: str, count: int) -> Result:
    """Append lines to a file to which another appends too, each in one write."""
    _meet(folder, me)
    fd = os.open(f"{folder}/lines", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    for number in range(count):
        os.write(fd, f"{me} {number:05} {'x' * 100}\n".encode())
    os.close(fd)
    return {"lines": count}


def read(folder: str, me: str, count: int) -> Result:
    """Read a file that another replaces, for `count` milliseconds; its bytes are all of one kind."""
    end = time.monotonic() + count / 1000
    reads = missing = mixed = 0
    while time.monotonic() < end:
        reads += 1
        try:
            with open(f"{folder}/replaced", "rb", buffering=0) as file:
                data = file.read()
        except FileNotFoundError:
            missing += 1
            continue
        mixed += len(set(data)) != 1
    return {"reads": reads, "missing": missing, "mixed": mixed}


def flock(folder: str, me: str, count: int) -> Result:
    """Try for a lock that another holds."""
    return _try_lock(folder, fcntl.flock)


def lockf(folder: str, me: str, count: int) -> Result:
    """Try for a lock of the other kind."""
    return _try_lock(folder, fcntl.lockf)


def _try_lock(folder: str, lock: Callable[[int, int], None]) -> Result:
    fd = os.open(f"{folder}/lock", os.O_RDWR)
    try:
        lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return {"got": False}
    finally:
        os.close(fd)
    return {"got": True}


TASKS = {task.__name__: task for task in (create, link, append, read, flock, lockf)}


def main(task: str, folder: str, me: str, count: str) -> None:
    """Do a task by its name."""
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        done = TASKS[task](folder, me, int(count))
    except OSError as error:
        done = {"error": errno.errorcode.get(error.errno or 0, str(error))}
    print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
