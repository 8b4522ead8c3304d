"""The `hurlicane` command; `python -m hurlicane_mcp` is the same."""

import sys


def main() -> int:
    """Run the command line of this process and return its exit code."""
    # A server's start is on the critical path of agents: it does without the rest of the commands.
    if sys.argv[1:2] == ["serve"]:
        from hurlicane_mcp.cli.serve import serve

        return serve(sys.argv[2:])
    from hurlicane_mcp.cli.main import run

    return run()


if __name__ == "__main__":
    sys.exit(main())
