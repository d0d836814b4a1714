"""The command line: `python -m tools.nfs [--versions 3 4.2] [--seconds N] [--seed X] [--json]`."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tools.nfs import judge
from tools.nfs.client import KINDS
from tools.storm.tally import Tally

REPOSITORY = Path(__file__).resolve().parents[2]
NEEDED = ("vng", "qemu-system-x86_64", "rpc.nfsd", "rpc.mountd", "exportfs", "rpcbind", "ip", "mkfs.ext4")
BOOT_S = 600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the workloads, print the tallies, and give 1 if anything failed or nothing was tried."""
    asked = _parse(arguments)
    work = Path(tempfile.mkdtemp(prefix="tracker-nfs-"))
    try:
        if asked.local:
            tallies = list(_iter_local(work, asked.seconds, asked.seed))
        else:
            _run_guest(work, asked)
            tallies = [_tally(work, version, kind) for version in asked.versions for kind in KINDS]
    finally:
        if not asked.keep:
            shutil.rmtree(work, ignore_errors=True)
    if asked.keep:
        print(f"kept: {work}", file=sys.stderr)
    texts = [json.dumps(t.to_json()) if asked.json else t.to_text() for t in tallies]
    print("\n".join(texts))
    return 0 if tallies and all(tally.is_clean for tally in tallies) else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tools.nfs", description=__doc__)
    parser.add_argument("--versions", nargs="+", default=["3", "4.2"], help="of NFS; default: 3 4.2")
    parser.add_argument("--seconds", type=float, default=60.0, help="of writing and killing; default: 60")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--python", default=sys.executable, help="that has the package's needs; default: this one"
    )
    parser.add_argument("--kernel", help="an image whose modules are installed; default: the newest in /boot")
    parser.add_argument("--memory", default="3G")
    parser.add_argument(
        "--kvm", action="store_true", help="not by software emulation: faster, where it works"
    )
    parser.add_argument(
        "--local", action="store_true", help="both clients on a plain folder of this host, no guest"
    )
    parser.add_argument("--keep", action="store_true", help="keep the log and the answers")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args(arguments)


def _run_guest(work: Path, asked: argparse.Namespace) -> None:
    """Boot the guest, which sees this host's files read-only and `work` for writing, and wait for its end."""
    lacking = [name for name in NEEDED if not shutil.which(name, path=_path())]
    if lacking:
        sys.exit(f"not installed: {', '.join(lacking)}; see tools/nfs/README.md")
    script = [Path(__file__).with_name("guest.sh"), work, REPOSITORY, asked.python, asked.seconds, asked.seed]
    command = [
        *(
            "vng",
            "-r",
            asked.kernel or _newest_kernel(),
            "--disable-microvm",
            "-m",
            asked.memory,
            "--cpus",
            "2",
        ),
        *([] if asked.kvm else ["--disable-kvm"]),
        *("--rwdir", work, "--", "bash " + " ".join(map(str, [*script, *asked.versions]))),
    ]
    patience = BOOT_S + len(asked.versions) * (8 * asked.seconds + 600)
    done = subprocess.run(
        list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patience,
        env={**os.environ, "PATH": _path()},
    )  # fmt: skip
    if not (work / "ended").exists():
        log = (work / "log").read_text()[-3000:] if (work / "log").exists() else ""
        sys.exit(f"the guest did not get to its end:\n{log}\n{done.stdout[-1000:]}{done.stderr[-1000:]}")


def _path() -> str:
    return os.pathsep.join(
        [os.environ.get("PATH", ""), str(Path(sys.executable).parent), "/usr/sbin", "/sbin"]
    )


def _newest_kernel() -> Path:
    kernels = sorted(Path("/boot").glob("vmlinuz-*"), key=lambda path: path.stat().st_mtime)
    if not kernels:
        sys.exit("no kernel in /boot; see tools/nfs/README.md")
    return kernels[-1]


def _tally(work: Path, version: str, kind: str) -> Tally:
    path = work / f"tally-v{version}-{kind}.json"
    text = path.read_text() if path.exists() else ""
    if not text.strip():
        return Tally(
            f"nfs v{version} {kind}", 0, failures=[f"told nothing: {(work / 'log').read_text()[-2000:]}"]
        )
    found = json.loads(text)
    return Tally(found["kind"], 0, found["cases"], found["failures"], found["figures"])


def _iter_local(work: Path, seconds: float, seed: int) -> Iterator[Tally]:
    """The same without a guest: it shows that the workloads work, and nothing of NFS."""
    for kind in KINDS:
        root, out = work / f"store-{kind}", work / f"out-{kind}"
        out.mkdir()
        clients = [
            subprocess.Popen(
                [sys.executable, "-m", "tools.nfs.client", kind, name, root, out, str(seconds), str(seed)],
                cwd=REPOSITORY,
                env={**os.environ, "TRACKER_CACHE": str(out / f"cache-{name}")},
            )
            for name in ("cl1", "cl2")
        ]
        for client in clients:
            client.wait()
        yield judge.judged(kind, "local", root, out)


if __name__ == "__main__":
    sys.exit(main())
