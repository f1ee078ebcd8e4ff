"""certbot's deploy hook: notes which lineage it has just obtained or renewed, for the renewer to verify and publish.

certbot runs it once per certificate, with the lineage's folder in RENEWED_LINEAGE. It publishes nothing by itself:
``live/`` is whole only once certbot has ended, and ``certs/`` has one writer.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

NOTE = "RENEWER_LINEAGE_NOTE"  # the file to write, set by the renewer


def note(environ: Mapping[str, str]) -> None:
    """Replace the note in one step. Raises KeyError outside certbot, OSError if it cannot be written."""
    path = Path(environ[NOTE])
    new = path.with_suffix(".new")
    new.write_text(environ["RENEWED_LINEAGE"], "utf-8")
    os.replace(new, path)


if __name__ == "__main__":
    note(os.environ)
