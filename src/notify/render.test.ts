import { createHmac } from "node:crypto";
import { describe, expect, it } from "vitest";
import type { StoredEvent } from "../events/event.ts";
import { renderBody, tellOf } from "./render.ts";
import { signatureOf } from "./sign.ts";

const event = (
  id: number,
  kind: string,
  data: Record<string, unknown>,
  of: Partial<StoredEvent> = {},
): StoredEvent => ({
  ...{ id, at: "2026-11-23T12:00:00.000Z", app: "shop", environment: "production", subject: "deployment:d_1" },
  ...{ deliveryId: "c_1", kind, actor: "ada", data, ...of },
});
const bodyOf = (format: "json" | "slack", of: StoredEvent, lines = tellOf([], of)) =>
  JSON.parse(renderBody(format, { notificationId: "n_1-7", hookId: "n_1", event: of, lines, apiUrl: "http://ship" }));

describe("tellOf", () => {
  const ended = event(9, "deployment.ended", {
    ...{ deploymentId: "d_1", kind: "deploy", release: 7, status: "failed", addresses: [], durationMs: 4_000 },
    ...{ phase: "prove", problem: { message: "web answers 500" }, evidence: [], rolledBack: false },
  });

  it("uses the words of the push output, with what came before in mind", () => {
    const started = event(3, "deployment.started", { deploymentId: "d_1", kind: "deploy", release: 7, from: 6 });
    const later = event(12, "deployment.started", { deploymentId: "d_1", kind: "deploy", release: 9, from: 1 });
    const lines = tellOf([started, later], ended).join("\n");
    expect(lines).toContain("✗ production: r7 failed at prove after 4.0 s");
    expect(lines).toContain("web answers 500");
    expect(lines).toContain("nothing changed for your users");
  });

  it("names what has no words of its own", () => {
    expect(tellOf([], event(1, "token.created", {}))).toEqual(["token.created by ada"]);
  });
});

describe("renderBody", () => {
  const waiting = event(7, "infra.waiting", { runId: "i_1", reasons: ["it destroys <aws_vpc.main>"] });

  it("gives programs the event as it is stored, with words, id and where to look", () => {
    expect(bodyOf("json", waiting)).toEqual({
      id: "n_1-7",
      hook: "n_1",
      text: "! waits for an approval: it destroys <aws_vpc.main>\n  → `shipway infra approve i_1`",
      event: waiting,
      links: { api: "http://ship/api/infra/runs/i_1", command: "shipway infra runs i_1" },
    });
  });

  it("leads from a command that somebody ran to that command, and not to Terraform's runs", () => {
    const run = event(8, "run.ended", { runId: "run_1", status: "failed" });
    expect(bodyOf("json", run, ["x"]).links).toEqual({
      api: "http://ship/api/runs/run_1",
      command: "shipway runs run_1",
    });
  });

  it("gives Slack text in which nothing of ours means anything to Slack", () => {
    const { text, blocks } = bodyOf("slack", { ...waiting, data: { runId: "i_1", reasons: ["<!channel> & more"] } });
    expect(text).toBe(
      "*shop production*\n! waits for an approval: &lt;!channel&gt; &amp; more\n  → `shipway infra approve i_1`",
    );
    expect(blocks[0].text.text).toBe(text);
    expect(blocks[1].elements[0].text).toBe("`shipway infra runs i_1` · <http://ship/api/infra/runs/i_1|API> · ada");
  });

  it("cuts what is longer than Slack takes, and not inside an escaped character", () => {
    const { blocks } = bodyOf("slack", waiting, ["<".repeat(2_000)]);
    expect(blocks[0].text.text.length).toBeLessThanOrEqual(3_000);
    expect(blocks[0].text.text).toMatch(/&lt;…$/);
  });

  it.each([
    ["deployment.ended", { deploymentId: "d_1" }, "/api/deployments/d_1", "shipway deployments d_1"],
    ["infra.driftFound", { runId: "i_1" }, "/api/infra/runs/i_1", "shipway infra drift --app shop --env production"],
    ["environment.frozen", {}, "/api/apps/shop/environments/production", "shipway events --app shop"],
    ["secret.set", {}, "/api/events?after=4&limit=1", "shipway events --app shop"],
  ])("leads from %s to where more of it stands", (kind, data, path, command) => {
    expect(bodyOf("json", event(5, kind, data)).links).toEqual({ api: `http://ship${path}`, command });
  });
});

it("signs time and body together, so that anybody with the secret can check both", () => {
  const hmac = createHmac("sha256", "shh_x").update('1700000000.{"a":1}').digest("hex");
  expect(signatureOf("shh_x", '{"a":1}', 1_700_000_000_999)).toBe(`t=1700000000,v1=${hmac}`);
});
