import { chmod, mkdir, readFile, realpath, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { newId } from "../shared/new-id.ts";

/** As in `required_providers`; a test keeps it equal to what the provider says of itself. */
export const PROVIDER_SOURCE = "shipway.internal/shipway/shipway";

/** Versions of the provider that were released before this one and whose lock files must go on working. A test holds it to the changelog. */
export const EARLIER_VERSIONS: readonly string[] = [];
/** The same bytes for each: which of them Terraform is built for need not be what Node is built for. */
const PLATFORMS = ["linux_amd64", "linux_arm64", "darwin_amd64", "darwin_arm64"];

/** What tells the launcher where the provider is. Shipway sets both for its own runs. */
export const PROVIDER_PROGRAM_VARIABLE = "SHIPWAY_PROVIDER";
export const PROVIDER_NODE_VARIABLE = "SHIPWAY_PROVIDER_NODE";

/**
 * What Terraform starts. A lock file holds a hash of the launcher's bytes and name: they are the same on every machine and platform and, once released,
 * for ever, so that a lock file written on a laptop holds on the server, and goes on holding after an upgrade of Node or of Shipway and a move of
 * the data directory. That is why it names no path, and finds the provider when it is started.
 */
export const PROVIDER_LAUNCHER = `#!/bin/sh
# Starts the Terraform provider of the Shipway that is installed here. Lock files hold a hash of these bytes: they never change.
if [ -z "$SHIPWAY_PROVIDER" ]; then
  shipway=$(command -v shipway) || {
    echo "The Terraform provider of Shipway needs the program shipway in PATH, or its own program named in SHIPWAY_PROVIDER." >&2
    exit 1
  }
  SHIPWAY_PROVIDER=$(dirname "$(readlink -f "$shipway")")/terraform-provider-shipway/main.js
fi
exec "\${SHIPWAY_PROVIDER_NODE:-node}" "$SHIPWAY_PROVIDER" "$@"
`;

/** The provider's program beside the command line's, `dist/main.js`; the launcher counts on it. */
export const providerProgramBeside = (main: string): string =>
  join(main, "..", "terraform-provider-shipway", "main.js");

/** Lays a filesystem mirror that holds the launcher in every version. What is there already is left as it is; each file appears whole. */
export async function layProviderMirror(dir: string, version: string): Promise<string[]> {
  const files = [...EARLIER_VERSIONS, version].flatMap((one) =>
    PLATFORMS.map((platform) => join(dir, PROVIDER_SOURCE, one, platform, `terraform-provider-shipway_v${one}`)),
  );
  for (const file of files) {
    if ((await readFile(file, "utf8").catch(() => "")) === PROVIDER_LAUNCHER) continue;
    await mkdir(join(file, ".."), { recursive: true });
    // Not beside the launcher: all that is in its folder is part of the hash.
    const beside = join(dir, `.${newId("launcher")}`);
    await writeFile(beside, PROVIDER_LAUNCHER);
    await chmod(beside, 0o755);
    await rename(beside, file);
  }
  return files;
}

/** Whether the launcher would start the provider of this `main` without any variable being set. */
export async function isFoundInPath(searchPath: string, main: string): Promise<boolean> {
  for (const dir of searchPath.split(":")) {
    const found = await realpath(join(dir, "shipway")).catch(() => undefined);
    if (found !== undefined) return found === (await realpath(main).catch(() => main));
  }
  return false;
}
