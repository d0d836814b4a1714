"""What this machine and this interpreter are: the same on every start, or it has no place here.

Reads /proc and asks `nvidia-smi`; writes nothing. What cannot be found out is left out, never guessed.

LIMIT: GPUs other than NVIDIA's are not named, nor is the processor of a Mac.

Spec: spec/provenance.md section 3.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from tracker.provenance.command import find_program, run

TIMEOUT_S = 5.0


def describe_python() -> dict[str, Any]:
    """Version, implementation and kind of the interpreter."""
    return {
        "version": ".".join(map(str, sys.version_info[:3])) + _release(),
        "implementation": sys.implementation.name,
        "kind": _kind(sys.prefix, sys.base_prefix),
    }


def describe_platform() -> dict[str, str]:
    """System, kernel, processor architecture, distribution and C library."""
    told = os.uname()
    facts = {"system": told.sysname, "release": told.release, "machine": told.machine}
    distribution = parse_os_release(_read("/etc/os-release"))
    libc = _libc()
    return facts | ({"distribution": distribution} if distribution else {}) | ({"libc": libc} if libc else {})


def describe_machine(
    environment: Mapping[str, str], problems: list[str], *, proc: str = "/proc"
) -> dict[str, Any]:
    """Processor, memory and GPUs. Cost: 0.2 ms; up to 5 s where `nvidia-smi` has to be asked."""
    model = parse_cpuinfo(_read(f"{proc}/cpuinfo", 16_384))
    gpus, driver = _gpus_of_driver(f"{proc}/driver/nvidia")
    if not gpus:
        gpus, driver = _gpus_of_tool(environment, problems)
    facts: dict[str, Any] = {"cpus": os.cpu_count(), "ram": _memory(), "cpu": model, "gpus": gpus}
    facts["gpu_driver"] = driver
    return {name: value for name, value in facts.items() if value}


def parse_cpuinfo(data: bytes) -> str:
    """The processor's name in /proc/cpuinfo, else "": ARM kernels give numbers only."""
    facts = _members(data, b":")
    model = facts.get("model name", "")
    if not model and "CPU implementer" in facts:
        model = f"ARM implementer {facts['CPU implementer']} part {facts.get('CPU part', '')}".strip()
    return " ".join(model.split())


def parse_os_release(data: bytes) -> str:
    """`debian 12` of /etc/os-release, else ""."""
    facts = _members(data, b"=")
    return " ".join(facts[name].strip("\"'") for name in ("ID", "VERSION_ID") if facts.get(name))


def parse_gpu(data: bytes) -> str:
    """The model in /proc/driver/nvidia/gpus/…/information, else ""."""
    return _members(data, b":").get("Model", "")


def parse_driver(data: bytes) -> str:
    """The version in /proc/driver/nvidia/version, else ""."""
    words = data.decode("utf-8", "replace").partition("\n")[0].split()
    return next((word for word in words if word[0].isdigit() and "." in word), "")


def parse_smi(data: bytes) -> tuple[list[str], str]:
    """GPUs and driver from lines `name, driver version`, as `nvidia-smi` prints them."""
    lines = [line.rpartition(", ") for line in data.decode("utf-8", "replace").splitlines()]
    pairs = [(name.strip(), driver.strip()) for name, comma, driver in lines if comma]
    return sorted(name for name, _ in pairs), next((driver for _, driver in pairs), "")


def _gpus_of_driver(folder: str) -> tuple[list[str], str]:
    try:
        cards = os.listdir(f"{folder}/gpus")
    except OSError:  # no driver of NVIDIA's, or a container that does not show it
        return [], ""
    models = (parse_gpu(_read(f"{folder}/gpus/{card}/information")) for card in cards)
    return sorted(model for model in models if model), parse_driver(_read(f"{folder}/version"))


def _gpus_of_tool(environment: Mapping[str, str], problems: list[str]) -> tuple[list[str], str]:
    program = find_program("nvidia-smi", environment.get("PATH", os.defpath))
    if program is None:
        return [], ""
    query = [program, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        answer = run(query, environment, timeout_s=TIMEOUT_S)
    except OSError as error:
        problems.append(f"nvidia-smi: {error.strerror}")
        return [], ""
    if answer.cut or answer.code:
        problems.append("nvidia-smi: " + ("took too long" if answer.cut else f"ended with {answer.code}"))
        return [], ""
    return parse_smi(answer.out)


def _release() -> str:
    level = {"alpha": "a", "beta": "b", "candidate": "rc"}.get(sys.version_info.releaselevel)
    return f"{level}{sys.version_info.serial}" if level else ""


def _kind(prefix: str, base: str) -> str:
    if prefix != base:
        return "venv"
    return "conda" if os.path.isdir(os.path.join(prefix, "conda-meta")) else "system"


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):  # another C library, which has no such name
        return ""


def _memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 0


def _members(data: bytes, sign: bytes) -> dict[str, str]:
    """`name: value` lines; of two with one name the first."""
    facts: dict[str, str] = {}
    for line in data.splitlines():
        name, found, value = line.partition(sign)
        if found:
            facts.setdefault(
                name.strip().decode("utf-8", "replace"), value.strip().decode("utf-8", "replace")
            )
    return facts


def _read(path: str, size: int = 65_536) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read(size)
    except OSError:
        return b""
