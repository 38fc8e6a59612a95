import type { ExecRequest } from "../../../target.ts";

/**
 * ECS Exec has a terminal and nothing else: no stderr of its own, no end of input, no exit code (Amazon ECS developer guide, ECS Exec; `ExecuteCommand` takes only
 * `interactive: true`). So what is started there is a shell that we tell the rest over the session itself. Nothing of the user's command is in the call to AWS:
 * it would be kept in CloudTrail, with the secrets it may hold, and the agent splits that text into words with rules of its own.
 */

/** In the environment of all that an exec starts: what is left of it is found by that. */
const MARK = "SHIPWAY_EXEC";

/**
 * The command for `ExecuteCommand`. The agent splits it as a shell would (google/shlex) and expands nothing. Nothing is echoed and no byte is changed from there on; then it reads a
 * line, and that is a script.
 */
export const bootstrapOf = (id: string): string =>
  `env ${MARK}=${id} sh -c 't=$(stty -g) && stty raw -echo && echo "$${MARK} ready" && IFS= read -r s && eval "$s"'`;

/** What is printed once a script can be sent. */
export const readyLineOf = (id: string): string => `${id} ready\n`;

/** Begins what is not the command's own output; a character that texts do not have. */
export const SIGN = 0x1e;

/** Ends a terminal's session: `SIGN`, this, and the exit code. */
export const exitSignOf = (id: string): string => `${id} exit `;

/** What the shell waits for after it told the exit code: an agent that is done may forget the last of its output, one that is not may not. */
export const terminalDoneOf = (id: string): string => `\n${id}\n`;
export const PIPES_DONE = "!\n";
/** The end of the command's input, as a line. */
export const INPUT_END = ".\n";
/** So many bytes of input a line; as base64 they fit a terminal's buffer. */
export const INPUT_LINE_BYTES = 3_000;

/** The one line of shell that runs the command. */
export function scriptOf(request: ExecRequest): string {
  const parts = [
    // A line ends at a newline, so one that belongs to the command is written as this.
    `n=$(printf '\\nx'); n=\${n%x}`,
    `set -- ${request.command.map(quote).join(" ")}`,
    // Whoever ends the command's processes ends them alone: this shell still tells how it ended.
    "trap '' HUP INT QUIT TERM",
    ...(request.terminal === undefined ? PIPES : terminalParts(request.id, request.terminal.type ?? "xterm")),
  ];
  return `${parts.join("; ")}\n`;
}

/** `exec`, so that a word is a program and no builtin of the shell. */
const RUN = 'trap - HUP INT QUIT TERM; exec "$@"';

function terminalParts(id: string, type: string): string[] {
  return [
    `export TERM=${quote(type)}`,
    'stty "$t"',
    `(${RUN})`,
    "c=$?",
    "stty raw -echo",
    `printf '\\036%s%s\\n' '${exitSignOf(id)}' "$c"`,
    `while IFS= read -r l && [ "$l" != '${id}' ]; do :; done`,
  ];
}

/**
 * With pipes for the command. What it prints is framed: SIGN, a letter (`o` stdout, `e` stderr, `c` it has ended, `x` its exit code, `m` a program that is missing), base64 or text, a
 * dot and a newline. base64, since the agent changes what is no UTF-8. A frame is written by one call (`dd obs`), so that two of them do not mix; its input comes as
 * lines of base64.
 */
const PIPES = [
  "exec 3<&0 4>&1",
  `w() { printf '\\036%s%s.\\n' "$1" "$2" | dd ibs=65536 obs=262144 2>/dev/null >&4; }`,
  `for p in dd base64; do command -v $p >/dev/null || { printf '\\036m%s.\\n' $p; exit 127; }; done`,
  'f() { while b=$(dd bs=65536 count=1 2>/dev/null | base64) && [ -n "$b" ]; do w $1 "$b"; done; }',
  `d() { while IFS= read -r l && [ "$l" != . ]; do printf '%s\\n' "$l" | base64 -d || break; done; }`,
  // From inside out: input | command, its exit code to 5; stderr | f e; stdout, as 6, | f o; the exit code to c.
  `c=$({ { { d <&3 3<&- 4>&- 5>&- | { (${RUN} 3<&- 4>&- 5>&-); echo $? >&5; w c; }; } 2>&1 >&6 6>&- | f e; } 6>&1 | f o; } 5>&1)`,
  'w x "$c"',
  'while IFS= read -r l && [ "$l" != ! ]; do :; done',
];

/** A word for a shell that takes it as it is. */
const quote = (word: string): string => `'${word.replaceAll("'", "'\\''").replaceAll("\n", `'"$n"'`)}'`;

/** So many fifths of a second processes have to end by themselves. */
const GRACE_FIFTHS = 10;

/**
 * Ends all that is left of an exec: processes with its mark, and those of its own sessions, which is where what changed its user is found (its environment is not ours
 * to read then). Asked first, as by a terminal that is closed, then killed. It runs as another exec, so it never finds itself.
 */
export const endCommandOf = (id: string): string[] => [
  "sh",
  "-c",
  END_SCRIPT,
  "sh",
  `${MARK}=${id}`,
  String(GRACE_FIFTHS),
];

// Programs are started once a look, not once a process: a machine may have thousands. `${stat##*) }`: a program's name may hold blanks; behind it come state,
// parent, group, session. A session whose leader lives and has no mark is somebody else's.
const END_SCRIPT = `
session() {
  stat=
  read -r stat <"/proc/$1/stat" || :
  set -- \${stat##*) }
  of=$4
}
left() {
  marked=" "
  for file in $(grep -lzxF "$1" /proc/[0-9]*/environ); do
    file=\${file%/environ}
    marked="$marked\${file#/proc/} "
  done
  sessions=" "
  for pid in $marked; do
    session "$pid"
    case "$marked" in *" $of "*) sessions="$sessions$of "; continue ;; esac
    [ -z "$of" ] || [ "$of" = 0 ] || [ -e "/proc/$of" ] || sessions="$sessions$of "
  done
  for dir in /proc/[0-9]*; do
    session "\${dir#/proc/}"
    case "$marked$sessions" in *" \${dir#/proc/} "*) echo "\${dir#/proc/}"; continue ;; esac
    case "$sessions" in *" \${of:-none} "*) echo "\${dir#/proc/}" ;; esac
  done
}
signal() { for pid in $2; do kill -s "$1" "$pid"; done; }
live() { for pid in $1; do kill -s 0 "$pid" && return; done; return 1; }
exec 2>/dev/null
found=$(left "$1")
signal HUP "$found"
signal TERM "$found"
n=0
while [ "$n" -lt "$2" ] && live "$found"; do sleep 0.2; n=$((n + 1)); done
signal KILL "$(left "$1")"
exit 0
`;
