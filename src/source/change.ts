/** A commit on a branch or tag that arrived. */
export type Change = {
  id: string;
  app: string;
  refKind: "branch" | "tag";
  /** Short name: `main`, `v1.2.0`. */
  refName: string;
  /** 40 hex digits. */
  commit: string;
  /** The commit the ref pointed at before; undefined for a new ref. */
  previousCommit?: string;
  /** First line of the commit message. */
  subject: string;
  /** Who pushed. */
  actor: string;
};

/** One ref of a push, after git stored it. */
export type PushedRef = {
  /** Full name: `refs/heads/main`. */
  ref: string;
  /** `other` is also a tag that names no commit (a tag of a file or a tree). */
  refKind: "branch" | "tag" | "other";
  refName: string;
  /** undefined when the ref is new. For an annotated tag, the commit it pointed at. */
  oldCommit: string | undefined;
  /** undefined when the ref was deleted. For an annotated tag, the commit it points at; for `other`, the object as pushed. */
  newCommit: string | undefined;
  /** The old commit is not among the ancestors of the new one: history was rewritten, or a tag moved. */
  forced: boolean;
};

/** A push whose refs are stored. `options` are git's push options (`git push -o skip-ci`). */
export type ReceivedPush = { app: string; actor: string; refs: PushedRef[]; options: string[] };
