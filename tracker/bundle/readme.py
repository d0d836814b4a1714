"""What a bundle says of itself to whoever unpacks it. Pure."""

from __future__ import annotations

_TEXT = """\
# {name}

{description}

A store of `tracker`: {runs}, {files} files. The pages in [{spec}]({spec}/README.md) give its format.
`ro-crate-metadata.json` describes the runs and lists every file with its SHA-256 and BLAKE3 (RO-Crate 1.1).

## Reading it

With the package (`pip install tracker-store`), in this folder:

    tracker ls
    tracker verify --full

Without it, by the reader in this folder, which needs Python and its package `blake3`:

    python {spec}/reference.py .

Without anything but `jq`: the finished attempts.

    jq -r '[.identifier, .status, (.params | tostring)] | @tsv' .tracker/manifests/*/*.json | sort -u

Each run lies in the folder, or under the prefix, that begins BLAKE3 of its `params.json`:
`b3sum -l 16 --no-names params.json` prints it. What every file must be, in two lines:

    jq -r '."@graph"[] | select(.sha256) | .sha256 + "  " + .name' ro-crate-metadata.json | sha256sum -c
    jq -r '."@graph"[] | select(.sha256) | .identifier[7:] + "  " + .name' ro-crate-metadata.json | b3sum -c

## Whence it is

{history}
"""

_VERBATIM = (
    "The history in `.tracker/ledger` is the original one, file for file, and proven by its own hashes."
)
_ANEW = """\
The original history tells of other runs too. Where it does, what it says of these was written anew: {anew}
events. Each end of an attempt has a note that names the original frame, and beside it lies the original
manifest, which tells when, where and by whom the attempt was started: [{spec}/bundle.md]({spec}/bundle.md)
section 2."""
_STRANGERS = """\
The history in `.tracker/ledger` is the original one. {strangers} other runs are in it, without files."""


def readme(
    *, name: str, description: str, runs: int, files: int, spec: str, anew: int, strangers: int
) -> bytes:
    """The page."""
    history = _ANEW if anew else _STRANGERS if strangers else _VERBATIM
    text = _TEXT.format(
        name=name,
        description=description,
        runs=f"{runs} run{'' if runs == 1 else 's'}",
        files=files,
        spec=spec,
        history=history.format(anew=anew, spec=spec, strangers=strangers),
    )
    return text.encode()
