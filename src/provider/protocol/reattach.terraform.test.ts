import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { sleep, until } from "../../shared/until.ts";
import { newReality, type Reality, realityProvider } from "../testing/reality.ts";
import { hasTerraform, newTerraformDir, type TerraformDir } from "../testing/terraform-testing.ts";
import { defineProvider, resourcesOf } from "./define-provider.ts";

const HEAD = `terraform {
  required_providers {
    reality = { source = "terraform.test/shipway/reality" }
  }
}
`;
const WEB = 'resource "reality_object" "web" {\n  name = "web"\n';

describe.skipIf(!hasTerraform)("a provider of ours with the real terraform", () => {
  let reality: Reality;
  let tf: TerraformDir;
  beforeEach(async () => {
    reality = newReality();
    tf = await newTerraformDir(realityProvider(reality));
  });
  afterEach(() => tf.close());
  const applied = async (text: string) => {
    await tf.write(HEAD + text);
    expect(await tf.apply()).toEqual({ exitCode: 0, diagnostics: [] });
  };

  it("creates, knows what it made, and has nothing more to do", async () => {
    await applied(`${WEB}  tags = { env = "prod" }\n}`);
    expect(reality.named("web")).toEqual({ name: "web", size: 1, tags: { env: "prod" }, secret: null, revision: 1 });
    expect(await tf.state("reality_object.web")).toMatchObject({
      id: "o1",
      size: 1,
      tags: { env: "prod" },
      revision: 1,
    });
    expect(await tf.plan()).toMatchObject({ exitCode: 0, does: [], drift: [] });
  });

  it("updates in place, and says that the revision is known only afterwards", async () => {
    await applied(`${WEB}  size = 2.5\n}`);
    await tf.write(`${HEAD}${WEB}  size = 3\n  tags = { a = "1", b = "2" }\n}`);
    const plan = await tf.plan();
    expect(plan.does).toEqual(["update reality_object.web"]);
    expect(plan.changes[0]?.change.after).not.toHaveProperty("revision");
    expect(plan.changes[0]?.change.after).toMatchObject({ id: "o1", size: 3 });
    expect(await tf.apply("plan.tfplan")).toEqual({ exitCode: 0, diagnostics: [] });
    expect(reality.named("web")).toMatchObject({ size: 3, tags: { a: "1", b: "2" }, revision: 2 });
  });

  it("replaces where an attribute forces it, and removes what the configuration no longer has", async () => {
    await applied(`${WEB}}`);
    await tf.write(`${HEAD}${WEB.replace('name = "web"', 'name = "shop"')}}`);
    const plan = await tf.plan();
    expect(plan.does).toEqual(["delete+create reality_object.web"]);
    expect(plan.changes[0]?.action_reason).toBe("replace_because_cannot_update");
    await tf.apply("plan.tfplan");
    expect([...reality.objects.values()].map(({ name }) => name)).toEqual(["shop"]);
    await applied("");
    expect(reality.objects.size).toBe(0);
  });

  it("carries what is unknown in a plan through, whole and inside a map, and settles it in the apply", async () => {
    await applied(`${WEB}}
resource "terraform_data" "later" {
  input = "later"
}
resource "reality_object" "next" {
  name = "next"
  secret = reality_object.web.id
  tags = { of = reality_object.web.id, known = "yes" }
  size = length(terraform_data.later.output)
}`);
    expect(reality.named("next")).toMatchObject({ secret: "o1", tags: { of: "o1", known: "yes" }, size: 5 });
    expect(await tf.plan()).toMatchObject({ exitCode: 0, does: [] });
  });

  it("plans a replacement when it cannot know whether what forces one will change", async () => {
    await applied(`resource "terraform_data" "name" {\n  input = "web"\n}
resource "reality_object" "web" {\n  name = terraform_data.name.output\n}`);
    await tf.write(`${HEAD}resource "terraform_data" "name" {\n  input = "shop"\n}
resource "reality_object" "web" {\n  name = terraform_data.name.output\n}`);
    expect((await tf.plan()).does).toContain("delete+create reality_object.web");
    expect(await tf.apply("plan.tfplan")).toEqual({ exitCode: 0, diagnostics: [] });
    expect([...reality.objects.values()].map(({ name }) => name)).toEqual(["shop"]);
  });

  it.each([
    ["a managed attribute", { size: 7 }, ["update reality_object.web"], ["update reality_object.web"]],
    [
      "one that takes its default",
      { tags: { by: "hand" } },
      ["update reality_object.web"],
      ["update reality_object.web"],
    ],
    ["a computed attribute alone", { revision: 5 }, [], ["update reality_object.web"]],
    ["a sensitive attribute", { secret: "known to all" }, ["update reality_object.web"], ["update reality_object.web"]],
    [
      "what forces a new object",
      { name: "other" },
      ["delete+create reality_object.web"],
      ["update reality_object.web"],
    ],
  ])("shows %s changed by hand as drift", async (_what, change, does, drift) => {
    await applied(`${WEB}  size = 2\n  secret = "s3cr3t"\n}`);
    reality.edit("web", change);
    expect(await tf.plan()).toMatchObject({ does, drift });
  });

  it("shows an object removed by hand as gone, and makes it again", async () => {
    await applied(`${WEB}}`);
    reality.remove("web");
    const plan = await tf.plan();
    expect(plan).toMatchObject({ does: ["create reality_object.web"], drift: ["delete reality_object.web"] });
    await tf.apply("plan.tfplan");
    expect(reality.named("web")).toBeDefined();
  });

  it("imports what is there without changing it, and says so when there is nothing", async () => {
    reality.objects.set("o9", { name: "web", size: 4, tags: null, secret: null, revision: 3 });
    const block = (id: string) => `import {\n  to = reality_object.web\n  id = "${id}"\n}\n${WEB}  size = 4\n}`;
    await tf.write(HEAD + block("o9"));
    const plan = await tf.plan();
    expect(plan.does).toEqual([]);
    await tf.apply("plan.tfplan");
    expect(await tf.state("reality_object.web")).toMatchObject({ id: "o9", size: 4, revision: 3 });
    await tf.run("state", "rm", "reality_object.web");
    await tf.write(HEAD + block("o1"));
    expect((await tf.plan()).diagnostics[0]).toMatch(/^There is no reality_object with the id "o1" \|/);
  });

  it("reads a data source, and shows the attribute for which there is nothing", async () => {
    reality.objects.set("o9", { name: "web", size: 4, tags: null, secret: null, revision: 3 });
    const data = (name: string) =>
      `data "reality_object" "it" {\n  name = "${name}"\n}\noutput "size" {\n  value = data.reality_object.it.size\n}`;
    await applied(data("web"));
    expect((await tf.run("output", "-raw", "size")).stdout).toBe("4");
    await tf.write(HEAD + data("shop"));
    expect((await tf.plan()).diagnostics).toEqual(['There is no object shop | name = "shop"']);
  });

  it("gives a write-only value to the provider and to no plan and no state", async () => {
    const withVersion = (version: number) =>
      `variable "token" {\n  ephemeral = true\n}\n${WEB}  token_wo = var.token\n  token_version = ${version}\n}`;
    await tf.write(HEAD + withVersion(1));
    await tf.apply("-var=token=t0ken-one");
    expect(reality.tokens.get("web")).toBe("t0ken-one");
    expect(await tf.stateText()).not.toContain("t0ken-one");
    expect(await tf.plan("-var=token=t0ken-two")).toMatchObject({ exitCode: 0, does: [] });
    await tf.write(HEAD + withVersion(2));
    expect(await tf.plan("-var=token=t0ken-two")).toMatchObject({ does: ["update reality_object.web"] });
    expect((await tf.run("show", "-json", "plan.tfplan")).stdout).not.toContain("t0ken-two");
    await tf.apply("-var=token=t0ken-two");
    expect(reality.tokens.get("web")).toBe("t0ken-two");
  });

  it("masks what is sensitive in what Terraform prints", async () => {
    await tf.write(`${HEAD}${WEB}  secret = "s3cr3t"\n}`);
    const { stdout } = await tf.run("plan", "-no-color");
    expect(stdout).toContain("(sensitive value)");
    expect(stdout).not.toContain("s3cr3t");
  });

  it("shows a refusal with its words and keeps the objects that are there", async () => {
    await tf.write(`${HEAD}${WEB}  fail = "before"\n}\nresource "reality_object" "ok" {\n  name = "ok"\n}`);
    const { exitCode, diagnostics } = await tf.apply();
    expect(exitCode).toBe(1);
    expect(diagnostics).toEqual([
      'Reality refuses web | It was told to, before the write. | resource "reality_object" "web" {',
    ]);
    expect(await tf.state("reality_object.web")).toBeUndefined();
    expect(await tf.state("reality_object.ok")).toMatchObject({ name: "ok" });

    await tf.write(`${HEAD}resource "reality_object" "ok" {\n  name = "ok"\n  size = 9\n  fail = "before"\n}`);
    expect((await tf.apply()).exitCode).toBe(1);
    expect(await tf.state("reality_object.ok")).toMatchObject({ size: 1 });
  });

  it("keeps an object that exists though its creation failed, and makes it anew next time", async () => {
    await tf.write(`${HEAD}${WEB}  fail = "after"\n}`);
    expect((await tf.apply()).exitCode).toBe(1);
    expect(await tf.state("reality_object.web")).toMatchObject({ id: "o1" });
    await tf.write(`${HEAD}${WEB}}`);
    const plan = await tf.plan();
    expect(plan.changes[0]?.action_reason).toBe("replace_because_tainted");
    await tf.apply("plan.tfplan");
    expect([...reality.objects.keys()]).toEqual(["o2"]);
  });

  it("refuses a value before anything is done, at its line", async () => {
    await tf.write(`${HEAD}resource "reality_object" "web" {\n  name = "Web!"\n}`);
    expect((await tf.run("validate", "-json")).stdout).toContain('name cannot be \\"Web!\\"');
    const { diagnostics } = await tf.plan();
    expect(diagnostics).toEqual(['name cannot be "Web!" | Use lower-case letters only. | name = "Web!"']);
    expect(reality.calls).toEqual([]);
  });

  it("says why the provider cannot be configured, at its line", async () => {
    await tf.write(`${HEAD}provider "reality" {\n  mood = "bad"\n}\n${WEB}}`);
    expect((await tf.plan()).diagnostics).toEqual(['Reality is in a bad mood | Try another mood. | mood = "bad"']);
  });

  it("is configured with what is known only in the apply, and says so where that comes too late", async () => {
    const late = (input: string) =>
      `resource "terraform_data" "mood" {\n  input = "${input}"\n}\nprovider "reality" {\n  mood = terraform_data.mood.output\n}\n`;
    await applied(`${late("good")}${WEB}}`);
    expect(reality.named("web")).toBeDefined();
    await tf.write(`${HEAD}${late("better")}${WEB}}`);
    expect((await tf.plan()).diagnostics[0]).toMatch(
      /^The provider's mood is not known yet \| It comes from something/,
    );
  });

  it("tells a create that is under way that Terraform was interrupted, and keeps what was finished", async () => {
    let begun = false;
    const patient = defineProvider({
      address: "terraform.test/shipway/patience",
      attributes: {},
      configure: () => undefined,
      resources: {
        patience_wait: resourcesOf<undefined>()({
          description: "Waits until it is interrupted.",
          attributes: { id: { type: "string", description: "Its id.", computed: true } },
          async create(_inputs, { signal }) {
            begun = true;
            await sleep(60_000, signal);
            return { id: "never" };
          },
          read: async (state) => state,
          remove: async () => undefined,
        }),
      },
      dataSources: {},
    });
    const dir = await newTerraformDir(patient);
    try {
      await dir.write(`terraform {
  required_providers {
    patience = { source = "terraform.test/shipway/patience" }
  }
}
resource "terraform_data" "done" {}
resource "patience_wait" "it" {
  depends_on = [terraform_data.done]
}`);
      const { interrupt, ended } = dir.start("apply", "-auto-approve", "-no-color");
      await until("the create", () => begun);
      interrupt();
      const { exitCode, stdout, stderr } = await ended;
      expect(exitCode).toBe(1);
      expect(stdout + stderr).toContain("Error: Interrupted");
      expect((await dir.run("state", "list")).stdout).toBe("terraform_data.done\n");
    } finally {
      await dir.close();
    }
  });

  it("reads state that lacks an attribute of today, or has one of yesterday", async () => {
    await applied(`${WEB}}`);
    const state = JSON.parse(await tf.stateText());
    const [{ attributes }] = state.resources[0].instances;
    delete attributes.delay_ms;
    attributes.color = "red";
    state.serial++;
    await tf.write(`${HEAD}${WEB}}`);
    await tf.pushState(JSON.stringify(state));
    expect(await tf.plan()).toMatchObject({ exitCode: 0, does: [], diagnostics: [] });
  });
});
