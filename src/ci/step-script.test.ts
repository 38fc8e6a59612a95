import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseStepMarker, quote, renderStepScript, splitOutput } from "./step-script.ts";

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "shipway-script-"));
});
afterEach(() => rmSync(dir, { recursive: true }));

/** Runs the script as the container's main process does; without a PID 1 of its own the times are missing, the rest is the same. */
function run(script: string[], afterScript: string[] = []) {
  const files = renderStepScript({ script, afterScript }, { nonce: "n0", dir });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(dir, name), text);
  const { status, stdout, stderr } = spawnSync("/bin/sh", [join(dir, "main.sh")], {
    encoding: "utf8",
    env: { PATH: "/usr/bin:/bin", HOME: dir },
  });
  return {
    status,
    lines: stdout
      .trimEnd()
      .split("\n")
      .flatMap((line) => splitOutput(line, "n0").lines),
    markers: stderr
      .trimEnd()
      .split("\n")
      .map((line) => parseStepMarker(line, "n0")),
  };
}

describe("renderStepScript", () => {
  it.each([
    { name: "the last command's code", script: ["true", "exit 4"], status: 4 },
    { name: "the first failing command's code", script: ["sh -c 'exit 9'", "true"], status: 9 },
    { name: "0 for an early exit 0", script: ["exit 0", "false"], status: 0 },
    { name: "127 for a command that does not exist", script: ["no-such-command-at-all"], status: 127 },
    { name: "0 when the user turned set -e off", script: ["set +e", "false", "true"], status: 0 },
    { name: "0 for a failure in the middle of a && list", script: ["false && true", "true"], status: 0 },
    { name: "2 for a syntax error", script: ["if"], status: 2 },
  ])("exits with $name", ({ script, status }) => {
    expect(run(script).status).toBe(status);
  });

  it("says the script's exit code on standard error, where the user's commands cannot write by accident", () => {
    const { markers, lines } = run(["echo to-err >&2", "exit 3"]);
    expect(markers).toEqual([{ kind: "scriptEnd", exitCode: 3 }]);
    expect(lines).toEqual(["+ echo to-err >&2", "to-err", "+ exit 3"]);
  });

  it("prints each command as it is written, whatever is in it, before it runs", () => {
    const command = "echo 'it'\"s\" $HOME `true` \\\\ %s";
    expect(run([command]).lines[0]).toBe(`+ ${command}`);
    expect(run(["for n in 1 2; do\n  echo $n\ndone\n"]).lines).toEqual([
      "+ for n in 1 2; do",
      "  echo $n",
      "done",
      "1",
      "2",
    ]);
  });

  it("keeps what a command leaves without a newline apart from the next command and the end", () => {
    expect(run(["printf a", "printf b"], ["printf c"]).lines).toEqual([
      "+ printf a",
      "a",
      "+ printf b",
      "b",
      "+ printf c",
      "c",
    ]);
  });

  it("reads .bashrc before the script, and survives one that fails", () => {
    writeFileSync(join(dir, ".bashrc"), 'case $PS1 in "") return;; esac\nexport FROM_RC=yes\nfalse\n');
    expect(run(["echo $FROM_RC"]).lines.at(-1)).toBe("yes");
  });

  it("runs the after-script in a shell of its own, and keeps the script's exit code", () => {
    const { status, lines, markers } = run(["X=1", "exit 5"], ['echo "code $BITBUCKET_EXIT_CODE x=$X"', "false"]);
    expect(status).toBe(5);
    expect(lines).toContain("code 5 x=");
    expect(markers).toEqual([
      { kind: "scriptEnd", exitCode: 5 },
      { kind: "afterEnd", exitCode: 1 },
    ]);
  });
});

describe("parseStepMarker", () => {
  it.each([
    ["\u001dn0 command 3", { kind: "command", index: 3 }],
    ["\u001dn0 scriptEnd 0", { kind: "scriptEnd", exitCode: 0 }],
    ["\u001dother command 3", undefined],
    ["\u001dn0 command x", undefined],
    ["\u001dn0 else 1", undefined],
    ["n0 command 3", undefined],
  ])("reads %j", (line, expected) => {
    expect(parseStepMarker(line, "n0")).toEqual(expected);
  });
});

describe("quote", () => {
  it.each(["", "'", "a'b'c", '$x `y` \\ "', "line\nline"])("makes one shell word of %j", (text) => {
    const { stdout } = spawnSync("/bin/sh", ["-c", `printf %s ${quote(text)}`], { encoding: "utf8" });
    expect(stdout).toBe(text);
  });
});
