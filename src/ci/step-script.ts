import type { StepPlan } from "./executor.ts";

/** What the container runs, as files of one directory. The main process is `/bin/sh DIR/main.sh`. */
export type StepScript = { "main.sh": string; "script.sh": string; "after.sh"?: string };

/**
 * A moment in a step, read from the container's standard error, where nothing else is written: everything that the user's commands print, on either
 * stream, goes to standard output. `index` counts `script` from 0.
 */
export type StepMarker =
  | { kind: "command"; index: number }
  | { kind: "scriptEnd"; exitCode: number }
  | { kind: "afterEnd"; exitCode: number };

// ASCII "group separator": it starts no line of any program, and Bitbucket itself uses it for this.
const MARK = "\u001d";

/** `dir`: where the files stand in the container. `giveTo`: the checkout is handed to this `uid:gid` at the end. */
export type ScriptOptions = { nonce: string; dir: string; giveTo?: { owner: string; dir: string } };

/**
 * The generated shell script of a step: one shell for all entries, so that `cd`, variables and even an `if` spread over entries carry on; `set -e`; each
 * entry is printed before it runs. bash where the image has it, otherwise sh. The after-script is a second shell in the same container, which is told BITBUCKET_EXIT_CODE.
 * The exit code of the container is the script's.
 */
export function renderStepScript(step: Pick<StepPlan, "script" | "afterScript">, options: ScriptOptions): StepScript {
  const { nonce } = options;
  const after = step.afterScript.length > 0;
  return {
    "main.sh": mainScript(options, after),
    "script.sh": shellScript(step.script, nonce, (index) => marker(nonce, `command ${index}`)),
    ...(after ? { "after.sh": shellScript(step.afterScript, nonce, () => undefined) } : {}),
  };
}

/** The marker in a line of standard error, or undefined for a line that this step's script did not write. */
export function parseStepMarker(line: string, nonce: string): StepMarker | undefined {
  const prefix = `${MARK}${nonce} `;
  if (!line.startsWith(prefix)) return undefined;
  const [kind, number] = line.slice(prefix.length).split(" ");
  const value = Number(number);
  if (!Number.isSafeInteger(value)) return undefined;
  if (kind === "command") return { kind, index: value };
  return kind === "scriptEnd" || kind === "afterEnd" ? { kind, exitCode: value } : undefined;
}

/**
 * A line of standard output as the user should see it: a command's echo, and the end, cut off what a program left without a newline. `ended` proves that
 * nothing more can come; without it the engine may still hold a last unfinished line.
 */
export function splitOutput(line: string, nonce: string): { lines: string[]; ended: boolean } {
  const [own = "", ...parts] = line.split(MARK + nonce);
  const echoes = parts.filter((part) => part.startsWith("+ "));
  return { lines: own === "" && parts.length > 0 ? echoes : [own, ...echoes], ended: parts.includes(OUT_END) };
}

const OUT_END = " outEnd";

function mainScript({ nonce, dir, giveTo }: ScriptOptions, after: boolean): string {
  // In a subshell: dash redirects in the calling process itself while a command runs, and the markers need that one's standard error.
  const run = (file: string, variables = "") => `(${variables} exec "$shell" ${quote(`${dir}/${file}`)} 2>&1)`;
  const lines = [
    "if [ -x /bin/bash ]; then shell=/bin/bash; else shell=/bin/sh; fi",
    run("script.sh"),
    "code=$?",
    `printf '\\035%s scriptEnd %s\\n' ${quote(nonce)} "$code" >&2`,
    ...(after
      ? [
          run("after.sh", "export BITBUCKET_EXIT_CODE=$code;"),
          `printf '\\035%s afterEnd %s\\n' ${quote(nonce)} "$?" >&2`,
        ]
      : []),
    `printf '\\035%s%s\\n' ${quote(nonce)} ${quote(OUT_END)}`,
    ...(giveTo ? [`chown -R ${quote(giveTo.owner)} ${quote(giveTo.dir)} 2>/dev/null`] : []),
    "exit $code",
  ];
  return `${lines.join("\n")}\n`;
}

function shellScript(entries: readonly string[], nonce: string, mark: (index: number) => string | undefined): string {
  const parts = entries.flatMap((entry, index) => {
    const command = entry.replace(/\n+$/, "");
    return [mark(index), echo(nonce, command), command].filter((part) => part !== undefined);
  });
  // Users of images such as atlassian/default-image expect nvm and friends, which .bashrc sets up, but only for a prompt.
  const bashrc =
    'if [ -n "$BASH_VERSION" ] && [ -f ~/.bashrc ]; then PS1="$ "; . ~/.bashrc; unset PS1; fi >/dev/null 2>&1 || :';
  return `${[bashrc, "set -e", ...parts].join("\n")}\n`;
}

/**
 * Written to the main process' standard error by its path, not through a descriptor that the user's commands would inherit and might use for themselves.
 * The braces keep a user's `set -x` from showing it; where /proc is hidden the times are lost and nothing else.
 */
function marker(nonce: string, text: string): string {
  return `{ printf '\\035%s %s\\n' ${quote(nonce)} ${quote(text)} >/proc/1/fd/2 || :; } 2>/dev/null`;
}

function echo(nonce: string, command: string): string {
  return `{ printf '\\035%s%s\\n' ${quote(nonce)} ${quote(`+ ${command}`)}; } 2>/dev/null`;
}

/** One word for the shell, whatever is in it. */
export function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
