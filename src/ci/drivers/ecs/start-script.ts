import type { StepPlan } from "../../executor.ts";
import { SCRIPTS_DIR } from "../../step-places.ts";
import { quote, renderStepScript } from "../../step-script.ts";
import { KEPT_DIR, PIPES_DIR } from "./order.ts";

/** A cache outside of the checkout that the script keeps where the last container finds it. */
export type KeptByScript = { path: string; dir: string };

export const START_COMMAND = ["/bin/sh", `${SCRIPTS_DIR}/start.sh`];

/**
 * The files that a step's container runs: what every step runs, started with its output going through pipes that the container beside it reads. That container
 * sees by their end that the step has ended, however it ended, and numbers the lines. The variables are sourced from a file, so that they are in no definition.
 */
export function renderTaskScripts(
  step: Pick<StepPlan, "script" | "afterScript">,
  nonce: string,
  variables: Record<string, string>,
  kept: readonly KeptByScript[],
): { scripts: Record<string, string>; unusable: string[] } {
  const names = Object.keys(variables);
  const usable = names.filter((name) => /^[A-Za-z_][A-Za-z0-9_]*$/.test(name));
  return {
    scripts: {
      ...renderStepScript(step, { nonce, dir: SCRIPTS_DIR }),
      "variables.sh": usable.map((name) => `export ${name}=${quote(variables[name] ?? "")}\n`).join(""),
      "start.sh": startScript(kept),
    },
    unusable: names.filter((name) => !usable.includes(name)),
  };
}

function startScript(kept: readonly KeptByScript[]): string {
  const lines = [
    // Opening waits until somebody reads; main.sh writes its markers to the standard error of this very process.
    `exec >${PIPES_DIR}/out 2>${PIPES_DIR}/err`,
    `. ${SCRIPTS_DIR}/variables.sh`,
    `/bin/sh ${SCRIPTS_DIR}/main.sh`,
    "code=$?",
    // What is in this container's own file system nobody sees after its end.
    ...(kept.length === 0 ? [] : [`if [ $code = 0 ]; then ${kept.map(keep).join("; ")}; fi >/dev/null 2>&1`]),
    `printf '%s' "$code" >${PIPES_DIR}/code.new && mv ${PIPES_DIR}/code.new ${PIPES_DIR}/code`,
    "exit $code",
  ];
  return `${lines.join("\n")}\n`;
}

function keep({ path, dir }: KeptByScript): string {
  const to = `${KEPT_DIR}/${dir}`;
  return `[ -d ${quote(path)} ] && { cp -a ${quote(path)} ${quote(`${to}.new`)} && mv ${quote(`${to}.new`)} ${quote(to)}; }`;
}
