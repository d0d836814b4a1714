"""Which types have no canonical form, and what to pass instead.

A table of names: no type is imported, so a library that is not installed costs nothing. A text that
begins with "pass" is a cure alone; whoever refuses names the type before it.

Spec: spec/canonical.md, "Rule for each type".
"""

from __future__ import annotations

from collections.abc import Iterator

ANYTHING = "pass a number, a string, a list or a dict"
BIG_ARRAY = "pass a hash of its bytes instead"
PLAIN_ITEMS = "pass x.tolist() if its items are plain values"
TENSOR = "pass x.item() for a scalar, x.tolist() for a short list, or a hash of a big one"

_BYTES = "bytes have no JSON form; pass x.hex(), or a hash of them"
_DTYPE = "pass its name, e.g. 'float32'"
_NAME = "pass its name, e.g. 'torch.nn.ReLU'"
_SET = "a set has no order; pass sorted(x)"

REFUSALS: dict[str, str] = {
    "builtins.set": _SET,
    "builtins.frozenset": _SET,
    "builtins.bytes": _BYTES,
    "builtins.bytearray": _BYTES,
    "builtins.memoryview": _BYTES,
    "builtins.complex": "pass [x.real, x.imag]",
    "builtins.range": "pass list(x), or its start, stop and step",
    "builtins.type": _NAME,
    "builtins.module": _NAME,
    "builtins.function": _NAME,
    "builtins.method": _NAME,
    "builtins.builtin_function_or_method": _NAME,
    "functools.partial": _NAME,
    "datetime.datetime": "a time in params makes nearly every uid new; leave it out, or pass x.isoformat()",
    "datetime.time": "pass x.isoformat()",
    "datetime.timedelta": "pass x.total_seconds()",
    "decimal.Decimal": "pass float(x), or str(x) to keep every digit",
    "fractions.Fraction": "pass [x.numerator, x.denominator]",
    "uuid.UUID": "pass str(x) (is it part of what the experiment is?)",
    "numpy.ufunc": _NAME,
    "numpy.dtype": _DTYPE,
    "torch.dtype": _DTYPE,
    "torch.device": "a device seldom identifies an experiment; ignore it, or pass str(x)",
    "torch.Tensor": TENSOR,
    "pydantic.root_model.RootModel": "pass x.root",
}
"""The message for a type and for its subclasses; the nearest base class decides."""

_TENSOR_PACKAGES = frozenset({"jax", "jaxlib", "pandas"})


def iter_base_names(kind: type) -> Iterator[str]:
    """Yield `module.name` of `kind` and of its bases, the nearest first."""
    for base in kind.__mro__:
        yield f"{base.__module__}.{base.__qualname__}"


def is_of_tensor_package(kind: type) -> bool:
    """Tell whether `kind`, or a base of it, comes from JAX or pandas."""
    return any(name.partition(".")[0] in _TENSOR_PACKAGES for name in iter_base_names(kind))
