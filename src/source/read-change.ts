import type { Change, PushedRef, ReceivedPush } from "./change.ts";

/** A change that is about to be recorded: its id and subject are not known yet. */
export type NewChange = Omit<Change, "id" | "subject">;

/**
 * Which refs of a push lead to a change, in the order they were pushed, and a remark for each stored ref that does not.
 * A branch or tag that points at a commit is a change; a deleted ref is none.
 */
export function refsToChanges(push: ReceivedPush): { changes: NewChange[]; remarks: string[] } {
  const changes: NewChange[] = [];
  const remarks: string[] = [];
  for (const pushed of push.refs) {
    const reason = whyNoChange(pushed);
    if (reason !== undefined) remarks.push(reason);
    else changes.push(toChange(push, pushed));
  }
  return { changes, remarks };
}

function whyNoChange(pushed: PushedRef): string | undefined {
  if (pushed.newCommit === undefined) return `${title(pushed)} is deleted; nothing runs for it.`;
  if (pushed.refKind === "other") return `${title(pushed)} is stored; only commits on branches and tags are built.`;
  if (pushed.newCommit === pushed.oldCommit) {
    return `${title(pushed)} still points at ${pushed.newCommit.slice(0, 8)}; nothing runs for it.`;
  }
  return undefined;
}

function title({ refKind, refName }: PushedRef): string {
  return refKind === "other" ? refName : `${refKind === "branch" ? "Branch" : "Tag"} ${refName}`;
}

function toChange(push: ReceivedPush, pushed: PushedRef): NewChange {
  const { refKind, refName, newCommit, oldCommit } = pushed;
  if (refKind === "other" || newCommit === undefined) throw new Error(`${pushed.ref} is not a change`);
  const change = { app: push.app, refKind, refName, commit: newCommit, actor: push.actor };
  return oldCommit === undefined ? change : { ...change, previousCommit: oldCommit };
}
