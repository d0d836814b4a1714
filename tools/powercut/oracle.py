"""The oracle: what a writer was promised, and at which moment of the block log.

It is kept outside the recorded disk, one JSON object a line. A promise counts for every power cut at or
after its moment, and for none before.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec


class PromisedFile(NamedTuple):
    """A file's path relative to the root, and the BLAKE3 of its bytes in hex."""

    path: str
    digest: str


class Promise(msgspec.Struct, frozen=True):
    """The call returned: run `ref` (None: no run, only files) has an attempt of this status with these files.

    `is_last` says that nobody touched the run afterwards, so that the run itself has the status.
    """

    moment: int
    files: list[PromisedFile]
    ref: str | None = None
    status: str | None = None
    is_last: bool = True


class OracleWriter:
    """Appends promises; many processes and threads may share one file."""

    def __init__(self, oracle: Path, log: Path) -> None:
        self._descriptor = os.open(oracle, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._log = log

    def promise(
        self,
        files: Sequence[PromisedFile],
        *,
        ref: str | None = None,
        status: str | None = None,
        is_last: bool = True,
    ) -> None:
        """Note a promise that holds from now on: what came to the log up to here suffices for it."""
        moment = self._log.stat().st_size
        line = msgspec.json.encode(Promise(moment, list(files), ref, status, is_last)) + b"\n"
        assert os.write(self._descriptor, line) == len(line), "the oracle takes whole lines"


def read_oracle(oracle: Path) -> list[Promise]:
    """Give all promises in the order of their moments."""
    promises = msgspec.json.Decoder(Promise).decode_lines(oracle.read_bytes())
    return sorted(promises, key=lambda promise: promise.moment)
