"""`verify` and `rebuild`: what is wrong with a store, and its derived files made anew."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter

from msgspec.structs import asdict

from tracker.check import Finding, Level, Rebuilt, Report, rebuild, verify
from tracker.cli.command import Command
from tracker.cli.screen import Screen
from tracker.cli.selection import open_store
from tracker.cli.table import SEVERITY_STYLES, painted
from tracker.cli.words import printable


def verify_store(options: Namespace, screen: Screen) -> int:
    """Print all findings and give the exit code that they mean."""
    report = verify(open_store(options, screen), options.level, screen.bar)
    if screen.as_json:
        screen.json(report_as_json(report))
    elif screen.is_terminal:
        _show(report, screen)
    else:
        cells = ((f.severity, f.code, f.path, f.what, f.cure) for f in report.findings)
        screen.rows((), cells)
    return report.exit_code


def report_as_json(report: Report) -> dict[str, object]:
    """A report as one object."""
    findings = [asdict(finding) for finding in report.findings]
    return {
        "level": report.level, "exit_code": report.exit_code, "checked": report.checked, "findings": findings,
    }  # fmt: skip


def _show(report: Report, screen: Screen) -> None:
    for finding in report.findings:
        screen.write(_finding_text(finding, colour=screen.has_colour))
    checked = ", ".join(f"{number} {what}" for what, number in report.checked.items())
    counts = Counter(str(finding.severity) for finding in report.findings)
    found = ", ".join(f"{number} {severity}" for severity, number in counts.items()) or "all is well"
    screen.write(f"{report.level} check of {checked}: {found}\n")


def _finding_text(finding: Finding, *, colour: bool) -> str:
    severity = painted(str(finding.severity), SEVERITY_STYLES.get(finding.severity, ""), colour=colour)
    head = f"{severity} {finding.code} {printable(finding.path)}"
    return f"{head}\n    {printable(finding.what)}; {printable(finding.cure)}\n"


def rebuild_store(options: Namespace, screen: Screen) -> int:
    """Make manifests and index anew, and say what was made."""
    rebuilt = rebuild(open_store(options, screen), screen.bar, lost_log=options.lost_log)
    if screen.as_json:
        screen.json(asdict(rebuilt))
    elif screen.is_terminal:
        _show_rebuilt(rebuilt, screen)
    else:
        facts = asdict(rebuilt)
        paths = [(name, path) for name in ("unmatched", "recovered") for path in facts.pop(name)]
        screen.rows((), [*((name, str(number)) for name, number in facts.items()), *paths])
    return 0


def _show_rebuilt(rebuilt: Rebuilt, screen: Screen) -> None:
    made = f"{rebuilt.manifests_written} manifests written, {rebuilt.manifests_kept} kept"
    screen.write(f"{rebuilt.runs} runs: {made}, and the index\n")
    for path in rebuilt.recovered:
        screen.write(f"recovered from {printable(path)}\n")
    for path in rebuilt.unmatched:
        screen.write(f"not in the ledger: {printable(path)}\n")
    if rebuilt.unmatched:
        screen.write("copy the lost segments, or take these runs back: `tracker rebuild --lost-log`\n")


def _verify_arguments(parser: ArgumentParser) -> None:
    level = parser.add_mutually_exclusive_group()
    for name, what in (
        (Level.FULL, "also every sealed file, object, manifest and params.json"),
        (Level.REPLAY, "all that, and that manifests and index are what the ledger says"),
    ):
        level.add_argument(f"--{name}", dest="level", action="store_const", const=name, help=what)
    parser.set_defaults(level=Level.QUICK)


def _rebuild_arguments(parser: ArgumentParser) -> None:
    about = "first take the runs of manifests whose segments are lost into the ledger again"
    parser.add_argument("--lost-log", action="store_true", help=about)


VERIFY = Command(
    "verify",
    "all that is wrong with a store; changes nothing",
    """\
Exit code 0: clean; 1: damage or alteration; 3: only something that is not here
(after a crash, or while a copy is under way). On a pipe one line a finding,
with tabs: severity (damage, incomplete, note), code, path, what, cure. The
codes are those of spec/recovery.md.

examples:
  tracker verify --full && echo clean
  tracker verify --replay --json | jq -r '.findings[] | [.code, .path] | @tsv'""",
    _verify_arguments,
    verify_store,
)

REBUILD = Command(
    "rebuild",
    "manifests and index anew, from the ledger",
    """\
Writes manifests that are not here, and the index, which lies outside the tree;
nothing else. No answer of this program depends on it. Where segments of the
ledger are lost for good, the manifests of their frames are named as unmatched,
and --lost-log takes their runs back: once, however often it is done.

examples:
  tracker rebuild --json
  tracker rebuild --lost-log && tracker verify --replay""",
    _rebuild_arguments,
    rebuild_store,
)
