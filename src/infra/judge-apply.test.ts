import { describe, expect, it } from "vitest";
import { findUnsaved, judgeApply } from "./judge-apply.ts";
import { parseStreamLine, type StreamEvent } from "./terraform-stream.ts";
import { importBlocks } from "./workspace.ts";

const error = (summary: string): StreamEvent => ({
  type: "diagnostic",
  diagnostic: { severity: "error", summary, detail: "" },
});
const end: StreamEvent = { type: "summary", operation: "apply" };
const done = (address: string, action = "create", id = `id-${address}`): StreamEvent => ({
  type: "done",
  address,
  action,
  id,
  seconds: 1,
});
const started = (address: string, action = "create"): StreamEvent => ({ type: "started", address, action });

describe("judgeApply", () => {
  it.each([
    ["its own end, without errors", { events: [end], lockHeld: false, erroredState: false }, "applied"],
    [
      "the same with a lock that could not be given back",
      { events: [end], lockHeld: true, erroredState: false },
      "applied",
    ],
    ["an error and a lock given back", { events: [error("x")], lockHeld: false, erroredState: false }, "failed"],
    ["an error and a lock still held", { events: [error("x")], lockHeld: true, erroredState: false }, "unknown"],
    ["nothing at all", { events: [], lockHeld: false, erroredState: false }, "unknown"],
    [
      "the end of the plan alone",
      { events: [{ type: "summary", operation: "plan" } as const], lockHeld: true, erroredState: false },
      "unknown",
    ],
    ["a state that was not saved, whatever else", { events: [end], lockHeld: false, erroredState: true }, "unknown"],
  ])("takes %s for %s", (_what, traces, outcome) => {
    expect(judgeApply(traces).outcome).toBe(outcome);
  });

  const none = { finished: [], uncertain: [], beside: [] };
  it.each([
    ["something in flight", { ...none, uncertain: [{ address: "a", action: "create", beside: false }] }, "unknown"],
    ["something made and not saved", { ...none, finished: [{ address: "a", action: "create", id: "x" }] }, "unknown"],
    ["something made beside the one in the state", { ...none, beside: [{ address: "a", id: "x" }] }, "unknown"],
    ["nothing that the state lacks", none, "failed"],
  ])("takes one that was stopped at once, with %s, for %s", (_what, unsaved, outcome) => {
    const events: StreamEvent[] = [{ type: "interrupted" }, { type: "forced" }, error("operation canceled")];
    expect(judgeApply({ events, lockHeld: false, erroredState: false, unsaved }).outcome).toBe(outcome);
  });

  it("says when it was interrupted", () => {
    const events: StreamEvent[] = [{ type: "interrupted" }, error("execution halted")];
    expect(judgeApply({ events, lockHeld: false, erroredState: false })).toMatchObject({ interrupted: true });
  });
});

describe("findUnsaved", () => {
  it("finds what was made and is not in the state, and what was begun and never heard of again", () => {
    const events = [started("a"), done("a"), started("b"), done("b"), started("c")];
    expect(findUnsaved(events, new Map([["a", "id-a"]]))).toEqual({
      finished: [{ address: "b", action: "create", id: "id-b" }],
      uncertain: [{ address: "c", action: "create", beside: false }],
      beside: [],
    });
  });

  it("tells what was made anew from what was made beside the one that the state has", () => {
    const state = new Map([["a", "old"]]);
    const anew = findUnsaved([done("a", "delete"), done("a", "create", "new")], state);
    expect(anew.finished.map(({ action, id }) => [action, id])).toEqual([
      ["delete", "id-a"],
      ["create", "new"],
    ]);
    expect(anew.beside).toEqual([]);
    const beside = findUnsaved([done("a", "create", "new"), started("a")], state);
    expect(beside).toEqual({
      finished: [],
      uncertain: [{ address: "a", action: "create", beside: true }],
      beside: [{ address: "a", id: "new" }],
    });
  });

  it("finds what was destroyed and is still in the state, and what was made anew", () => {
    const state = new Map([
      ["gone", "1"],
      ["new", "old-id"],
    ]);
    const events = [done("gone", "delete"), done("new", "delete"), done("new", "create", "new-id")];
    const { finished } = findUnsaved(events, state);
    expect(finished.map(({ address, action }) => `${action} ${address}`)).toEqual([
      "delete gone",
      "delete new",
      "create new",
    ]);
  });
});

describe("parseStreamLine", () => {
  it("reads what Terraform 1.11 prints", () => {
    const hook =
      '"hook":{"resource":{"addr":"terraform_data.a"},"action":"create","id_key":"id","id_value":"5b6a","elapsed_seconds":2}';
    const line = `{"@level":"info","@message":"terraform_data.a: Creation complete","type":"apply_complete",${hook}}`;
    expect(parseStreamLine(line)).toEqual({
      event: { type: "done", address: "terraform_data.a", action: "create", id: "5b6a", seconds: 2 },
      text: "terraform_data.a: Creation complete",
    });
  });

  it("does not count data that is read", () => {
    const line =
      '{"@message":"","type":"apply_complete","hook":{"resource":{"addr":"module.x.data.aws_ami.y"},"action":"read"}}';
    expect(parseStreamLine(line).event).toEqual({ type: "other" });
  });

  it("keeps a line that is no JSON as text", () => {
    expect(parseStreamLine("Successfully configured the backend")).toEqual({
      event: { type: "other" },
      text: "Successfully configured the backend",
    });
  });
});

describe("importBlocks", () => {
  it("quotes ids so that Terraform takes them as they are", () => {
    expect(importBlocks([{ address: 'a.b["x"]', id: `has \${a} "quotes" %{b}` }])).toBe(
      'import {\n  to = a.b["x"]\n  id = "has $${a} \\"quotes\\" %%{b}"\n}\n',
    );
  });
});
