r"""A coding agent that follows a script instead of a model: to rehearse orchestrations with.

It is a real process and a real MCP client; only the thinking is missing. The first script in its
prompt is followed:

    1. a fenced block whose info string is `script` (or `yaml script`, `json script`) and that holds
       YAML, JSON or `!` lines;
    2. otherwise the lines of the prompt that begin with `! `, one step a line;
    3. otherwise the YAML or JSON file that a line `script: PATH` names, seen from the work folder.

Without a script it says so and calls finish_job with the first line of the job's description: the
line below a heading such as `# Job` or `# Job ID: TITLE`, or else the first line of the prompt.

SCRIPT. Either a list of steps, or a mapping:

    steps: [...]
    on_resume: [...]      # followed instead when the session is resumed (each time, from the top)
    mode: auto            # or legacy: the MCP era; else $SCRIPTED_MCP_MODE, else auto
    on_error: fail        # or continue: what a failing step means where it does not say itself
    phases:               # followed instead of `steps` by an agent of a workflow
      assess: [...]
      implement: {cycles: {1: [...], 2: [...], default: [...]}}

PHASES. The prompt's first line `Phase: NAME (cycle N of M)` says which phase it is for: assess,
review, implement, verify or repair. Its steps are those of its cycle, else its default, else
`steps`; without any the script is refused. Every prompt of a workflow contains its task, so one
script there is enough for all phases. `${phase.name}`, `${phase.cycle}` and `${phase.workflow}`
tell where the agent is, so that it can name the notes:

    call: {name: write_note, args: {key: "workflow/${phase.workflow}/plan", value: "- [ ] Add x"}}

STEPS. A step is a mapping with one key (a step that takes nothing may be a bare word):

    call: {name: create_job, args: {description: Add tests}, as: a}
                                        also expect_error: CODE (or any), on_error: continue|fail
    call: list_jobs                     without arguments
    finish: Done.                       calls finish_job; or {result: ..., outcome: failed, ...}
    parallel: [STEP, [STEP, STEP], ...]   side by side; an inner list is a sequence
    repeat: {times: 3, steps: [...]}    at most 10,000 steps in all
    edit: {path: notes.txt, append: "text\n"}           or write: to replace what is there
    commit: {path: notes.txt, append: "text\n", message: Add notes}   edit, git add, git commit
    run: [make, test]                   or {argv: [...], as: NAME, on_error: continue|fail}
    say: text                           the last one is the agent's last message
    warn: text
    usage: {input: 1000, output: 50, cost_usd: "0.012"}   added to the session's figures
    request: {input: 1000, output: 50}  a model's turn and what it used, told at once
    deny: Bash(rm)                      the permissions do not allow this call
    refuse: {kind: rate_limit, models: [opus], text: Too many requests}   see LIMITS
    sleep: 0.5                          seconds
    print: raw text                     not in the agent's format: garbage for whoever reads it
    print_bytes: 10000000               one line of that many bytes
    disconnect                          closes the MCP connection and says so; later calls fail
    ignore_term                         SIGTERM does nothing from here on
    rate_limit: claude                  or codex: its refusal as recorded, then exit 1
    exit: 3                             at once; `exit: 0` ends silently, without finish_job
    crash: SIGKILL                      sends itself the signal (SIGKILL by default)
    hang                                for ever

As lines: `! call create_job {"description": "..."} as a`, `! call get_job {"job_id": "x"}
expect_error not_found`, `! commit notes.txt "one line" "message"`, `! edit notes.txt "one line"`
(both append the line), `! run make test`, `! say hello`, `! finish Done.`, `! sleep 0.5`,
`! exit 3`, `! hang`; every other step takes its value as JSON. `! on_resume` begins the steps for
a resumed session, `! mode legacy` and `! on_error continue` set what the mapping would.

REFERENCES. `as: NAME` keeps a call's structured result, and texts that come later may hold
`${NAME.job_id}`, `${NAME.jobs.0.result}` or `${env.NAME}` (never the token). A text that is
one reference as a whole keeps the type of the value. `$${...}` is the text itself, one dollar
less: what a script for a child needs, so that it is the child that fills it in. A call that
failed keeps {error, code}; `run` keeps {exit_code, output}.

FAILING. A step that fails prints a tool event with the error. With on_error: fail (the default) an
error event follows and the exit code is 1; with continue the next step follows. A script that
cannot be understood exits 2 before its first step, and standard error says what is allowed. A call
that finds no server fails as Claude Code's would; the next one tries to connect again, except after
a disconnect.

LIMITS. `refuse` prints an event `refused`. With final: true (the default) the agent then ends with
exit code 1, and whoever resumes the session is at that step again; with final: false it waits for
wait_s (1) seconds, asks again, and goes on once it is not refused any more. Besides:

    kind: auth, billing, context_overflow, network, overloaded, rate_limit, server_error,
          spend_limit, unknown_model or usage_limit
    models: [opus, sonnet]   only these refuse: with another --model the agent goes on
    times: 3                 refused so often, over all processes of the session; by default 1 with
                             final: false and for ever with final: true
    resets_in_s: 20          announced as the limit's end, which it is: from the first refusal
    scope: account           or model (the default): whom the refusal says it is about
    silent: true             does not say how long it waits
    text: ...                its words

With `--max-turns N` the process ends with an event `stopped` and exit code 1 when it would begin
one turn more. Turns are `call` and `request`.

SESSIONS. The agent names its session at the start and keeps it in a file in $SCRIPTED_SESSIONS.
`--resume ID` goes on after the last completed top-level step, with the variables, the model turns
and the usage so far; a step that ends the agent counts as completed when it begins, so a resumed
session goes on behind it (but not behind a `refuse`). The session's own script is followed,
whatever the new prompt says.

OUTPUT. One JSON object a line with an `event`: session, turn, message, tool (begin, end),
disconnected, progress, usage, request, denied, refused, answered (the refusal is over), stopped,
warning, error, foreign (a line of another CLI), result.

PROMPT. It comes by standard input, or from the file that `--prompt-file` names: on a terminal
nobody would end the input.

ENVIRONMENT. HURLICANE_MCP_URL and HURLICANE_TOKEN: the server. SCRIPTED_SESSIONS: the folder of the
sessions (default: one below the system's for temporary files). SCRIPTED_MCP_MODE: auto or legacy.
SCRIPTED_CALL_LIMIT_S: the seconds that one tool call may take (default 3600).
"""
