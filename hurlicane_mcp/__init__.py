"""hurlicane_mcp: a supervisor for coding agents, as a Model Context Protocol server."""
