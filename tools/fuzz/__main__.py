"""The command line: `python -m tools.fuzz KIND [--behind-checksums] [--seconds N] [--corpus DIR]`.

One target, led by the coverage of the package's code. Needs atheris; for tests without it there is
tests/crash/test_fuzz.py, which asks the same.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

SEGMENTS = ("seg", "part", "open")


def _atheris() -> ModuleType:
    try:
        import atheris  # only here, and before anything of tracker: it changes code as it is imported
    except ImportError:
        sys.exit("not installed: atheris; `pip install atheris`, or run tests/crash/test_fuzz.py")
    return atheris


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    kinds = (*SEGMENTS, "manifest", "params", "format", "claim", "holder")
    parser = argparse.ArgumentParser("python -m tools.fuzz", description=__doc__)
    parser.add_argument("kind", choices=kinds, help="of file that holds anything")
    parser.add_argument(
        "--behind-checksums", action="store_true", help="payloads of segments, with right ones"
    )
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="keep what was found worth keeping in this folder")
    asked = parser.parse_args(arguments)
    if asked.behind_checksums and asked.kind not in SEGMENTS:
        parser.error(f"--behind-checksums is for {', '.join(SEGMENTS)}")
    return asked


def main(arguments: Sequence[str] | None = None) -> None:
    """Fuzz until the time is over; the process ends with 0, or at the first complaint with 77."""
    asked = _parse(arguments)
    atheris = _atheris()
    with atheris.instrument_imports(include=["tracker"], enable_loader_override=False):
        from tools.fuzz.asking import complaints
        from tools.fuzz.store import (
            make_store,
            names_of,
            payloads_of,
            seeds_of,
            with_file,
            with_payload,
            write_out,
        )

    base = "/dev/shm" if os.path.isdir("/dev/shm") else None
    folder = Path(tempfile.mkdtemp(prefix="tracker-fuzz-", dir=base))
    files = make_store(folder)
    name = names_of(files, asked.kind)[-1]
    numbers = itertools.count()

    def try_bytes(data: bytes) -> None:
        root = folder / str(next(numbers))
        if asked.behind_checksums:
            index = data[0] % len(payloads_of(files[name])) if data else 0
            changed = with_payload(files[name], index, data[1:])
        else:
            changed = data
        is_renamed = asked.behind_checksums or asked.kind == "manifest"
        write_out(with_file(files, name, changed, is_renamed=is_renamed), root)
        found = complaints(root, asked.kind)
        if found:
            raise AssertionError("\n".join(found))
        shutil.rmtree(root)

    corpus = asked.corpus or folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    seeds = seeds_of(files, asked.kind)
    if asked.behind_checksums:
        seeds = [bytes([i]) + p for seed in seeds for i, p in enumerate(payloads_of(seed))]
    for number, seed in enumerate(seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [f"-max_total_time={asked.seconds}", "-max_len=4096", "-timeout=30", "-handle_alrm=0"]
    atheris.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", str(corpus)], try_bytes)
    print(f"works in {folder}", file=sys.stderr)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
