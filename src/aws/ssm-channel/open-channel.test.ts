import { once } from "node:events";
import { buffer, text } from "node:stream/consumers";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { until } from "../../shared/until.ts";
import { openChannel, type SsmChannel } from "./open-channel.ts";
import { hasBotocore, newTestAgent, type TestAgent } from "./testing.ts";

/** Copies stdin to stdout byte by byte until a line "end", on a terminal that changes nothing. */
const ECHO = "sh -c 'stty raw -echo; echo ready; sed -u /^end$/q'";
const LINES = Array.from({ length: 400 }, (_, index) => `line ${index} äöü €\n`).join("");

describe.skipIf(!hasBotocore)("a data channel", () => {
  let agent: TestAgent;
  beforeAll(async () => {
    agent = await newTestAgent();
  });
  afterAll(() => agent?.cleanUp());
  afterEach(async () => {
    expect(await agent?.complaints()).toEqual([]);
  });

  const open = async (command: string, faults?: Record<string, number | true>) =>
    openChannel(await agent.session(command, faults));
  const faultOf = (opening: Promise<SsmChannel>) =>
    opening.then(
      () => "opened",
      (error: unknown) => error,
    );
  /** Sends the lines through `ECHO`, and gives what came back. */
  const echo = async (faults?: Record<string, number | true>) => {
    const channel = await open(ECHO, faults);
    const [first] = (await once(channel.output, "data")) as [Buffer];
    const printed = text(channel.output);
    await channel.write(Buffer.from(`${LINES}end\n`));
    return { printed: first.toString() + (await printed), end: await channel.ended };
  };

  it("carries what is printed, until the service closes it", async () => {
    const channel = await open("sh -c 'printf one; printf two >&2; exit 3'");
    expect(await text(channel.output)).toBe("onetwo");
    expect(await channel.ended).toEqual({ how: "closed", said: "" });
  });

  it("carries what is typed", async () => {
    expect(await echo()).toEqual({ printed: `ready\n${LINES}end\n`, end: { how: "closed", said: "" } });
  });

  it.each([
    { what: "input that is lost", faults: { lose_input: 3 } },
    { what: "acknowledgements that are lost", faults: { lose_acks: 2 } },
    { what: "output that is lost", faults: { lose_output: 3 } },
    { what: "output with a flipped bit", faults: { corrupt: 3 } },
    { what: "output in another order", faults: { shuffle: true as const } },
    { what: "output that comes twice", faults: { twice: true as const } },
    { what: "an agent that is too old for a handshake", faults: { no_handshake: true as const } },
  ])("loses, doubles and mixes nothing with $what", async ({ faults }) => {
    expect((await echo(faults)).printed).toBe(`ready\n${LINES}end\n`);
  });

  it("sets the terminal's size", async () => {
    const channel = await open("sh -c 'until stty size | grep -q 33; do sleep 0.02; done; stty size'");
    const printed = text(channel.output);
    await channel.resize({ columns: 91, rows: 33 });
    expect((await printed).trim()).toBe("33 91");
  });

  it("passes Ctrl-C as a terminal does", async () => {
    const channel = await open(`sh -c 'trap "echo caught; exit" INT; echo ready; while :; do sleep 0.02; done'`);
    let printed = "";
    channel.output.on("data", (chunk: Buffer) => {
      printed += chunk.toString();
    });
    await until("it being ready", () => printed.includes("ready"));
    await channel.write(Buffer.from("\u0003"));
    await channel.ended;
    await until("it having caught it", () => printed.includes("caught"));
  });

  it("carries a megabyte, and does not read faster than it is read", async () => {
    const channel = await open("sh -c 'stty raw; head -c 1000000 /dev/zero | tr \"\\\\0\" y'");
    await until("more having come than is taken", () => channel.output.readableLength > 0);
    const most = channel.output.readableHighWaterMark + 512 * 1024;
    expect(channel.output.readableLength).toBeLessThan(most);
    const printed = await buffer(channel.output);
    expect(printed.length).toBe(1_000_000);
    expect(printed.every((byte) => byte === 0x79)).toBe(true);
  });

  it("is left by closing the connection, and what waits to be written is let go", async () => {
    const channel = await open("sh -c 'stty raw -echo; echo ready; sleep 30'");
    await once(channel.output, "data");
    const writing = channel.write(Buffer.alloc(1_000_000, "x"));
    channel.leave();
    await writing;
    expect(await channel.ended).toEqual({ how: "left", said: "" });
    expect(await text(channel.output)).toBe("");
  });

  it("tells a connection that broke from a session that was closed, with what the service said", async () => {
    const broken = await open("sh -c 'while :; do echo line; sleep 0.01; done'", { cut_after: 50 });
    broken.output.resume();
    expect((await broken.ended).how).toBe("broken");
    const closed = await open("sh -c 'while :; do echo line; sleep 0.01; done'", { close_after: 50 });
    closed.output.resume();
    expect(await closed.ended).toEqual({ how: "closed", said: "Session was terminated by the service" });
    // What is written to nobody is no error.
    await closed.write(Buffer.from("late"));
    await closed.resize({ columns: 80, rows: 24 });
  });

  it("is closed at once when the program is not there, with the agent's words", async () => {
    const { ended } = await open("no-such-program");
    expect(await ended).toMatchObject({ how: "closed", said: expect.stringContaining("no-such-program") });
  });

  it("is not opened to a session that is encrypted with a key", async () => {
    expect(await faultOf(open("true", { encrypt: true }))).toMatchObject({
      kind: "unsupported",
      message: "KMSEncryption",
    });
  });

  it("is not opened when the agent does not answer, the service refuses, or nobody is there", async () => {
    const session = await agent.session("true", { mute: true });
    expect(await faultOf(openChannel({ ...session, openMs: 300 }))).toMatchObject({ kind: "silent" });
    const refused = openChannel(await agent.session("true", {}, "status-404"));
    expect(await faultOf(refused)).toMatchObject({ kind: "refused", status: 404 });
    const nobody = openChannel({ ...session, url: "ws://127.0.0.1:9/" });
    expect(await faultOf(nobody)).toMatchObject({
      kind: "unreachable",
      message: expect.stringContaining("ECONNREFUSED"),
    });
  });
});
