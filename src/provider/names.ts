import { ProviderProblem } from "./protocol/diagnostics.ts";

/** The server's rules for names, so that a plan says what an apply would be refused for. A test holds them to the server's own. */
export function checkName(name: string): string | undefined {
  if (/^[a-z]([a-z0-9-]{0,28}[a-z0-9])?$/.test(name)) return undefined;
  return "Use 1 to 30 lower-case letters, digits and dashes, starting with a letter.";
}

export function checkVariableName(name: string): string | undefined {
  if (name.startsWith("SHIPWAY_")) return "Names that start with SHIPWAY_ are set by Shipway.";
  if (/^[A-Za-z_][A-Za-z0-9_]{0,199}$/.test(name)) return undefined;
  return "Use letters, digits and underscores.";
}

export function checkVersionTag(tag: string): string | undefined {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/.test(tag)) return undefined;
  return 'Write the tag of an image, such as "10.11".';
}

/** The parts of an id for `terraform import`, such as `shop/production/db` for `APP/ENVIRONMENT/NAME`. @throws ProviderProblem */
export function parseId<const N extends readonly string[]>(id: string, ...names: N): { [I in keyof N]: string } {
  const parts = id.split("/");
  if (parts.length === names.length && parts.every((part) => part !== "")) return parts as { [I in keyof N]: string };
  throw new ProviderProblem(`${JSON.stringify(id)} is not an id of that kind`, {
    detail: `It is made of ${names.join("/")}.`,
  });
}
