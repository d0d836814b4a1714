"""The version of this release, as each segment records it."""

from __future__ import annotations

VERSION = "0.1.0"
