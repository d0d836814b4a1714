"""The names that tools which keep folders alike give to the second of two contents. Pure.

Only bytes prove that such a file is what its first name said; this tells which name that was.

Spec: spec/merge.md section 4.
"""

import re

_FORMS = (
    re.compile(r"\.sync-conflict-[0-9]{8}-[0-9]{6}(?:-[0-9A-Z]{7})?"),
    re.compile(r" \((?:[^()/]*'s? )?conflicted copy(?: [^()/]*)?\)", re.IGNORECASE),
)
"""Syncthing; Dropbox and those that name as it does."""


def original_name(name: str) -> str | None:
    """The name without the mark of a conflict copy; None for a name that has none.

    original_name("x (Alice's conflicted copy 2026-01-01).seg") == "x.seg"
    """
    for form in _FORMS:
        bare, marks = form.subn("", name)
        if marks and bare:
            return bare
    return None
