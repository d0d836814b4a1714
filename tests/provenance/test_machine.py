"""What a machine is, judged by the system's own tools. Spec: spec/provenance.md section 3."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tracker.provenance.machine import (
    describe_machine,
    describe_platform,
    describe_python,
    parse_cpuinfo,
    parse_driver,
    parse_gpu,
    parse_os_release,
    parse_smi,
)

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")

CARD = b"Model: \t\t NVIDIA A100-SXM4-80GB\nIRQ:   \t\t 250\nGPU UUID: \t GPU-1234\n"
DRIVER = b"NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu Oct 19\nGCC version:\n"


def test_the_interpreter_is_this_one():
    said = subprocess.run([sys.executable, "--version"], capture_output=True, text=True, check=True).stdout

    assert describe_python()["version"] == said.split()[1]
    assert describe_python()["implementation"] == sys.implementation.name
    assert describe_python()["kind"] in ("venv", "conda", "system")


def test_the_platform_is_that_of_uname():
    said = subprocess.run(["uname", "-srm"], capture_output=True, text=True, check=True).stdout.split()
    facts = describe_platform()

    assert [facts["system"], facts["release"], facts["machine"]] == said


@on_linux
def test_processors_and_memory():
    facts = describe_machine({"PATH": ""}, [])
    total = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines())

    assert facts["cpus"] == os.cpu_count()
    assert facts["ram"] == total * 1024
    assert "gpus" not in facts or facts["gpus"]


def test_gpus_of_the_driver_are_asked_first(tmp_path):
    folder = tmp_path / "driver" / "nvidia"
    for card in ("0000:07:00.0", "0000:0f:00.0"):
        (folder / "gpus" / card).mkdir(parents=True)
        (folder / "gpus" / card / "information").write_bytes(CARD)
    (folder / "version").write_bytes(DRIVER)
    facts = describe_machine({"PATH": ""}, [], proc=str(tmp_path))

    assert facts["gpus"] == ["NVIDIA A100-SXM4-80GB"] * 2
    assert facts["gpu_driver"] == "535.129.03"


def tool(folder: Path, script: str) -> dict[str, str]:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_gpus_of_the_tool(tmp_path):
    lines = r"printf 'Tesla T4, 550.54.15\nNVIDIA L4, 550.54.15\n'"
    facts = describe_machine(tool(tmp_path, lines), [], proc=str(tmp_path))

    assert facts["gpus"] == ["NVIDIA L4", "Tesla T4"]
    assert facts["gpu_driver"] == "550.54.15"


def test_a_tool_that_fails_or_hangs_is_a_word(tmp_path, monkeypatch):
    monkeypatch.setattr("tracker.provenance.machine.TIMEOUT_S", 0.2)
    problems: list[str] = []
    for script in ("exit 9", "exec sleep 30"):
        assert "gpus" not in describe_machine(tool(tmp_path, script), problems, proc=str(tmp_path))
    (tmp_path / "nvidia-smi").write_bytes(b"\x7fELF nothing")
    describe_machine({"PATH": str(tmp_path)}, problems, proc=str(tmp_path))

    assert problems == [
        "nvidia-smi: ended with 9",
        "nvidia-smi: took too long",
        "nvidia-smi: Exec format error",
    ]


@pytest.mark.parametrize(
    ("data", "want"),
    [
        (b"processor\t: 0\nmodel name\t: AMD  EPYC 7B13\nmodel name\t: other\n", "AMD EPYC 7B13"),
        (b"processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", "ARM implementer 0x41 part 0xd0c"),
        (b"", ""),
        (b"\xff\xfe:\n", ""),
    ],
)
def test_the_name_of_a_processor(data, want):
    assert parse_cpuinfo(data) == want


def test_other_files_of_the_system():
    assert parse_os_release(b'NAME="Debian"\nID=debian\nVERSION_ID="12"\n') == "debian 12"
    assert parse_os_release(b"ID=arch\n") == "arch"
    assert (parse_gpu(CARD), parse_gpu(b"")) == ("NVIDIA A100-SXM4-80GB", "")
    assert (parse_driver(DRIVER), parse_driver(b"")) == ("535.129.03", "")
    assert parse_smi(b"No devices were found\n") == ([], "")
