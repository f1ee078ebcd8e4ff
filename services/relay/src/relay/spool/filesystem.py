"""Whether a file system can hold a spool.

SQLite's write-ahead log needs shared memory and locks that work, and a spool must outlive the container. Where either
is not so, mail would be lost later and silently; so it is looked at before anything is written.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

MOUNTS: Final = Path("/proc/self/mountinfo")
_REMOTE: Final = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "virtiofs",
        "afs",
        "ceph",
        "glusterfs",
        "fuse.sshfs",
        "fuse.glusterfs",
    }
)
_ESCAPE: Final = re.compile(r"\\([0-7]{3})")


def problem(fs_type: str) -> str | None:
    """A sentence if a spool must not live on ``fs_type`` (as mountinfo names it), else None."""
    if fs_type in ("overlay", "overlayfs", "aufs"):
        return (
            "The spool is inside the container and would be deleted with it; give it a volume, "
            "in compose.yaml under the relay: `volumes: [spool:/var/spool/ownpost]`."
        )
    if fs_type in ("tmpfs", "ramfs"):
        return "The spool is in memory (tmpfs) and would be lost at the next restart; put it on a disk."
    if fs_type in _REMOTE:
        return (
            f"The spool is on {fs_type}, where the database's log can be damaged and mail lost; "
            "put it on a local disk (ext4, XFS, Btrfs, ZFS) or a named volume."
        )
    return None


def type_of(folder: Path, mountinfo: str) -> str:
    """The file system type of the mount that holds ``folder`` (absolute, resolved), or "" if it is not to be found.

    ``mountinfo`` is the text of /proc/self/mountinfo (proc_pid_mountinfo(5)); of several mounts on one point the last
    one is seen.
    """
    best, found = -1, ""
    for line in mountinfo.splitlines():
        fields = line.split(" ")
        if len(fields) < 10 or " - " not in line:
            continue
        point = Path(_ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4]))
        if (folder == point or point in folder.parents) and len(point.parts) >= best:
            best, found = len(point.parts), fields[fields.index("-") + 1]
    return found


def problem_of(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """What :func:`problem` says of the file system that holds ``folder``; None also where the system does not tell."""
    try:
        return problem(type_of(folder.resolve(), mounts.read_text(errors="surrogateescape")))
    except OSError:
        return None
