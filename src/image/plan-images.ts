import { createHash } from "node:crypto";
import { posix } from "node:path";
import { fail } from "../shared/errors.ts";
import type { GitCommand } from "../source/git-command.ts";
import type { AppSpec, ServiceSpec } from "../spec/app-spec.ts";
import type { ImagePlan } from "./builder.ts";

export type ImageSource = {
  /** First part of the images' names: `shipway`, or another for a second installation on the same engine. */
  namespace: string;
  app: string;
  services: AppSpec["services"];
  repositoryDir: string;
  commit: string;
};

/** A service to build, with its paths made plain: `context` is "." or a folder, `dockerfile` is relative to it. */
type BuildPlace = { service: string; build: NonNullable<ServiceSpec["build"]>; context: string; dockerfile: string };
/** Git's ids of the context's tree and of the Dockerfile; undefined where the commit has none. */
type Found = BuildPlace & { tree: string | undefined; dockerfileBlob: string | undefined };

const MAX_SUGGESTED = 5;

/**
 * One plan per service with `build`, in the order they are declared, each named by the content it is built from.
 * @throws DOCKERFILE_MISSING naming every context and Dockerfile that the commit does not have; COMMIT_NOT_FOUND
 */
export async function planImages(source: ImageSource, git: GitCommand): Promise<ImagePlan[]> {
  const places = buildPlaces(source.services);
  if (places.length === 0) return [];
  const found = await findPlaces(source, places, git);
  const missing = found.filter(({ tree, dockerfileBlob }) => tree === undefined || dockerfileBlob === undefined);
  if (missing.length > 0) throw await dockerfileMissing(source, missing, git);
  return found.map((place) => toPlan(source, place));
}

/**
 * `NAMESPACE/APP/SERVICE:HASH`. Equal content gives an equal name, on any machine; what the name does not cover is what the Dockerfile fetches while it is built,
 * the base image of a moving tag included.
 */
export function imageName(
  namespace: string,
  app: string,
  service: string,
  content: {
    tree: string;
    dockerfile: string;
    dockerfileBlob: string;
    target?: string | undefined;
    args: Record<string, string>;
  },
): string {
  const { tree, dockerfile, dockerfileBlob, target = null, args } = content;
  const sortedArgs = Object.entries(args).sort(([a], [b]) => (a < b ? -1 : 1));
  const hash = createHash("sha256").update(JSON.stringify([1, tree, dockerfile, dockerfileBlob, target, sortedArgs]));
  return `${namespace}/${app}/${service}:${hash.digest("hex").slice(0, 20)}`;
}

function buildPlaces(services: AppSpec["services"]): BuildPlace[] {
  return Object.entries(services).flatMap(([service, { build }]) => {
    if (!build) return [];
    const context = posix.normalize(build.context).replace(/\/$/, "");
    return [{ service, build, context, dockerfile: posix.normalize(build.dockerfile ?? "Dockerfile") }];
  });
}

/** One git process answers for all services. */
async function findPlaces(
  { repositoryDir, commit }: ImageSource,
  places: BuildPlace[],
  git: GitCommand,
): Promise<Found[]> {
  const objects = places.flatMap((place) => [treeOf(commit, place.context), dockerfileOf(commit, place)]);
  const input = `${[`${commit}^{commit}`, ...objects].join("\n")}\n`;
  const { stdout } = await git.run(["-C", repositoryDir, "cat-file", "--batch-check"], { input });
  const [first, ...answers] = stdout.toString("utf8").trimEnd().split("\n").map(parseObject);
  if (first?.type !== "commit") throw commitMissing(commit);
  return places.map((place, index) => {
    const [tree, blob] = [answers[2 * index], answers[2 * index + 1]];
    return {
      ...place,
      tree: tree?.type === "tree" ? tree.id : undefined,
      dockerfileBlob: blob?.type === "blob" ? blob.id : undefined,
    };
  });
}

function treeOf(commit: string, context: string): string {
  return `${commit}:${context === "." ? "" : context}`;
}

function dockerfileOf(commit: string, { context, dockerfile }: BuildPlace): string {
  return `${commit}:${posix.join(context, dockerfile)}`;
}

/** `ID TYPE SIZE`; anything else (`… missing`, `… ambiguous`) is not there for us. */
function parseObject(line: string): { id: string; type: string } | undefined {
  const [, id, type] = /^([0-9a-f]{40,64}) (\w+) \d+$/.exec(line) ?? [];
  return id !== undefined && type !== undefined ? { id, type } : undefined;
}

function toPlan({ namespace, app, repositoryDir, commit }: ImageSource, found: Found): ImagePlan {
  const { service, build, context, dockerfile, tree = "", dockerfileBlob = "" } = found;
  const { target, args } = build;
  return {
    app,
    service,
    name: imageName(namespace, app, service, { tree, dockerfile, dockerfileBlob, target, args }),
    repositoryDir,
    commit,
    context,
    dockerfile,
    ...(target === undefined ? {} : { target }),
    args,
  };
}

function commitMissing(commit: string) {
  return fail("COMMIT_NOT_FOUND", {
    message: `The repository has no commit ${commit}.`,
    hint: "Push the commit, or name one that `git log` shows.",
  });
}

async function dockerfileMissing({ repositoryDir, commit }: ImageSource, missing: Found[], git: GitCommand) {
  const { stdout } = await git.run(["-C", repositoryDir, "ls-tree", "-r", "-z", "--name-only", "--full-tree", commit]);
  const similar = stdout.toString("utf8").split("\0").filter(looksLikeDockerfile);
  const lines = missing.map((place) => `Service ${place.service}: ${whatIsMissing(place, commit)}`);
  return fail("DOCKERFILE_MISSING", { message: lines.join("\n"), hint: missingHint(missing, similar) });
}

function looksLikeDockerfile(path: string): boolean {
  const name = posix.basename(path).toLowerCase();
  return (
    (/(^|[.-])(dockerfile|containerfile)([.-]|$)/.test(name) && !name.endsWith(".dockerignore")) ||
    /^dokerfile|^dockerfle/.test(name)
  );
}

function whatIsMissing({ context, dockerfile, tree }: Found, commit: string): string {
  const at = `commit ${commit.slice(0, 8)}`;
  if (tree === undefined) return `the build context ${context} is not a folder at ${at}.`;
  return `there is no ${posix.join(context, dockerfile)} at ${at}.`;
}

/** The lines of `shipway.yml` that would use what is there. Paths of a Dockerfile are relative to its context. */
function missingHint(missing: Found[], similar: string[]): string {
  if (similar.length === 0) return "Add a Dockerfile and commit it, or use `image:` to run a ready image.";
  const [place] = missing;
  const shown = similar.slice(0, MAX_SUGGESTED).join(", ");
  const nearest = similar.find((path) => path.includes(place?.service ?? "")) ?? similar[0] ?? "";
  const inside =
    place && place.tree !== undefined && (place.context === "." || nearest.startsWith(`${place.context}/`));
  const fix = inside
    ? `dockerfile: ${posix.relative(place.context, nearest)}`
    : `context: ${posix.dirname(nearest)}${posix.basename(nearest) === "Dockerfile" ? "" : `\` and \`dockerfile: ${posix.basename(nearest)}`}`;
  return `The commit has ${shown}. To use ${nearest}, write \`${fix}\` under services.${place?.service}.build in shipway.yml (a Dockerfile's path is relative to its context); or commit the missing file.`;
}
