"""The program that Claude Code runs before each edit of a job that enforces file locks.

It asks our server and prints the answer. Whatever goes wrong, the edit is refused: exit code 2, and
the model reads what stands on standard error. A failing HTTP hook would let the edit pass. Standard
library only, and run by its path: it starts in 0.1 s.
"""

import http.client
import json
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

#: Exit code by which Claude Code takes a hook's word for a refusal (2.1.330, November 2026).
REFUSED = 2
#: Fields of a hook that say which file is meant. What is to be written stays here.
NAMING = ("file_path", "notebook_path")


def main(file: str) -> int:
    """Ask the server that *file* names (url and token) about the hook on standard input."""
    target = json.loads(Path(file).read_text(encoding="utf-8"))
    signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(target["patience_s"])
    hook: dict[str, Any] = json.load(sys.stdin)
    tool_input: dict[str, Any] = hook.get("tool_input") or {}
    asked: dict[str, Any] = {
        "hook_event_name": hook.get("hook_event_name"),
        "cwd": hook.get("cwd"),
        "tool_name": hook.get("tool_name"),
        "tool_input": {name: tool_input[name] for name in NAMING if name in tool_input},
    }
    connection = http.client.HTTPConnection(target["host"], target["port"])
    headers = {"Authorization": f"Bearer {target['token']}", "Content-Type": "application/json"}
    connection.request("POST", target["path"], json.dumps(asked), headers)
    response = connection.getresponse()
    answer = response.read().decode()
    if response.status != 200:
        return _refuse(f"it answered {response.status}: {answer[:300]}")
    json.loads(answer)  # half an answer is none
    sys.stdout.write(answer)
    return 0


def _too_late(_signal: int, _frame: object) -> NoReturn:
    raise TimeoutError("it does not answer")


def _refuse(why: object) -> int:
    sys.stderr.write(
        "This edit was not made: this job edits files under locks only, and the hurlicane server "
        f"cannot be asked whether you hold the lock ({why}). Wait some seconds and try again. Do "
        "not write the file in another way.\n"
    )
    return REFUSED


if __name__ == "__main__":
    try:
        code = main(sys.argv[1])
    except Exception as error:  # whatever it is, nobody has allowed the edit
        code = _refuse(error)
    sys.exit(code)
