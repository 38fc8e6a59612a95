import { access, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { newMask } from "../../../../events/mask-secrets.ts";
import { formatDurationMs } from "../../../../shared/duration.ts";
import { Secret } from "../../../../shared/secret.ts";
import { type FoundFile, findArtifacts } from "../../../find-artifacts.ts";
import { isRealDirectory } from "../../../real-directories.ts";
import { CLONE_DIR } from "../../../step-places.ts";
import { type AgentResult, newLineNumbers } from "../numbered-lines.ts";
import { type Addresses, KEPT_DIR, type Order, PIPES_DIR, TASK_DIRS } from "../order.ts";
import { pack } from "./archives.ts";
import { type Relay, relayScript } from "./relay.ts";
import { downloadText, upload, uploadText } from "./transfer.ts";

/** Signed addresses live as long as the credentials they were signed with, at worst for five minutes. */
const REFRESH_MS = 120_000;
/** Shipway itself ends a step at its max-time; a task that nobody watches must end as well, for it costs. */
const SPARE_MS = 10 * 60_000;
/** One PUT takes at most 5 GiB (Amazon S3 user guide, uploading objects). */
const MOST_BYTES = 5 * 1024 ** 3;

type Collector = { order: Order; addresses: () => Addresses; remark: (text: string) => void };

/** Relays the script's lines, then keeps what it leaves, and says last how it ended. */
export async function collect(order: Order, remarks: readonly string[]): Promise<void> {
  const numbers = newLineNumbers();
  const mask = newMask(order.secrets.map((value) => new Secret("", value)));
  const print = (line: string) => process.stdout.write(`${line}\n`);
  const say = (stream: "out" | "err" | "meta", at: number, text: string) => {
    for (const line of numbers.render({ stream, at, text: mask(text) })) print(line);
  };
  const remark = (text: string) => say("meta", Date.now(), text);
  for (const text of remarks) remark(text);

  const addresses = keepFresh(order.addresses);
  const relay = relayScript(({ stream, at, text }) => say(stream, at, text));
  const stopped = await endOf(relay, order);
  const exitCode = stopped ? undefined : await readExitCode();
  const lost = stopped ? undefined : await keepWhatItLeft({ order, addresses, remark }, exitCode);
  const result: AgentResult = {
    ...(exitCode !== undefined && { exitCode }),
    ...(lost !== undefined && { lost }),
    lines: numbers.count(),
  };
  // Found there also when CloudWatch no longer has the lines, or ECS the task. Where it cannot be stored, the line says the same.
  if (!stopped) await uploadText(() => addresses().result, JSON.stringify(result)).catch(() => undefined);
  print(numbers.renderEnd(result, Date.now()));
}

/** @returns true when the task is being stopped: then there is no time for anything but the last lines */
async function endOf({ begun, ended }: Relay, { step, beginWithinMs }: Order): Promise<boolean> {
  const stopped = new Promise<true>((resolve) => process.once("SIGTERM", () => resolve(true)));
  const tooLate = (ms: number) =>
    new Promise<true>((resolve) => {
      setTimeout(() => resolve(true), ms).unref();
    });
  if (await Promise.race([begun.then(() => false), stopped, tooLate(beginWithinMs)])) return true;
  const over = await Promise.race([ended.then(() => false), stopped, tooLate(step.maxTimeMs + SPARE_MS)]);
  // The script is stopped in the same moment, and its last lines are in the pipes.
  if (over) await Promise.race([ended, tooLate(LAST_LINES_MS)]);
  return over;
}

const LAST_LINES_MS = 15_000;

async function readExitCode(): Promise<number | undefined> {
  const text = await readFile(join(PIPES_DIR, "code"), "utf8").catch(() => "");
  return /^\d{1,3}$/.test(text) ? Number(text) : undefined;
}

/** @returns why the artifacts are lost, if they are */
async function keepWhatItLeft(collector: Collector, exitCode: number | undefined): Promise<string | undefined> {
  const { order, remark } = collector;
  const { files, notes } = await findArtifacts(CLONE_DIR, order.step.artifacts);
  const lost = files.length === 0 ? undefined : await keepArtifacts(collector, files);
  if (files.length > 0 && lost === undefined)
    remark(`kept ${files.length} artifact ${files.length === 1 ? "file" : "files"}`);
  for (const note of notes) remark(note);
  // One that cannot be kept costs time later, not the step.
  if (exitCode === 0) for (const cache of order.cachesToKeep) await keepCache(collector, cache);
  return lost;
}

async function keepArtifacts(collector: Collector, files: FoundFile[]): Promise<string | undefined> {
  const archive = join(TASK_DIRS.own, "artifacts.tar.gz");
  const paths = files.map(({ path }) => path);
  return pack(CLONE_DIR, archive, paths).then(
    () => put(collector, archive, (now) => now.artifacts ?? ""),
    (error: unknown) => String(error),
  );
}

async function keepCache(collector: Collector, { name, from }: Order["cachesToKeep"][number]): Promise<void> {
  const startedAt = Date.now();
  const dir = from.kind === "checkout" ? join(CLONE_DIR, from.path) : join(KEPT_DIR, from.dir);
  const isThere =
    from.kind === "checkout"
      ? await isRealDirectory(CLONE_DIR, from.path)
      : await access(dir).then(
          () => true,
          () => false,
        );
  if (!isThere) return;
  const archive = join(TASK_DIRS.own, "cache.tar.gz");
  const lost = await pack(dir, archive).then(
    () => put(collector, archive, (now) => now.caches[name] ?? ""),
    (error: unknown) => String(error),
  );
  collector.remark(
    lost === undefined
      ? `cache ${name}: kept in ${formatDurationMs(Date.now() - startedAt)}`
      : `cache ${name}: could not be kept: ${lost}`,
  );
}

/** @returns why it could not be stored */
async function put(
  { addresses }: Collector,
  file: string,
  addressIn: (now: Addresses) => string,
): Promise<string | undefined> {
  try {
    const { size } = await stat(file);
    if (size > MOST_BYTES) return `it has ${(size / 1024 ** 3).toFixed(1)} GiB, packed, and at most 5 are taken`;
    await upload(() => addressIn(addresses()), file);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  } finally {
    await rm(file, { force: true });
  }
}

/** The newest addresses: as long as Shipway writes them anew, one is always valid, also the one they are read from. */
function keepFresh(first: Addresses): () => Addresses {
  let now = first;
  const timer = setInterval(async () => {
    try {
      now = JSON.parse(await downloadText(now.again)) as Addresses;
    } catch {
      // Shipway is away, or wrote none yet. What is there may be valid for long.
    }
  }, REFRESH_MS);
  timer.unref();
  return () => now;
}
