import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { openChannel } from "../../../../aws/ssm-channel/open-channel.ts";
import { hasBotocore, newTestAgent, type TestAgent } from "../../../../aws/ssm-channel/testing.ts";
import { newId } from "../../../../shared/new-id.ts";
import { until } from "../../../../shared/until.ts";
import type { ExecRequest } from "../../../target.ts";
import { bootstrapOf, endCommandOf } from "./exec-script.ts";
import { runInChannel } from "./exec-session.ts";

const TASK = "shop.production.web.r1-1";
const TERMINAL = { columns: 91, rows: 33, type: "vt100" };

/** Shells that images have, each as `sh`. */
const SHELLS = {
  // What Debian and Alpine have.
  dash: (dir: string) => symlinkSync("/bin/dash", join(dir, "sh")),
  bash: (dir: string) => symlinkSync("/bin/bash", join(dir, "sh")),
  busybox: (dir: string) => spawnSync("busybox", ["--install", "-s", dir]),
};
const isThere = (shell: string) => spawnSync(shell, ["--help"], { stdio: "ignore" }).error === undefined;

describe.skipIf(!hasBotocore)("a command through ECS Exec", () => {
  let agent: TestAgent;
  let dir: string;
  const paths: Record<string, string> = {};
  beforeAll(async () => {
    agent = await newTestAgent();
    for (const [shell, lay] of Object.entries(SHELLS)) {
      const path = mkdtempSync(join(tmpdir(), `${shell}-`));
      lay(path);
      // busybox has all that the script needs; the others take it from Debian.
      paths[shell] = shell === "busybox" ? path : `${path}:${process.env.PATH}`;
    }
    dir = mkdtempSync(join(tmpdir(), "exec-"));
  });
  afterAll(async () => {
    await agent?.cleanUp();
    for (const path of [dir, ...Object.values(paths)])
      rmSync(path.split(":")[0] ?? path, { recursive: true, force: true });
  });
  afterEach(async () => {
    expect(await agent?.complaints()).toEqual([]);
  });

  type Given = {
    shell?: string;
    terminal?: ExecRequest["terminal"];
    faults?: Record<string, number | true>;
    id?: string;
  };
  const run = async (command: string[], { shell = "dash", terminal, faults, id = newId("x") }: Given = {}) => {
    const bootstrap = bootstrapOf(id).replace("env ", `env PATH=${paths[shell]} `);
    const channel = await openChannel(await agent.session(bootstrap, faults));
    const session = await runInChannel(channel, TASK, { id, command, terminal });
    const printed = Promise.all([buffer(session.stdout), buffer(session.stderr)]);
    const output = printed.then(([out, err]) => [out.toString(), err.toString()] as const);
    return { session, channel, printed, output };
  };
  const sh = (line: string, given?: Given) => run(["sh", "-c", line], given);

  describe.each(Object.keys(SHELLS).filter(isThere))("with %s as its shell", (shell) => {
    it("keeps stdout and stderr apart, and tells the exit code", async () => {
      const { session, output } = await sh("echo out; echo err >&2; exit 7", { shell });
      expect(await output).toEqual(["out\n", "err\n"]);
      expect(await session.ended).toBe(7);
    });

    it("carries any bytes both ways", async () => {
      const bytes = Buffer.concat([Buffer.from("\u{fffd} \ufffd\r\n\u0000\u0003\u0004\u001e."), randomBytes(50_000)]);
      const { session, printed } = await run(["cat"], { shell });
      session.stdin.end(bytes);
      expect((await printed)[0].equals(bytes)).toBe(true);
      expect(await session.ended).toBe(0);
    });

    it("gives the program its words as they are, whatever is in them", async () => {
      const words = [
        "",
        " ",
        "it's",
        '"',
        "$HOME `id` $(id)",
        "a\nb\n",
        "\\n\\",
        "*",
        "äöü €",
        "\u0003\u0013\t\r",
        "-n",
        "x".repeat(10_000),
      ];
      const { session, output } = await run(["printf", "<%s>", ...words], { shell });
      expect((await output)[0]).toBe(words.map((word) => `<${word}>`).join(""));
      expect(await session.ended).toBe(0);
    });

    it("gives it a terminal where one is wanted, of its kind and size, with Ctrl-C and the exit code", async () => {
      const line = "echo $TERM; tty; stty size; trap 'stty size; exit 5' INT; echo ready; while :; do sleep 0.02; done";
      const { session, output } = await sh(line, { shell, terminal: TERMINAL });
      let seen = "";
      session.stdout.on("data", (chunk: Buffer) => {
        seen += chunk.toString();
      });
      await until("it being ready", () => seen.includes("ready"), { withinMs: 15_000 });
      await session.resize({ columns: 120, rows: 40 });
      session.stdin.write("\u0003");
      expect(await session.ended).toBe(5);
      expect((await output)[0]).toMatch(/^vt100\r\n\/dev\/pts\/\d+\r\n33 91\r\nready\r\n(\^C)?40 120\r\n$/);
    });

    it("says 127 of a program that is not there, and 126 of one that is none", async () => {
      const none = await run(["no-such-program"], { shell });
      expect((await none.output)[1]).toContain("no-such-program");
      expect(await none.session.ended).toBe(127);
      expect(await (await run(["/etc/passwd"], { shell })).session.ended).toBe(126);
      expect(await (await run(["no-such-program"], { shell, terminal: TERMINAL })).session.ended).toBe(127);
    });

    it("ends its input where the caller ends it, and when the command has ended without reading it", async () => {
      const counting = await run(["wc", "-c"], { shell });
      counting.session.stdin.end("x".repeat(20_000));
      expect((await counting.output)[0].trim()).toBe("20000");
      const deaf = await sh("exit 3", { shell });
      deaf.session.stdin.write("x".repeat(300_000));
      expect(await deaf.session.ended).toBe(3);
      expect(deaf.session.stdin.writable).toBe(false);
    });

    it("is ended by another exec with all it started, however it tries to stay", async () => {
      const id = newId("x");
      const left = join(dir, id);
      const stays = `trap "" TERM HUP; echo $$ >${left}.1; while :; do sleep 0.05; done`;
      const { session, output } = await sh(`sh -c '${stays}' & setsid sh -c 'echo $$ >${left}.2; sleep 60' & wait`, {
        shell,
        id,
      });
      await until("both running", () => [1, 2].every((n) => pidIn(`${left}.${n}`) !== undefined), { withinMs: 15_000 });
      const ending = await run(endCommandOf(id), { shell });
      expect(await ending.output).toEqual(["", ""]);
      expect(await ending.session.ended).toBe(0);
      expect([1, 2].map((n) => isAlive(pidIn(`${left}.${n}`) ?? 0))).toEqual([false, false]);
      await session.ended.catch(() => undefined);
      await output;
    });
  });

  it("prints as it comes, and is heard before its input ends", async () => {
    const { session } = await sh('while read -r line; do echo "got $line"; done');
    let seen = "";
    session.stdout.on("data", (chunk: Buffer) => {
      seen += chunk.toString();
    });
    for (const word of ["one", "two"]) {
      session.stdin.write(`${word}\n`);
      await until(word, () => seen.includes(`got ${word}\n`));
    }
    session.stdin.end();
    expect(await session.ended).toBe(0);
  });

  it.each([
    { lose_input: 5 },
    { lose_acks: 3 },
    { lose_output: 5 },
    { shuffle: true as const },
    { twice: true as const },
    { corrupt: 5 },
  ])("loses nothing and ends when the network has faults: %o", async (faults) => {
    const { session, output } = await sh("cat; seq 2000 >&2; exit 4", { faults });
    session.stdin.end("äöü\n".repeat(2_000));
    expect(await output).toEqual([
      "äöü\n".repeat(2_000),
      Array.from({ length: 2_000 }, (_, n) => `${n + 1}\n`).join(""),
    ]);
    expect(await session.ended).toBe(4);
  });

  it("leaves the session to end by itself, so that nothing of it is lost", async () => {
    const { session, channel } = await sh("echo bye");
    session.stdout.resume();
    expect(await session.ended).toBe(0);
    expect(await channel.ended).toEqual({ how: "closed", said: "" });
  });

  it("shows what a program writes to its terminal past its pipes", async () => {
    const { session, output } = await sh("echo asked >/dev/tty; echo out");
    expect(await output).toEqual(["out\n", "asked\n"]);
    expect(await session.ended).toBe(0);
  });

  it("says so when the session is ended in the middle, be it by the service or by a network", async () => {
    for (const faults of [{ close_after: 200 }, { cut_after: 200 }]) {
      const { session, output } = await sh("while :; do echo line; sleep 0.01; done", { faults });
      await expect(session.ended).rejects.toMatchObject({ code: "EXEC_CUT_OFF" });
      expect((await output)[0]).toContain("line\n");
    }
  });

  it("names what the image lacks", async () => {
    paths.empty = join(dir, "empty");
    const without = async (...programs: string[]) => {
      const path = mkdtempSync(join(dir, "few-"));
      for (const program of programs) symlinkSync(join("/bin", program), join(path, program));
      paths.few = path;
      const started = await run(["true"], { shell: "few" }).catch((error: unknown) => error);
      if (started instanceof Error) return started;
      return (started as Awaited<ReturnType<typeof run>>).session.ended.catch((error: unknown) => error);
    };
    expect(await without()).toMatchObject({ code: "EXEC_NO_SHELL", message: expect.stringContaining("sh") });
    expect(await without("sh")).toMatchObject({ code: "EXEC_NO_SHELL", message: expect.stringContaining("stty") });
    expect(await without("sh", "stty", "dd")).toMatchObject({
      code: "EXEC_NO_SHELL",
      message: `A command in ${TASK} needs \`base64\` in its image.`,
    });
  });
});

function pidIn(file: string): number | undefined {
  const { stdout } = spawnSync("cat", [file], { encoding: "utf8" });
  return stdout.trim() === "" ? undefined : Number(stdout);
}

/** A zombie that nobody reaped yet has ended, too. */
function isAlive(pid: number): boolean {
  const { stdout } = spawnSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "utf8" });
  return stdout.trim() !== "" && !stdout.startsWith("Z");
}
