/** An instruction of a Dockerfile: `line` is where it begins (1-based), `text` is joined over continued lines. */
export type Instruction = { line: number; keyword: string; text: string };

/** The instructions of a Dockerfile in order; comments and empty lines are left out, here-documents belong to their instruction. */
export function parseInstructions(dockerfile: string): Instruction[] {
  const lines = dockerfile.split(/\r?\n/);
  const escapeCharacter = /^#\s*escape\s*=\s*`\s*$/im.test(lines.slice(0, 5).join("\n")) ? "`" : "\\";
  const instructions: Instruction[] = [];
  for (let at = 0; at < lines.length; at++) {
    const begins = at;
    let text = (lines[at] ?? "").trim();
    if (text === "" || text.startsWith("#")) continue;
    while (text.endsWith(escapeCharacter) && at + 1 < lines.length) {
      const next = (lines[++at] ?? "").trim();
      if (!next.startsWith("#") && next !== "") text = `${text.slice(0, -1).trimEnd()} ${next}`;
    }
    for (const [, end] of text.matchAll(/<<-?(?:"|')?([A-Za-z_]\w*)/g)) {
      while (at + 1 < lines.length && (lines[at + 1] ?? "").trim() !== end) at++;
      at++;
    }
    instructions.push({ line: begins + 1, keyword: (/^\w+/.exec(text)?.[0] ?? "").toUpperCase(), text });
  }
  return instructions;
}

/**
 * The line of the step that BuildKit calls `step`: `[2/5] RUN …`, `[base 2/3] RUN …`, `[stage-1 4/5] COPY …`. The text after the bracket has variables filled in, so it cannot be
 * compared; the stage and number can. Undefined when the numbers do not fit the file (an ONBUILD of the base image adds steps).
 */
export function lineOfStep(dockerfile: string, step: string): number | undefined {
  const [, stageName, number, total] = /^\[(?:(.+) )?(\d+)\/(\d+)\]/.exec(step) ?? [];
  if (number === undefined || total === undefined) return undefined;
  const stage = stageNamed(stagesOf(parseInstructions(dockerfile)), stageName);
  const steps = stage?.filter(({ keyword }) => STEP_KEYWORDS.has(keyword)) ?? [];
  // FROM counts as the first step of a stage whose base is an image, not of one that is built on another stage.
  const offset = Number(total) - steps.length;
  if (offset === 1 && number === "1") return stage?.[0]?.line;
  return offset === 0 || offset === 1 ? steps[Number(number) - 1 - offset]?.line : undefined;
}

const STEP_KEYWORDS = new Set(["RUN", "COPY", "ADD", "WORKDIR"]);

/** Each begins with its FROM. */
function stagesOf(instructions: Instruction[]): Instruction[][] {
  const stages: Instruction[][] = [];
  for (const instruction of instructions) {
    if (instruction.keyword === "FROM") stages.push([]);
    stages.at(-1)?.push(instruction);
  }
  return stages;
}

function stageNamed(stages: Instruction[][], name: string | undefined): Instruction[] | undefined {
  if (name === undefined) return stages.length === 1 ? stages[0] : stages.at(-1);
  const index = /^stage-(\d+)$/.exec(name)?.[1];
  const named = stages.find(
    ([from]) => /\sAS\s+(\S+)\s*$/i.exec(from?.text ?? "")?.[1]?.toLowerCase() === name.toLowerCase(),
  );
  return named ?? (index === undefined ? undefined : stages[Number(index)]);
}
