import { fail, type ShipwayError } from "../../shared/errors.ts";
import type { BuildFailure, ImagePlan } from "../builder.ts";
import { lineOfStep, parseInstructions } from "../dockerfile-lines.ts";
import type { FailedStep } from "./build-progress.ts";

const SHOWN_LINES = 20;
const NETWORK =
  /failed to do request|failed to fetch|dial tcp|i\/o timeout|no such host|connection refused|connection reset|TLS handshake|certificate|toomanyrequests|unexpected status code.* (429|5\d\d)|status: 5\d\d|net\/http/i;
const REFUSED =
  /not found|manifest unknown|pull access denied|authorization failed|insufficient_scope|unauthorized|denied/i;

/** What a person can do about the machine that builds. */
export type MachineHints = { absent: string; space: string; frontend: string; network: string };

const THIS_MACHINE: MachineHints = {
  absent: "which is not on this machine, and its registry does not answer",
  space:
    "Free space and push again: `docker system df` shows what uses it, `docker builder prune` empties the build cache.",
  frontend:
    "Remove the `# syntax=` line to build with the engine's own frontend, or give the engine access to that registry.",
  network:
    "Check the engine's network, then push again; or load the image by hand with `docker pull` or `docker load`.",
};

/** What the engine said when a build ended without an image; `hints` where it is not this machine's engine. */
export type BuildEnd = {
  plan: ImagePlan;
  error: string;
  step: FailedStep | undefined;
  dockerfile: string;
  hints?: MachineHints;
};

const hintsOf = ({ hints = THIS_MACHINE }: BuildEnd): MachineHints => hints;

/**
 * The user's Dockerfile failed: a result. What kept us from finding out (no space, no registry): an error.
 * The engine gives only text; it is matched here, once, and nowhere else.
 */
export function judgeBuildEnd(end: BuildEnd): BuildFailure | ShipwayError {
  const { plan, error } = end;
  if (/no space left on device|ENOSPC/i.test(error))
    return diskFull(`Building ${plan.service} stopped: ${lastPart(error)}.`, hintsOf(end).space);
  const frontend = frontendOf(end.dockerfile);
  // Only the frontend of a `# syntax=` line is solved by the gateway; the engine's own is not.
  if (frontend !== undefined && /frontend gateway\.v0|resolve image config for.*syntax/i.test(error))
    return frontendMissing(end, frontend);
  const image = /\/v2\/(?:library\/)?(.+?)\/manifests\/([^"\s]+)/.exec(error);
  const reference = image
    ? `${image[1]}:${image[2]}`
    : /(?:^|[\s:])(?:docker\.io\/(?:library\/)?)?([\w./-]+:[\w.-]+): (?=not found|pull access)/.exec(error)?.[1];
  const pulls = image !== null || /failed to create LLB definition|load metadata|pull access denied/i.test(error);
  if (pulls && end.step?.lastLines.length !== 0 && end.step !== undefined) return failure(end);
  if (pulls && NETWORK.test(error)) return baseImageUnreachable(end, reference);
  if (pulls && REFUSED.test(error) && !/dockerfile parse error/.test(error)) return baseImageRefused(end, reference);
  return failure(end);
}

export function diskFull(message: string, hint = THIS_MACHINE.space): ShipwayError {
  return fail("DISK_FULL", { message, hint });
}

function frontendOf(dockerfile: string): string | undefined {
  return /^#\s*syntax\s*=\s*(\S+)/i.exec(dockerfile)?.[1];
}

function frontendMissing(end: BuildEnd, frontend: string): ShipwayError {
  return fail("IMAGE_UNAVAILABLE", {
    message: `The first line of ${end.plan.dockerfile} asks for the Dockerfile frontend ${frontend}, which cannot be fetched from its registry.`,
    hint: hintsOf(end).frontend,
  });
}

function baseImageUnreachable(end: BuildEnd, reference: string | undefined): ShipwayError {
  const line = lineNaming(end.dockerfile, reference);
  const at = line === undefined ? "" : `:${line}`;
  return fail("IMAGE_UNAVAILABLE", {
    message: `${end.plan.dockerfile}${at} needs ${reference ?? "an image"}, ${hintsOf(end).absent}: ${lastPart(end.error)}.`,
    hint: hintsOf(end).network,
  });
}

function baseImageRefused(end: BuildEnd, reference: string | undefined): BuildFailure {
  const line = lineNaming(end.dockerfile, reference);
  const what = reference ?? "an image it names";
  return {
    ...failure(end),
    ...at(end, line, `the registry does not have ${what}, or wants a login for it (${lastPart(end.error)})`),
  };
}

function failure(end: BuildEnd): BuildFailure {
  const { plan, error, step, dockerfile } = end;
  const parse = /dockerfile parse error(?: on)? line (\d+): (.*)$/s.exec(error);
  const missing = /failed to compute cache key: .*?"\/?([^"]+)"(?:: | )not found/.exec(error)?.[1];
  const lines = step?.lastLines.slice(-SHOWN_LINES) ?? [];
  const base = { service: plan.service, name: plan.name, lastLines: lines.length > 0 ? lines : [error] };
  if (parse) return { ...base, ...at(end, Number(parse[1]), parse[2] ?? error) };
  if (missing !== undefined) {
    const line = (step && lineOfStep(dockerfile, step.name)) ?? lineNaming(dockerfile, missing);
    return {
      ...base,
      ...at(
        end,
        line,
        `"${missing}" is not in the build context ${plan.context} (not committed, or left out by .dockerignore)`,
      ),
    };
  }
  const ran = exitOf(error);
  const line = step ? lineOfStep(dockerfile, step.name) : undefined;
  const instruction = step?.name.replace(/^\[[^\]]*\] /, "") ?? "the build";
  if (ran !== undefined) return { ...base, ...at(end, line, `${cut(instruction)} ended with ${ran}`) };
  return { ...base, ...at(end, line, step ? `${cut(instruction)}: ${lastPart(error)}` : withoutLayers(error)) };
}

function at(
  { plan }: BuildEnd,
  line: number | undefined,
  text: string,
): Pick<BuildFailure, "message" | "dockerfileLine"> {
  return line === undefined
    ? { message: `${plan.dockerfile}: ${text}` }
    : { message: `${plan.dockerfile}:${line}: ${text}`, dockerfileLine: line };
}

/** `exit code 3`; 137 is a SIGKILL, which nobody but the kernel's memory killer sends here. */
function exitOf(error: string): string | undefined {
  const code = /exit code: (\d+)/.exec(error)?.[1];
  if (code === undefined) return undefined;
  return code === "137" ? "exit code 137 (killed, most likely out of memory)" : `exit code ${code}`;
}

function lineNaming(dockerfile: string, word: string | undefined): number | undefined {
  if (word === undefined) return undefined;
  const names = [word, word.replace(/:latest$/, "")];
  const found = parseInstructions(dockerfile).find(
    ({ keyword, text }) => /^(FROM|COPY|ADD|RUN)$/.test(keyword) && names.some((name) => text.includes(name)),
  );
  return found?.line;
}

/** The engine wraps its errors in what it was doing; the reason is at the end. */
function withoutLayers(error: string): string {
  return error.replace(
    /^(failed to solve with frontend [\w.]+: |failed to create LLB definition: |failed to solve: |rpc error: code = \w+ desc = )+/g,
    "",
  );
}

function lastPart(error: string): string {
  return withoutLayers(error).replace(/^failed to do request: /, "");
}

function cut(instruction: string): string {
  return instruction.length > 120 ? `${instruction.slice(0, 117)}…` : instruction;
}
