import { expect, test } from "vitest";
import type { PushedRef } from "./change.ts";
import { refsToChanges } from "./read-change.ts";

const A = "a".repeat(40);
const B = "b".repeat(40);

function pushed(ref: Partial<PushedRef>): PushedRef {
  return {
    ref: "refs/heads/main",
    refKind: "branch",
    refName: "main",
    oldCommit: A,
    newCommit: B,
    forced: false,
    ...ref,
  };
}

function changesOf(...refs: PushedRef[]) {
  return refsToChanges({ app: "shop", actor: "ann", refs, options: [] });
}

test("an updated branch is a change that knows the commit before", () => {
  expect(changesOf(pushed({}))).toEqual({
    changes: [{ app: "shop", refKind: "branch", refName: "main", commit: B, previousCommit: A, actor: "ann" }],
    remarks: [],
  });
});

test("a new tag is a change with no commit before", () => {
  const tag = pushed({ ref: "refs/tags/v1", refKind: "tag", refName: "v1", oldCommit: undefined });
  expect(changesOf(tag).changes).toEqual([{ app: "shop", refKind: "tag", refName: "v1", commit: B, actor: "ann" }]);
});

test.each([
  ["a deleted branch", pushed({ newCommit: undefined }), "Branch main is deleted; nothing runs for it."],
  [
    "a ref that is neither branch nor tag",
    pushed({ ref: "refs/notes/x", refKind: "other", refName: "refs/notes/x" }),
    "refs/notes/x is stored; only commits on branches and tags are built.",
  ],
  [
    "a tag made anew at the same commit",
    pushed({ ref: "refs/tags/v1", refKind: "tag", refName: "v1", oldCommit: B }),
    "Tag v1 still points at bbbbbbbb; nothing runs for it.",
  ],
])("%s is no change and says so", (_, ref, remark) => {
  expect(changesOf(ref)).toEqual({ changes: [], remarks: [remark] });
});

test("keeps the order of the push", () => {
  const refs = ["b", "a", "c"].map((refName) => pushed({ ref: `refs/heads/${refName}`, refName }));
  expect(changesOf(...refs).changes.map(({ refName }) => refName)).toEqual(["b", "a", "c"]);
});
