"""How this process was launched: command line, working directory, script, variables, jobs, seeds.

Pure but for `this_launch` and `masker_for`, which look at the process and for files.

Spec: spec/provenance.md sections 2 and 5.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tracker._codec.values import MAX_DEPTH
from tracker.provenance.masking import Masker, find_secret_values

MAX_BYTES = 131_072
"""Bytes of a command line, and of all variables; what follows is left out."""

MAX_VALUE = 4096
"""Characters of a variable's value."""


class Launch(NamedTuple):
    """What does not change while the process lives, without secrets."""

    argv: list[str]
    cwd: str | None
    script: str | None
    """Both absolute, symbolic links resolved."""
    variables: dict[str, str]
    jobs: list[dict[str, str]]
    problems: list[str]


def this_launch(environment: Mapping[str, str], masker: Masker) -> Launch:
    """Look at this process. Cost: 0.1 ms."""
    problems: list[str] = []
    try:
        cwd = os.getcwd()
    except OSError as error:
        problems.append(f"working directory: {(error.strerror or 'unknown').lower()}")
        cwd = None
    argv = command_line(sys.orig_argv, sys.argv, sys.executable)
    return Launch(
        cut_argv([_utf8(word) for word in masker.arguments(argv)], problems),
        cwd,
        _script(getattr(sys.modules.get("__main__"), "__file__", None), cwd),
        pick_variables(environment, masker),
        find_jobs(environment, masker),
        problems,
    )


def masker_for(environment: Mapping[str, str]) -> Masker:
    """A masker that knows the secrets among these variables. One that is the name of a file is none."""
    return Masker(value for value in find_secret_values(environment) if not os.path.lexists(value))


def command_line(original: Sequence[str], given: Sequence[str], executable: str) -> list[str]:
    """The words that started the program: those of the interpreter too, as `-m` and `-X` stand before it.

    A worker of a process pool was started by other words than its program; it has those of the program.
    """
    is_worker = any(word in _POOLS for word in original[1:4]) or "--multiprocessing-fork" in original
    if original and not is_worker:
        return [*original]
    return [executable or "python", *given]


def cut_argv(argv: list[str], problems: list[str]) -> list[str]:
    """The command line up to `MAX_BYTES`."""
    size = 0
    for i, word in enumerate(argv):
        size += len(word.encode()) + 1
        if size > MAX_BYTES:
            problems.append(f"argv: {i} of {len(argv)} words kept")
            return argv[:i]
    return argv


def pick_variables(environment: Mapping[str, str], masker: Masker) -> dict[str, str]:
    """The variables on the list, and those that TRACKER_VARIABLES names; secrets masked.

    Spec: spec/provenance.md section 5, "Variables".
    """
    more = [name.strip() for name in environment.get("TRACKER_VARIABLES", "").split(",") if name.strip()]
    names = _NAMES.union(more)
    prefixes = _PREFIXES + tuple(name[:-1] for name in more if name.endswith("*") and len(name) > 1)
    picked = (name for name in environment if name in names or name.startswith(prefixes))
    variables: dict[str, str] = {}
    size = 0
    for name in sorted(picked):
        value = _short(masker.named(name, _utf8(environment[name])))
        size += len(name) + len(value.encode())
        variables[_utf8(name)] = value if size <= MAX_BYTES else "…"
    return variables


def find_jobs(environment: Mapping[str, str], masker: Masker) -> list[dict[str, str]]:
    """The jobs of schedulers and engines that the process is a part of. Slurm's is told in OPEN."""
    jobs = []
    for system, names, tasks, needed in _SYSTEMS:
        job = next((environment[name] for name in names if environment.get(name)), None)
        if job is None or (needed and not any(environment.get(name) for name in needed)):
            continue
        found = {"system": system, "job": _short(masker.text(_utf8(job)))}
        task = next((environment[name] for name in tasks if environment.get(name)), None)
        jobs.append(found if task in (None, "undefined") else {**found, "task": _short(_utf8(str(task)))})
    return jobs


def find_seeds(params: object) -> dict[str, int]:
    """The integers among params that are named `seed`, `random_seed` or `…_seed`, by their dotted path."""
    found: dict[str, int] = {}
    waiting: list[tuple[str, object]] = [("", params)]
    while waiting:
        path, value = waiting.pop()
        if type(value) is int:
            if path.rpartition(".")[2].lower() == "seed" or path.lower().endswith("_seed"):
                found[path] = value
        elif isinstance(value, Mapping) and path.count(".") < MAX_DEPTH:
            waiting += ((f"{path}.{name}" if path else str(name), inner) for name, inner in value.items())
    return dict(sorted(found.items()))


def relative(path: str | None, folder: str) -> str | None:
    """A POSIX path from `folder`, which is absolute, with `..` where it leads out of it."""
    return None if path is None else _utf8(os.path.relpath(path, folder))


def is_below(path: str, folder: str) -> bool:
    """True for what lies in `folder`, itself included."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


_POOLS = frozenset({"joblib.externals.loky.backend.popen_loky_posix", "loky.backend.popen_loky_posix"})

_NAMES = frozenset(
    {
        *("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "CUDA_LAUNCH_BLOCKING", "CUBLAS_WORKSPACE_CONFIG"),
        *("NVIDIA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"),
        *(
            "OMP_NUM_THREADS",
            "OMP_PROC_BIND",
            "MKL_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "NUMEXPR_NUM_THREADS",
        ),
        *("VECLIB_MAXIMUM_THREADS", "NUMBA_NUM_THREADS", "PYTHONHASHSEED", "PYTHONPATH", "PYTHONOPTIMIZE"),
        *("PYTHONWARNINGS", "CONDA_DEFAULT_ENV", "TOKENIZERS_PARALLELISM", "HF_HUB_OFFLINE"),
        *("TRANSFORMERS_OFFLINE", "TF_DETERMINISTIC_OPS", "TF_CUDNN_DETERMINISTIC", "TF_ENABLE_ONEDNN_OPTS"),
        *("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF", "LD_PRELOAD", "TZ", "RANK", "LOCAL_RANK"),
        *("WORLD_SIZE", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_CPUS_PER_TASK", "SLURM_JOB_PARTITION"),
        *("SLURM_JOB_NUM_NODES", "JPY_SESSION_NAME", "TRACKER_VARIABLES"),
    }
)
_PREFIXES = ("NCCL_", "XLA_", "JAX_", "TORCH_", "MKL_", "KMP_")

_SYSTEMS: tuple[tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...] = (
    ("pbs", ("PBS_JOBID",), ("PBS_ARRAY_INDEX", "PBS_ARRAYID"), ()),
    ("lsf", ("LSB_JOBID",), ("LSB_JOBINDEX",), ()),
    ("sge", ("JOB_ID",), ("SGE_TASK_ID",), ("SGE_ROOT", "SGE_O_HOST", "SGE_TASK_ID")),
    ("oar", ("OAR_JOB_ID",), ("OAR_ARRAY_INDEX",), ()),
    ("flux", ("FLUX_JOB_ID",), ("FLUX_TASK_RANK",), ()),
    ("aws-batch", ("AWS_BATCH_JOB_ID",), ("AWS_BATCH_JOB_ARRAY_INDEX",), ()),
    ("ray", ("RAY_JOB_ID",), ("RAY_WORKER_ID",), ()),
    ("dask", ("DASK_SCHEDULER_ADDRESS",), ("DASK_WORKER_NAME",), ()),
)
"""System, where its job's id stands, where its task's, and variables one of which has to be there too."""


def _script(path: object, cwd: str | None) -> str | None:
    if not isinstance(path, str) or not path or path.startswith("<"):
        return None
    if cwd is None and not os.path.isabs(path):
        return None
    return os.path.realpath(path)


def _short(value: str) -> str:
    return value if len(value) <= MAX_VALUE else value[:MAX_VALUE] + "…"


def _utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
