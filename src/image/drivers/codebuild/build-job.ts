import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { createGzip } from "node:zlib";
import type { Bucket } from "../../../aws/bucket.ts";
import type { GitCommand } from "../../../source/git-command.ts";
import type { ImagePlan } from "../../builder.ts";
import { openContextTar } from "../../context-tar.ts";

/** What `build.py` is told; its docstring says what each is. */
export type BuildJob = {
  image: string;
  dockerfile: string;
  target: string | null;
  args: Record<string, string>;
  labels: Record<string, string>;
  cache: string | null;
  login: { host: string; region: string } | null;
};

/** What runs in CodeBuild. JSON is YAML, too. */
export const BUILDSPEC = JSON.stringify({ version: 0.2, phases: { build: { commands: ["python3 build.py"] } } });

/** The bucket forgets what is some weeks old (`terraform/aws-fargate`): what is near that is uploaded anew, so that it is still there when the build reads it. */
const FRESH_MS = 12 * 60 * 60_000;

/** The content's hash, which is the tag of the name. */
export const contentHash = ({ name }: Pick<ImagePlan, "name">): string => name.slice(name.lastIndexOf(":") + 1);

/** The folder of a build; whatever lies in it is where CodeBuild runs it. */
export const jobFolder = (install: string, plan: ImagePlan): string =>
  `shipway/images/${install}/jobs/${plan.app}/${plan.service}/${contentHash(plan)}/`;

type Upload = { bucket: Bucket; install: string; git: GitCommand; now: () => number };

/**
 * Lays the folder of a build: its context, once for all services and commits that have the same, and what is to be done with it. Repeating it uploads no context.
 * @returns how many bytes were uploaded
 */
export async function layJob(
  { bucket, install, git, now }: Upload,
  plan: ImagePlan,
  job: BuildJob,
  options: { remark: (text: string) => void; signal: AbortSignal },
): Promise<number> {
  const folder = jobFolder(install, plan);
  const context = `${folder}context.tar.gz`;
  const isFresh = async (key: string) => {
    const found = await bucket.find(key);
    return found !== undefined && now() - found.modifiedAt < FRESH_MS;
  };
  let bytes = 0;
  if (!(await isFresh(context))) {
    const shared = `shipway/images/${install}/contexts/${await contextHash(plan, git)}.tar.gz`;
    if (!(await isFresh(shared)))
      bytes = await bucket.upload(shared, await openContext(plan, git, options), options.signal);
    await bucket.copy(shared, context);
  }
  await bucket.put(`${folder}build.py`, await readFile(join(import.meta.dirname, "build.py"), "utf8"));
  await bucket.put(`${folder}job.json`, JSON.stringify(job));
  return bytes;
}

/** Git's id of the tree, and what else decides about the tar; not the times of its files, which are those of the first commit that had this content. */
async function contextHash(
  { repositoryDir, commit, context, dockerfile }: ImagePlan,
  git: GitCommand,
): Promise<string> {
  const tree = `${commit}:${context === "." ? "" : context}`;
  const { stdout } = await git.run(["-C", repositoryDir, "rev-parse", "--verify", "--end-of-options", tree]);
  const hash = createHash("sha256").update(JSON.stringify([1, stdout.toString("utf8").trim(), dockerfile]));
  return hash.digest("hex").slice(0, 40);
}

async function openContext(
  plan: ImagePlan,
  git: GitCommand,
  options: { remark: (text: string) => void; signal: AbortSignal },
): Promise<Readable> {
  const tar = await openContextTar(plan, git, options);
  const gzip = createGzip();
  // A tar that breaks off must not look like a whole one.
  tar.once("error", (error) => gzip.destroy(error));
  return tar.pipe(gzip);
}
