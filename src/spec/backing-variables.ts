import type { AppSpec, BackingSpec } from "./app-spec.ts";

/** Engines without accounts have neither user, password nor database. */
const WITHOUT_ACCOUNTS: readonly BackingSpec["engine"][] = ["redis"];

/** Names of the variables that services get for a backing service: `db` → `DB_URL`, `DB_HOST`, … */
export function backingVariableNames(name: string, engine: BackingSpec["engine"]): string[] {
  const prefix = name.toUpperCase().replaceAll("-", "_");
  const account = WITHOUT_ACCOUNTS.includes(engine) ? [] : ["USER", "PASSWORD", "NAME"];
  return ["URL", "HOST", "PORT", ...account].map((part) => `${prefix}_${part}`);
}

/** Variables that both a backing service and an output give: allowed, and worth saying, since the backing service then runs for nobody. */
export function notesOnOutputs(spec: AppSpec): string[] {
  return Object.entries(spec.environments).flatMap(([environment, { infra }]) =>
    Object.entries(spec.backing).flatMap(([name, { engine }]) => {
      const given = backingVariableNames(name, engine).filter((one) => Object.hasOwn(infra?.outputs ?? {}, one));
      if (given.length === 0) return [];
      return [
        `environment ${environment} takes ${given.join(", ")} from Terraform's outputs, and backing service ${name} gives ${given.length === 1 ? "it" : "them"}, too: the output wins.`,
      ];
    }),
  );
}
