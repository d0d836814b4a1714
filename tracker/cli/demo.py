"""`tracker demo`: a grid search over Fisher's irises, killed in the middle, resumed, asked again, compared.

Knows the store only through the front door, as a user's script does. Each pass of the sweep is a process of
its own (`work`); this process starts and kills them, and looks at what they left.
"""

from __future__ import annotations

import itertools
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from json import dumps, loads
from pathlib import Path
from typing import Any, TextIO

import tracker
from tracker import ExistingRun, Project, Session, Status, StorageMode
from tracker._codec.digest import uid_of
from tracker.cli.iris import TABLE, Network, load_flowers, split_flowers
from tracker.cli.program import make_parser
from tracker.cli.screen import Screen

IDENTIFIER = "train"
DEFAULT_ROOT = Path("tracker-demo")
KILLED_RUN = 5
"""The run, counted from 0, in whose middle the first pass is killed."""

SHOWN, SHOWN_INSIDE = 3, 1
"""Entries that the tree shows: of a folder, and of one in `.tracker`, which shows all of its own. One more is
shown rather than counted."""

BEST = "best"
"""The tag of the run with the least loss."""

PAUSE_IN = "TRACKER_DEMO_PAUSE_IN"
"""The variable by which a pass is told in which run it is to be killed. It is no part of the command: a run
that is executed again does not stop there."""

_PAUSED, _ASKED = "paused in ", "asked for "
"""How a line begins by which a pass tells of itself; the others are what the training prints."""

Config = dict[str, Any]


def grid() -> list[Config]:
    """List the configs of the sweep: 12, and a 13th whose learning rate is too great for any result."""
    points = list(itertools.product((3, 8), (0.003, 0.1), (0.0, 0.01, 0.05)))
    points.insert(3, (3, 1000.0, 0.01))
    return [
        {
            "data": "iris",
            "split": {"seed": 1936, "test_size": 50},
            "model": {"units": units, "seed": 7},
            "fit": {"lr": lr, "l2": l2, "epochs": 60},
        }
        for units, lr, l2 in points
    ]


def sweep(project: Project, *, pause_in: int | None = None) -> float:
    """Run what is not done yet, and give the seconds it took to ask for all that was not run.

    `pause_in` is the number of a run that stops in its middle and waits for a line from standard input.
    """
    asked_s = 0.0
    for number, config in enumerate(grid()):
        begin = time.perf_counter()
        session = project.session(IDENTIFIER, params=config, existing_run_strategy=ExistingRun.RESUME)
        if session.is_done() or session.status is Status.ERROR:  # same params, same numbers, same error
            asked_s += time.perf_counter() - begin
            continue
        session.start(capture="tee")
        try:
            train(session, config, pause=number == pause_in)
        except FloatingPointError as error:
            session.error(error)
            continue
        session.done()
    return asked_s


def train(session: Session, config: Config, *, pause: bool) -> None:
    """Train one network: log how it goes, and leave its losses, weights and accuracy as files of the run.

    Nothing of it depends on time or place: executed again the run leaves the same bytes.

    Raises: FloatingPointError when the loss is no number any more.
    """
    session.use(TABLE)
    learn, test = split_flowers(load_flowers(), **config["split"])
    network, epochs = Network(**config["model"]), config["fit"]["epochs"]
    with session.path("loss.csv").open("w") as losses:
        for epoch, loss in enumerate(network.fit(learn, **config["fit"])):
            losses.write(f"{epoch},{loss}\n")
            accuracy = network.accuracy(test)
            session.log(loss=loss, accuracy=accuracy)
            if epoch % 10 == 9:
                print(f"epoch {epoch + 1} of {epochs}: loss {loss:.4f}, accuracy {accuracy:.2f}")
            if pause and epoch == epochs // 2:
                losses.flush()
                print(f"{_PAUSED}{session.uid}", flush=True)
                sys.stdin.readline()
    session.path("model.json").write_text(dumps({"hidden": network.hidden, "output": network.output}))
    session.path("metrics.json").write_text(dumps({"accuracy": network.accuracy(test)}))


def work() -> None:
    """Be one pass of the sweep, in a process of its own: `ROOT`; print the seconds of asking."""
    pause_in = os.environ.get(PAUSE_IN)
    asked_s = sweep(open_demo(Path(sys.argv[1])), pause_in=None if pause_in is None else int(pause_in))
    print(f"{_ASKED}{asked_s}")


def open_demo(root: Path) -> Project:
    return Project(root, storage_mode=StorageMode.SUBFOLDER)


@dataclass(frozen=True)
class Pass:
    """What one pass of the sweep did.

    `asked_ms` is the time it took to ask for the runs it skipped; `killed_status` is what the store said of
    the run in whose middle the pass was killed.
    """

    done: int
    failed: int
    skipped: int
    seconds: float
    asked_ms: float = 0.0
    killed_in: str | None = None
    killed_status: str | None = None


@dataclass(frozen=True)
class RunFacts:
    """One run as the store tells of it."""

    uid: str
    params: Config
    status: str
    loss: float | None
    accuracy: float | None
    params_file: str


@dataclass(frozen=True)
class Agreement:
    """Whether every `params.json` hashes to the uid of its run, and who says so."""

    by: str
    agree: int
    of: int
    by_hand: str


@dataclass(frozen=True)
class Facts:
    """All that the demo shows, as `--json` prints it."""

    root: str
    fresh: bool
    passes: list[Pass]
    runs: list[RunFacts]
    best: str
    agreement: Agreement

    @property
    def is_as_promised(self) -> bool:
        counts = Counter(run.status for run in self.runs)
        good = counts == {"done": len(grid()) - 1, "error": 1} and bool(self.best)
        return good and self.agreement.agree == self.agreement.of == len(self.runs)


def run_demo(root: Path | None, *, json: bool, out: TextIO) -> int:
    """Run the demo in `root`, and tell of it on `out`.

    A folder that holds a demo's store is resumed; one that holds anything else is refused.
    Gives 0, 1 if the store does not show what it should, 2 if the folder was refused.
    """
    root = DEFAULT_ROOT if root is None else root
    why = why_not(root)
    if why:
        text = f"tracker demo: {root} {why}; move it away, or name a folder that does not exist yet"
        print(text, file=sys.stderr)
        return 2
    fresh = not has_store(root)

    def say(line: str) -> None:
        if not json:
            print(line, file=out, flush=True)

    say(
        f"{len(grid())} configs of a small neural network on Fisher's 150 irises (1936), in {root}"
        + ("" if fresh else "\nthe folder holds a demo already: resuming it")
        + "\n"
    )
    passes = list(run_passes(root, fresh=fresh, say=say))
    runs = list_runs(root)
    facts = Facts(str(root), fresh, passes, runs, tag_best(root), check_hashes(runs))
    if json:
        print(dumps(asdict(facts), indent=1), file=out)
    else:
        show(facts, say, out)
    return 0 if facts.is_as_promised else 1


def why_not(root: Path) -> str:
    """Say why the demo cannot use this folder; nothing if it can."""
    if not root.exists():
        return ""
    if not root.is_dir():
        return "is not a folder"
    if not has_store(root):
        return "is a folder with other files" if any(root.iterdir()) else ""
    demo = {tracker.uid(config) for config in grid()}
    others = sum(session.key not in demo for session in open_demo(root).find())  # repeats are the demo's
    return f"is a store of other runs ({others})" if others else ""


def has_store(root: Path) -> bool:
    return (root / ".tracker").is_dir()


def run_passes(root: Path, *, fresh: bool, say: Callable[[str], None]) -> Iterator[Pass]:
    """Run the passes of the sweep one after another, each in its own process, and tell of each."""
    if fresh:
        killed = run_pass(root, pause_in=KILLED_RUN)
        say(
            f"pass 1  {killed.done} done, {killed.failed} failed on purpose, then killed (SIGKILL) in "
            f"the middle of run {str(killed.killed_in)[:8]}, whose status is {killed.killed_status}"
        )
        yield killed
    resumed = run_pass(root)
    say(
        f"pass {1 + fresh}  {resumed.skipped} skipped, {resumed.done} done, {resumed.failed} failed "
        f"in {resumed.seconds:.1f} s"
    )
    yield resumed
    if resumed.done or resumed.failed:
        again = run_pass(root)
        say(f"pass {2 + fresh}  {_asking(again)}\n")
        yield again
    else:
        say(f"        {_asking(resumed)}\n")


def _asking(last: Pass) -> str:
    each = last.asked_ms / max(last.skipped, 1)
    return f"nothing to do: {last.skipped} configs asked for in {last.asked_ms:.1f} ms, {each:.2f} ms each"


def run_pass(root: Path, *, pause_in: int | None = None) -> Pass:
    """Run one pass in a process of its own, and kill it where it pauses.

    The worker waits in the middle of that run until it is killed: so the kill hits a run on any machine.
    """
    before = count_statuses(root)
    begin = time.perf_counter()
    worker = start_worker(root, pause_in)
    assert worker.stdout is not None, "started with a pipe"
    said = told_by(worker.stdout, _ASKED if pause_in is None else _PAUSED)
    if pause_in is not None:
        worker.kill()
    worker.communicate()
    if not said or (pause_in is None and worker.returncode != 0):
        raise RuntimeError(f"the demo's worker ended with {worker.returncode}")
    seconds = time.perf_counter() - begin
    after = count_statuses(root)
    result = Pass(
        done=after[Status.DONE] - before[Status.DONE],
        failed=after[Status.ERROR] - before[Status.ERROR],
        skipped=before[Status.DONE] + before[Status.ERROR],
        seconds=seconds,
    )
    if pause_in is None:
        return replace(result, asked_ms=float(said) * 1000)
    killed = open_demo(root).get(uid=said)
    return replace(result, killed_in=said, killed_status=str(killed.status))


def told_by(lines: Iterable[str], beginning: str) -> str:
    """What a line with this beginning goes on with; "" if none comes."""
    return next((line.removeprefix(beginning).strip() for line in lines if line.startswith(beginning)), "")


def start_worker(root: Path, pause_in: int | None) -> subprocess.Popen[str]:
    """Start `work` in a fresh interpreter that imports this same package, whatever lies in the folder."""
    home = str(Path(tracker.__file__).parents[1])
    path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    pause = {} if pause_in is None else {PAUSE_IN: str(pause_in)}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", "from tracker.cli.demo import work; work()", str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **pause},
    )


def count_statuses(root: Path) -> Counter[Status]:
    """Count the demo's runs by status, as another process sees them; repeats are left out."""
    if not has_store(root):
        return Counter()
    found = open_demo(root).find(identifier=IDENTIFIER)
    return Counter(session.status for session in found if session.uid == session.key)


def tag_best(root: Path) -> str:
    """Tag the run with the least loss, unless one is tagged; give its uid, "" if no run is done."""
    project = open_demo(root)
    tagged = project.runs(f"{BEST!r} in tags", limit=1) or project.runs(
        "status == 'done'", sort="metrics.loss.min", limit=1
    )
    for best in tagged:
        if BEST not in best.tags:
            best.tag(BEST)
        return str(best.uid)
    return ""


def list_runs(root: Path) -> list[RunFacts]:
    """List the demo's runs in the order of the grid."""
    project = open_demo(root)
    return [facts_of(project.get(IDENTIFIER, params=config), config, root) for config in grid()]


def facts_of(session: Session, config: Config, root: Path) -> RunFacts:
    """Say what the store tells of one run: its least loss, and the accuracy in the file that it left."""
    metrics = session.files.get("metrics.json")
    accuracy = None if metrics is None else loads(metrics.read_text())["accuracy"]
    loss = session.summary.get("loss", {}).get("min")
    params_file = str(root / session.folder.relative_to(root.absolute()) / "params.json")
    return RunFacts(str(session.uid), config, str(session.status), loss, accuracy, params_file)


def check_hashes(runs: Sequence[RunFacts]) -> Agreement:
    """Hash every `params.json` by b3sum, which knows nothing of tracker, and compare with the uids."""
    files = [run.params_file for run in runs]
    tool = shutil.which("b3sum")
    if tool is not None:
        command = [tool, "-l", "16", "--no-names", *files]
        hashes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        by, by_hand = "b3sum", f"b3sum -l 16 --no-names {shlex.quote(files[0])}"
    else:
        hashes = [uid_of(Path(file).read_bytes()) for file in files]
        code = "import sys, blake3; print(blake3.blake3(sys.stdin.buffer.read()).hexdigest(length=16))"
        by, by_hand = (
            "the blake3 package",
            f'{Path(sys.executable).name} -c "{code}" < {shlex.quote(files[0])}',
        )
    agree = sum(run.uid == found for run, found in zip(runs, hashes, strict=True))
    return Agreement(by, agree, len(runs), by_hand)


def show(facts: Facts, say: Callable[[str], None], out: TextIO) -> None:
    """Print the tree, the table, the metrics of the best run, and the hashes."""
    say(f"{facts.root}/")
    for line in iter_tree(Path(facts.root)):
        say(line)
    say("")
    for line in iter_table(facts.runs):
        say(line)
    for command in commands_of(facts.root):
        say(f"\n$ {shlex.join(command)}")
        run_command(command[1:], out)
    said = facts.agreement
    missing = "" if said.by == "b3sum" else " (b3sum is not installed)"
    say(
        f"\na run's folder is named by the hash of its params.json: {said.by}{missing} agrees on "
        f"{said.agree} of {said.of}"
    )
    say(f"by hand:  {said.by_hand}")
    again = shlex.join(["tracker", "-C", facts.root, "rerun", "@best:loss", "--check"])
    say(f"executed again, the best run leaves the same files:  {again}")


def commands_of(root: str) -> list[list[str]]:
    """Commands that show what the runs logged."""
    columns = "uid,fit.lr,metrics.loss.min,metrics.accuracy,tags"
    where, sort = "metrics.loss.min < 0.06", "--sort=metrics.loss.min"
    return [
        ["tracker", "-C", root, "metrics", "@best:loss"],
        ["tracker", "-C", root, "metrics", "@best:loss", "loss"],
        ["tracker", "-C", root, "ls", where, sort, "--columns", columns],
    ]


def run_command(words: Sequence[str], out: TextIO) -> None:
    """Run one of tracker's commands as on a terminal, wherever its answer goes."""
    options = make_parser([words[2]]).parse_args(words)
    screen = Screen(out, sys.stderr)
    screen.is_terminal = True
    options.run_command(options, screen)


def iter_tree(folder: Path, *, indent: str = "", most: int = SHOWN) -> Iterator[str]:
    """Draw a folder: the first entries of each folder, and a count of the others; of `.tracker` all."""
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    is_store = folder.name == ".tracker"
    shown = len(entries) if is_store or len(entries) <= most + 1 else most
    for number, entry in enumerate(entries[:shown], start=1):
        is_last = number == len(entries)
        yield f"{indent}{'└── ' if is_last else '├── '}{entry.name}{'/' if entry.is_dir() else ''}"
        if entry.is_dir():
            inner = indent + ("    " if is_last else "│   ")
            yield from iter_tree(entry, indent=inner, most=SHOWN_INSIDE if is_store else most)
    if shown < len(entries):
        yield f"{indent}└── … and {len(entries) - shown} more"


def iter_table(runs: Sequence[RunFacts]) -> Iterator[str]:
    yield f"{'run':<10}{'units':>6}{'lr':>8}{'l2':>6}  {'status':<8}{'loss':>10}{'accuracy':>10}"
    for run in runs:
        fit = run.params["fit"]
        loss = "" if run.loss is None else f"{run.loss:.4g}"
        accuracy = "" if run.accuracy is None else f"{run.accuracy:.2f}"
        units = run.params["model"]["units"]
        line = f"{run.uid[:8]:<10}{units:>6}{fit['lr']:>8g}{fit['l2']:>6g}  {run.status:<8}"
        yield f"{line}{loss:>10}{accuracy:>10}".rstrip()
