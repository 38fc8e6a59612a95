import type { PushedRef } from "./change.ts";

/** Kind and short name of a full ref: `refs/heads/main` is the branch `main`. */
export function classifyRef(ref: string): Pick<PushedRef, "refKind" | "refName"> {
  if (ref.startsWith("refs/heads/")) return { refKind: "branch", refName: ref.slice("refs/heads/".length) };
  if (ref.startsWith("refs/tags/")) return { refKind: "tag", refName: ref.slice("refs/tags/".length) };
  return { refKind: "other", refName: ref };
}

// The rules of git-check-ref-format(1), and no leading dash, which a command could take for an option.
const FORBIDDEN = /[\x00-\x20\x7f~^:?*[\\]|\.\.|@\{|\/\/|\/$|\.$|^\/|^-|^@$/;

/** Whether `name` is a plain ref or short ref name: no expression such as `main~3`, `@{-1}` or `:/text`, no option. */
export function isRefName(name: string): boolean {
  if (name === "" || name.length > 1_000 || FORBIDDEN.test(name)) return false;
  return name.split("/").every((part) => !part.startsWith(".") && !part.endsWith(".lock"));
}

/** Whether `text` is a full commit id. */
export function isCommitId(text: string): boolean {
  return /^[0-9a-f]{40}$/.test(text);
}

/** Whether `path` names a file inside a repository: relative, without `..`, line breaks or NUL. */
export function isRepositoryPath(path: string): boolean {
  if (path === "" || path.length > 4_096 || path.startsWith("/") || /[\x00\n]/.test(path)) return false;
  return path.split("/").every((part) => part !== ".." && part !== "");
}
