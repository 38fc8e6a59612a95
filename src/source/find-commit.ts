import { peel } from "./pushed-refs.ts";
import { isRefName } from "./ref-name.ts";
import type { RepositoryStore } from "./repository-store.ts";

/** The commit of a branch, a tag, a full ref or a commit id (at least 4 digits), looked up in this order; undefined when there is none. */
export async function findCommit(store: RepositoryStore, key: string, text: string): Promise<string | undefined> {
  if (!isRefName(text)) return undefined;
  const refs = text.startsWith("refs/") ? [text] : [`refs/heads/${text}`, `refs/tags/${text}`];
  const candidates = /^[0-9a-f]{4,40}$/.test(text) ? [...refs, text] : refs;
  return (await peel(store, key, candidates)).find((commit) => commit !== undefined);
}
