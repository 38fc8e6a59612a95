import { access, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { parseDocument } from "yaml";

export const SPEC_FILE = "shipway.yml";

/** The checkout around a directory: where its shipway.yml is and which app it names. */
export type Project = { dir: string; specFile: string; app: string | undefined };

/** Looks for shipway.yml in `cwd` and its parents, up to the root of the git checkout. */
export async function findProject(cwd: string): Promise<Project | undefined> {
  for (let dir = cwd; ; dir = dirname(dir)) {
    const specFile = join(dir, SPEC_FILE);
    const text = await readFile(specFile, "utf8").catch(() => undefined);
    if (text !== undefined) return { dir, specFile, app: appNameIn(text) };
    if (dir === dirname(dir) || (await exists(join(dir, ".git")))) return undefined;
  }
}

/** Only the name: a command such as `logs` must work although the file has a mistake elsewhere. */
function appNameIn(text: string): string | undefined {
  const app = parseDocument(text).get("app");
  return typeof app === "string" ? app : undefined;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
