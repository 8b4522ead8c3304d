"""The operator's token, kept in the data folder."""

import os
from contextlib import suppress
from pathlib import Path

from hurlicane_mcp.ids import new_token


def operator_token(data_dir: Path) -> str:
    """The operator's token of this data folder, made at the first start (file mode 0600).

    For the server that holds the folder. The file is whole or absent, whenever that one dies.
    """
    path = data_dir / "operator.token"
    with suppress(FileNotFoundError):
        if known := path.read_text(encoding="utf-8").strip():
            return known
    token = new_token("operator")
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(token + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    return token
