"""Whether there is room to write, asked before something is begun that would end half done."""

import errno
import os
from pathlib import Path

#: Bytes; with less a disk counts as full. What an agent's start writes fits many times.
ROOM = 1024 * 1024
_NOT_WRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


def is_full(folder: Path) -> bool:
    """Whether the disk of *folder*, or of its nearest parent that exists, has no room left."""
    while not folder.exists():
        folder = folder.parent
    found = os.statvfs(folder)
    has_inodes = found.f_files == 0 or found.f_favail > 0  # some file systems do not count them
    return found.f_bavail * found.f_frsize < ROOM or not has_inodes


def says_not_writable(error: BaseException | None) -> bool:
    """Whether *error*, or its cause, is that of a disk that is full or read-only, or of a quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
            return True
        error = error.__cause__
    return False
