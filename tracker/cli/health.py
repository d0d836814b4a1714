"""`verify` and `rebuild`: what is wrong with a store, and its derived files made anew."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import Counter

from msgspec.structs import asdict

from tracker.check import Finding, Level, Report, rebuild, verify
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
    rebuilt = rebuild(open_store(options, screen), screen.bar)
    if screen.as_json:
        screen.json(asdict(rebuilt))
    elif screen.is_terminal:
        made = f"{rebuilt.manifests_written} manifests written, {rebuilt.manifests_kept} kept"
        screen.write(f"{rebuilt.runs} runs: {made}, and the index\n")
    else:
        screen.rows((), ((name, str(number)) for name, number in asdict(rebuilt).items()))
    return 0


def _verify_arguments(parser: ArgumentParser) -> None:
    level = parser.add_mutually_exclusive_group()
    for name, what in (
        (Level.FULL, "also every sealed file, object, manifest and params.json"),
        (Level.REPLAY, "all that, and that manifests and index are what the ledger says"),
    ):
        level.add_argument(f"--{name}", dest="level", action="store_const", const=name, help=what)
    parser.set_defaults(level=Level.QUICK)


def _no_arguments(parser: ArgumentParser) -> None:
    """A command without arguments of its own."""


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
nothing else. No answer of this program depends on it.

example:
  tracker rebuild --json""",
    _no_arguments,
    rebuild_store,
)
