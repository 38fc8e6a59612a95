import { describe, expect, it } from "vitest";
import { parseAppSpec } from "../spec/parse-spec.ts";
import { type InfraUse, planPush } from "./infra-push.ts";

function use(environment: string, infra: object = {}, frozenReason: string | null = null): InfraUse {
  const environments = { [environment]: { infra: { repository: "shop-infra", dir: ".", ...infra } } };
  const text = JSON.stringify({ app: "shop", services: { web: { build: {}, port: 80 } }, environments });
  const spec = parseAppSpec(text).environments[environment]?.infra;
  if (!spec) throw new Error("no infra");
  return { environment, spec, frozenReason };
}

const branch = (refName: string) => ({ refKind: "branch" as const, refName, commit: `${refName}-commit` });
const tag = (refName: string) => ({ ...branch(refName), refKind: "tag" as const });
const plan = (changes: Parameters<typeof planPush>[0]["changes"], uses: InfraUse[]) => {
  const { wanted, remarks } = planPush({
    app: "shop",
    repository: "shop-infra",
    defaultBranch: "main",
    changes,
    uses,
  });
  return { runs: wanted.map(({ kind, environment, ref }) => `${kind} ${environment} ${ref}`), remarks };
};

describe("a push to an infra repository", () => {
  it("is applied where its ref is used: by name, or as the default branch", () => {
    const uses = [use("staging"), use("production", { ref: "main" })];
    expect(plan([branch("main")], uses)).toEqual({
      runs: ["apply staging refs/heads/main", "apply production refs/heads/main"],
      remarks: [],
    });
  });

  it("is planned where another ref is used, and says which", () => {
    const uses = [use("staging", { ref: "next" }), use("production")];
    expect(plan([branch("next")], uses)).toEqual({
      runs: ["apply staging refs/heads/next", "plan production refs/heads/next"],
      remarks: ["next is planned and not applied: production uses main."],
    });
  });

  it("never moves an environment that is pinned to a commit", () => {
    const commit = "3f1c2ab9".repeat(5);
    expect(plan([branch("main")], [use("production", { ref: commit })])).toEqual({
      runs: ["plan production refs/heads/main"],
      remarks: ["main is planned and not applied: production uses commit 3f1c2ab."],
    });
  });

  it("is planned and not applied where the environment is frozen", () => {
    const { runs, remarks } = plan([branch("main")], [use("production", {}, "rolled back to r3")]);
    expect(runs).toEqual(["plan production refs/heads/main"]);
    expect(remarks.join()).toContain("production is frozen (rolled back to r3)");
    expect(remarks.join()).toContain("`shipway infra apply --app shop --env production`");
  });

  it("applies a tag where it is used, and plans it nowhere else", () => {
    const uses = [use("production", { ref: "v1" }), use("staging")];
    expect(plan([tag("v1")], uses)).toEqual({ runs: ["apply production refs/tags/v1"], remarks: [] });
    expect(plan([tag("v2")], uses).runs).toEqual([]);
    expect(plan([tag("v2")], uses).remarks).toEqual(["Tag v2 is stored; no environment of shop uses it."]);
  });

  it("says how to use a repository that no environment uses yet, in one line", () => {
    const { runs, remarks } = plan([branch("main")], []);
    expect(runs).toEqual([]);
    expect(remarks).toHaveLength(1);
    expect(remarks[0]).toContain("infra: { repository: shop-infra, dir: … }");
  });

  it("plans a branch in five environments, and gives the command for the rest", () => {
    const uses = Array.from({ length: 7 }, (_, index) => use(`e${index}`));
    const { runs, remarks } = plan([branch("next")], uses);
    expect(runs).toHaveLength(5);
    expect(remarks.at(-1)).toContain("Not planned here: e5, e6. `shipway infra plan --app shop --env e5 --ref next`");
  });
});
