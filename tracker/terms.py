"""The glossary as types. It knows words, never bytes or files.

Spec: spec/README.md, "Words".
"""

import enum
from typing import NewType

Uid = NewType("Uid", str)
"""32 lower-case hex digits: the first 16 bytes of BLAKE3 over a run's canonical params text."""

Digest = NewType("Digest", str)
"""64 lower-case hex digits: BLAKE3 of some bytes."""

RunRef = NewType("RunRef", str)
"""`relpath/identifier/uid`: a run's name in its store (no leading slash at the root namespace)."""

WriterId = NewType("WriterId", str)
"""32 lower-case hex digits: the UUIDv7 of one writing process."""

AttemptId = NewType("AttemptId", str)
"""`<writer>-<seq>`: the frame that began an attempt."""


class Status(enum.StrEnum):
    """What became of a run, as its canonical attempt tells."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    ERROR = "error"
    INTERRUPTED = "interrupted"
    LOST = "lost"


class Choice(enum.StrEnum):
    """One of a few words; another is refused with those that there are."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        words = ", ".join(repr(str(word)) for word in cls)
        raise ValueError(f"{value!r} is no {cls.__name__}: give one of {words}")


class StorageMode(Choice):
    """Where a run's files lie: in a folder of their own, or beside others under a prefix."""

    SUBFOLDER = "subfolder"
    PREFIX = "prefix"


class ExistingRun(Choice):
    """What `session()` does when the same params were run before."""

    RESUME = "resume"
    NEW = "new"


class Durability(Choice):
    """What `done()` has put beyond a power cut when it returns. Spec: spec/log.md, "Commit point"."""

    FULL = "full"
    LEDGER = "ledger"
    OFF = "off"


class Capture(Choice):
    """Whether what a run prints is kept among its files. Spec: spec/output.md."""

    NONE = "none"
    TEE = "tee"


class Seal(Choice):
    """What of a run's files is recorded when an attempt ends. Spec: spec/sealing.md section 2."""

    DIGEST = "digest"
    SIZE = "size"
    NONE = "none"
