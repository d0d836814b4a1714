"""save: bytes, a file, a JSON value or an array, kept in the object store as a file of a run.

What was saved is a snapshot: the same bytes are kept once, however many runs save them, and what the user
does with the source afterwards changes nothing.

Spec: spec/sealing.md section 5.
"""

from __future__ import annotations

import io
import math
import os
import sys
from typing import Any

import msgspec

from tracker._disk import durable
from tracker._model import names
from tracker._model.event import File
from tracker._model.names import STORE, object_path
from tracker._store import objects
from tracker.errors import ParamsError
from tracker.ledger import Ledger

DEPTH_MAX = 100

_CURE = (
    "give bytes, the path of a file, a dict or list of JSON values, or a numpy array; or write it to a file"
)


def save(ledger: Ledger, name: str, source: object) -> File:
    """Keep what `source` is; return the file to record: its path is that of the object.

    bytes, bytearray and memoryview are kept as they are · a str or PathLike is the path of a file, which is
    copied, or cloned where the file system can · a dict or list becomes JSON text with a line feed · a numpy
    array what `numpy.save` writes. Nothing is pickled.

    When this returns the bytes are beyond a power cut, under any durability; they belong to no run before
    the event that names them.

    Raises: NameRefusedError, ParamsError for a source that none of these is, before anything is written;
    StorageError.
    Cost: one BLAKE3 pass and an fsync if the bytes are new here; see `put_file` for files.
    """
    names.check_file_label(name)
    path = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    data = b"" if path is not None else _bytes_of(source)
    root_fd = ledger.root_fd()  # the store is made
    store_fd = durable.open_folder_fd(STORE, root_fd)
    try:
        if path is None:
            digest, size = objects.put_object(store_fd, data), len(data)
        else:
            digest, size = objects.put_file(store_fd, os.path.abspath(path))
    finally:
        durable.close_read(store_fd)
    return File(name, f"{STORE}/{object_path(digest)}", size, bytes.fromhex(digest), external=False)


def _bytes_of(source: object) -> bytes:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source)
    if isinstance(source, dict | list):
        return _json_of(source)
    numpy = sys.modules.get("numpy")  # who has an array has loaded it
    if numpy is not None and isinstance(source, numpy.ndarray):
        return _npy_of(numpy, source)
    raise ParamsError("saved value", f"a {type(source).__name__} cannot be saved; {_CURE}")


def _npy_of(numpy: Any, array: Any) -> bytes:
    out = io.BytesIO()
    try:
        numpy.save(out, array, allow_pickle=False)
    except ValueError as error:
        why = f"an array of Python objects cannot be saved; give it a dtype of numbers or text ({error})"
        raise ParamsError("saved value", why) from error
    return out.getvalue()


def _json_of(value: object) -> bytes:
    """The value as JSON text, members in their order, with a line feed. What has no JSON form is refused."""
    _refuse_what_json_lacks(value, "saved value", 1)
    try:
        return msgspec.json.encode(value) + b"\n"
    except (msgspec.MsgspecError, OverflowError, ValueError) as error:
        raise ParamsError("saved value", f"has no JSON form: {error}; {_CURE}") from error


def _refuse_what_json_lacks(value: object, where: str, depth: int) -> None:
    if depth > DEPTH_MAX:
        raise ParamsError(where, f"is nested more than {DEPTH_MAX} deep; {_CURE}")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ParamsError(
                    where, f"has the key {key!r}, and JSON has text keys alone; write it as text"
                )
            _refuse_what_json_lacks(inner, f"{where}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            _refuse_what_json_lacks(inner, f"{where}[{number}]", depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ParamsError(where, f"is {value}, which JSON does not have; write None, or a text")
    elif value is not None and type(value) not in (str, int, float, bool):
        raise ParamsError(where, f"a {type(value).__name__} has no JSON form; {_CURE}")
