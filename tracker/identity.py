"""`tracker.uid`: the uid of params, without any store.

Spec: spec/canonical.md.
"""

from __future__ import annotations

from typing import Any

from tracker._codec.canonical import canonical
from tracker._codec.digest import uid_of
from tracker.terms import Uid


def uid(params: Any) -> Uid:
    """The uid of `params`: 32 hex digits, the same on any machine and in any language.

    Raises: ParamsError, which names the value that has no canonical form. Cost: 4 µs for a dozen params.
    Spec: spec/canonical.md.
    """
    return uid_of(canonical(params))
