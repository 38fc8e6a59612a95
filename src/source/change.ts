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
  refKind: "branch" | "tag" | "other";
  refName: string;
  oldCommit: string | undefined;
  /** undefined when the ref was deleted. For an annotated tag, the commit it points at. */
  newCommit: string | undefined;
  forced: boolean;
};

/** A push whose refs are stored. `options` are git's push options (`git push -o skip-ci`). */
export type ReceivedPush = { app: string; actor: string; refs: PushedRef[]; options: string[] };
