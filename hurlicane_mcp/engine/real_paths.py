"""The real paths behind what callers name. Asks the file system: for worker threads."""

import os
import sys
from collections.abc import Sequence

from hurlicane_mcp.errors import Invalid

#: As macOS formats its disks. There, names that differ in their case only count as one, which at
#: worst keeps two files of a disk that tells them apart under one lock.
IGNORES_CASE = sys.platform == "darwin"


def real_paths(
    base: str, paths: Sequence[str], *, ignores_case: bool = IGNORES_CASE
) -> tuple[str, ...]:
    """Each of *paths*, once, absolute and without symlinks, in alphabetical order.

    Relative ones are below *base*. What does not exist yet stays as it is named, below the real
    path of what does. Hard links are not seen through.

    Raises:
        Invalid: a path is the root of the file system.
    """
    found = {_real(base, path, ignores_case) for path in paths}
    if "/" in found:
        raise Invalid("`paths` names /, the whole file system: name your files or their folders.")
    return tuple(sorted(found))


def edited_paths(base: str, path: str, *, ignores_case: bool = IGNORES_CASE) -> tuple[str, ...]:
    """The real paths that an agent's CLI may mean by *path*: most often one.

    The system follows a link before `..`. A program may also take `..` as text, read `~` as the
    home folder and leave out spaces around a path. Whether a CLI does, and whether its hook is told
    before or after that, was not measured: so all readings count.

    Raises:
        Invalid: it may be the root of the file system.
    """
    told = os.path.expanduser(path.strip())  # noqa: PTH111  (a text, as the CLI sees it)
    as_text = os.path.normpath(os.path.join(base, told))  # noqa: PTH118  (a join of texts)
    return real_paths(base, [path, as_text], ignores_case=ignores_case)


def _real(base: str, path: str, ignores_case: bool) -> str:
    real = os.path.realpath(os.path.join(base, path))  # noqa: PTH118  (a join of texts)
    real = "/" + real.lstrip("/")  # POSIX lets a path begin with two slashes
    return real.casefold() if ignores_case else real
