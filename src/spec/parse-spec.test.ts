import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ShipwayError } from "../shared/errors.ts";
import { parseAppSpec } from "./parse-spec.ts";

/** The problems that `text` is refused with, as they are shown. */
function problemsOf(text: string): string {
  return refusalOf(text).message.replace("shipway.yml is not valid:\n\n", "");
}

function refusalOf(text: string): ShipwayError {
  try {
    parseAppSpec(text);
  } catch (error) {
    if (error instanceof ShipwayError && error.code === "SPEC_INVALID") return error;
    throw error;
  }
  throw new Error("the text was accepted");
}

const lines = (...text: string[]) => `${text.join("\n")}\n`;
const WEB = ["app: shop", "services:", "  web:"];

describe("parseAppSpec", () => {
  it("fills in what the smallest file leaves out", () => {
    const spec = parseAppSpec(lines(...WEB, "    build: {}", "    port: 8080"));
    expect(spec.services.web).toMatchObject({
      build: { context: ".", args: {} },
      cpu: 256,
      count: 1,
      stopTimeout: 10_000,
    });
    expect(spec).toMatchObject({ bake: 3_000, standby: 1_800_000, environments: { production: { branch: "main" } } });
  });

  it("runs a text with sh and a list as it stands", () => {
    const { services } = parseAppSpec(lines(...WEB, "    image: a", "    command: [x, y]", "    release: a && b"));
    expect(services.web).toMatchObject({ command: ["x", "y"], release: ["sh", "-c", "a && b"] });
  });

  it("keeps the characters of numbers and booleans where text is wanted", () => {
    const { services, backing } = parseAppSpec(
      lines(
        ...WEB,
        "    build: { args: { NODE: 20.10 } }",
        "    env: { A: 1.10, B: 0123, C: True, D: 1e3, E: 0x10, F: 8080, G: '' }",
        "backing: { db: { engine: mysql, version: 8.40 } }",
      ),
    );
    expect(services.web?.env).toEqual({ A: "1.10", B: "0123", C: "True", D: "1e3", E: "0x10", F: "8080", G: "" });
    expect([services.web?.build?.args, backing.db?.version]).toEqual([{ NODE: "20.10" }, "8.40"]);
  });

  it("follows anchors and merge keys", () => {
    const { services } = parseAppSpec(
      lines(
        "app: shop",
        "services:",
        "  web: &base",
        "    image: a",
        "    cpu: 512",
        "  api:",
        "    <<: *base",
        "    image: b",
      ),
    );
    expect(services.api).toMatchObject({ image: "b", cpu: 512 });
  });

  it("names the file it was given and says what to do", () => {
    expect(() => parseAppSpec("app: 1", "deploy/shipway.yml")).toThrow(
      /^deploy\/shipway.yml is not valid:\n\ndeploy\/shipway.yml:1:1/,
    );
    expect(refusalOf("app: 1").hint).toContain("`shipway check`");
  });
});

describe("a broken file", () => {
  it.each([
    {
      name: "a typing error in a key",
      text: lines(...WEB, "    image: a", "    prot: 80"),
      shown: lines(
        'shipway.yml:5:5  unknown key "prot" – did you mean "port"?',
        "    5 |     prot: 80",
        "      |     ^^^^",
      ),
    },
    {
      name: "a key from another tool",
      text: lines(...WEB, "    image: a", "    replicas: 3"),
      shown: lines(
        'shipway.yml:5:5  unknown key "replicas" – did you mean "count"?',
        "    5 |     replicas: 3",
        "      |     ^^^^^^^^",
      ),
    },
    {
      name: "a key that is like none",
      text: lines(...WEB, "    image: a", "zebra: 1"),
      shown: lines(
        'shipway.yml:5:1  unknown key "zebra": this place takes app, services, backing, environments, ci, verify, bake, standby',
        "    5 | zebra: 1",
        "      | ^^^^^",
      ),
    },
    {
      name: "a number in quotes",
      text: lines(...WEB, "    image: a", '    port: "80"'),
      shown: lines(
        'shipway.yml:5:11  port must be a number, not "80"',
        '    5 |     port: "80"',
        "      |           ^^^^",
      ),
    },
    {
      name: "a number out of range",
      text: lines(...WEB, "    image: a", "    port: 70000"),
      shown: lines(
        "shipway.yml:5:11  port must be at most 65535, not 70000",
        "    5 |     port: 70000",
        "      |           ^^^^^",
      ),
    },
    {
      name: "a key without a value",
      text: lines(...WEB, "    image:", "    port: 80"),
      shown: lines("shipway.yml:4:5  image has no value: write text", "    4 |     image:", "      |     ^^^^^"),
    },
    {
      name: "a variable without a value",
      text: lines(...WEB, "    image: a", "    env:", "      A:"),
      shown: lines(
        "shipway.yml:6:7  A has no value: write text, a number or true/false",
        "    6 |       A:",
        "      |       ^",
      ),
    },
    {
      name: "a required key that is not there",
      text: lines("services:", "  web:", "    image: a"),
      shown: lines('shipway.yml:1:1  the file needs "app": name of the app', "    1 | services:", "      | ^"),
    },
    {
      name: "a bad name",
      text: lines("app: My Shop", "services:", "  web:", "    image: a"),
      shown: lines(
        'shipway.yml:1:6  app is "My Shop": use 1 to 30 lower-case letters, digits and dashes, starting with a letter',
        "    1 | app: My Shop",
        "      |      ^^^^^^^",
      ),
    },
    {
      name: "a duration without its unit",
      text: lines(...WEB, "    image: a", "bake: 5"),
      shown: lines(
        "shipway.yml:5:7  bake is 5: write a duration with its unit, such as 500ms, 5s, 2m or 1h",
        "    5 | bake: 5",
        "      |       ^",
      ),
    },
    {
      name: "a duration no timer can wait",
      text: lines(...WEB, "    image: a", "standby: 90d"),
      shown: lines(
        'shipway.yml:5:10  standby is "90d": use at most 20d',
        "    5 | standby: 90d",
        "      |          ^^^",
      ),
    },
    {
      name: "a choice that does not exist",
      text: lines(...WEB, "    image: a", "backing: { db: { engine: postgress } }"),
      shown: lines(
        'shipway.yml:5:26  engine must be mysql, mariadb, redis or postgres, not "postgress" – did you mean "postgres"?',
        "    5 | backing: { db: { engine: postgress } }",
        "      |                          ^^^^^^^^^",
      ),
    },
    {
      name: "a list with a wrong entry",
      text: lines(...WEB, "    image: a", "    command: [sh, 1]"),
      shown: lines(
        "shipway.yml:5:19  entry 2 must be text, not 1",
        "    5 |     command: [sh, 1]",
        "      |                   ^",
      ),
    },
    {
      name: "build as a text",
      text: lines(...WEB, "    build: ."),
      shown: lines(
        'shipway.yml:4:12  build is ".": write build: { context: FOLDER }, or build: {} for the whole repository',
        "    4 |     build: .",
        "      |            ^",
      ),
    },
    {
      name: "a path outside the repository",
      text: lines(...WEB, "    build: { context: ../x }"),
      shown: lines(
        'shipway.yml:4:23  context is "../x": use a path inside the repository',
        "    4 |     build: { context: ../x }",
        "      |                       ^^^^",
      ),
    },
    {
      name: "a health path that would break the router's file",
      text: lines(...WEB, "    image: a", "    port: 1", '    health: { path: "/a b" }'),
      shown: lines(
        'shipway.yml:6:21  path is "/a b": write a path such as /health, without blanks or quotes',
        '    6 |     health: { path: "/a b" }',
        "      |                     ^^^^^^",
      ),
    },
    {
      name: "a key written twice",
      text: lines("app: a", "app: b"),
      shown: lines("shipway.yml:2:1  this key is written twice: keys must be unique", "    2 | app: b", "      | ^"),
    },
    {
      name: "a tab",
      text: "app: a\nservices:\n\tweb: {}\n",
      shown: lines(
        "shipway.yml:3:1  tabs are not allowed as indentation: use spaces",
        "    3 | \tweb: {}",
        "      | ^",
      ),
    },
    {
      name: "a list as a key",
      text: lines("app: a", "[x]: 1"),
      shown: lines("shipway.yml:2:1  a key must be a plain word", "    2 | [x]: 1", "      | ^^^"),
    },
    {
      name: "two documents",
      text: lines("app: a", "---", "app: b"),
      shown: lines(
        "shipway.yml:2:1  a second YAML document begins here: the file must hold one",
        "    2 | ---",
        "      | ^",
      ),
    },
    {
      name: "a tag",
      text: lines("app: !!js/function x"),
      shown: lines("shipway.yml:1:6  unknown YAML tag js/function", "    1 | app: !!js/function x", "      |      ^"),
    },
    {
      name: "no text at all",
      text: "app: a\u0000b\n",
      shown: lines(
        "shipway.yml:1:7  this is not text: a character (U+0000) that YAML does not allow; save the file as UTF-8",
        "    1 | app: a?b",
        "      |       ^",
      ),
    },
    {
      name: "a list",
      text: "- a\n",
      shown: lines(
        "shipway.yml:1:1  the file is a list: it must be a mapping with the keys app and services",
        "    1 | - a",
        "      | ^",
      ),
    },
    {
      name: "a word",
      text: "hello\n",
      shown: lines(
        "shipway.yml:1:1  the file is a single value: it must be a mapping with the keys app and services",
        "    1 | hello",
        "      | ^",
      ),
    },
    {
      name: "no service",
      text: "app: a\nservices: {}\n",
      shown: lines(
        "shipway.yml:2:11  services: declare at least one service",
        "    2 | services: {}",
        "      |           ^^",
      ),
    },
  ])("with $name is shown at its place", ({ text, shown }) => {
    expect(`${problemsOf(text)}\n`).toBe(shown);
  });

  it.each(["", "\n\n", "# only a comment\n", "---\n", "~\n"])(
    "that is empty (%j) is answered with one to begin with",
    (text) => {
      expect(problemsOf(text)).toContain("the file is empty");
      const [, example = ""] = (refusalOf(text).hint ?? "").split("\n\n");
      expect(parseAppSpec(example).app).toBe("shop");
    },
  );

  it("shows all problems of all kinds at once, in the order of the file", () => {
    const text = lines(
      ...WEB,
      "    image: a",
      "    prot: 1",
      "  api:",
      "    image: b",
      "    build: {}",
      "verify:",
      "  - { service: wbe, command: x }",
      "bake: 1",
    );
    expect(problemsOf(text).match(/^shipway.yml:\S+ {2}.*/gm)).toEqual([
      'shipway.yml:5:5  unknown key "prot" – did you mean "port"?',
      "shipway.yml:7:5  a service has either build or image, not both",
      'shipway.yml:10:16  there is no service "wbe": did you mean "web"?',
      "shipway.yml:11:7  bake is 1: write a duration with its unit, such as 500ms, 5s, 2m or 1h",
    ]);
  });

  it("does not blame a field for the one that is broken beside it", () => {
    const text = lines(...WEB, "    image: 7", "    domains: [a.example]", "    port: x");
    expect(problemsOf(text).match(/^shipway.yml:\d+:\d+/gm)).toEqual(["shipway.yml:4:12", "shipway.yml:6:11"]);
  });

  it.each([
    { name: "too large", text: `# ${"x".repeat(256 * 1024)}`, why: "larger than 256 KiB" },
    { name: "nested too deeply", text: "[".repeat(100_000), why: "nested too deeply" },
    { name: "an alias that contains itself", text: "app: &a\n  b: *a\n", why: "contains itself" },
    {
      name: "aliases that multiply",
      text: `a0: &a0 [x]\n${Array.from({ length: 20 }, (_, n) => `a${n + 1}: &a${n + 1} [${`*a${n},`.repeat(9)}]`).join("\n")}\n`,
      why: "expand to more than",
    },
    {
      name: "wrong in a thousand places",
      text: lines(...WEB, "    image: a", ...Array.from({ length: 1_000 }, (_, n) => `k${n}: 1`)),
      why: "… and 960 more",
    },
  ])("that is $name is refused shortly and soon", ({ text, why }) => {
    const shown = problemsOf(text);
    expect(shown).toContain(why);
    expect(shown.length).toBeLessThan(20_000);
  });

  it("does not blame ci's environment for a mistake in where steps run", () => {
    const found = problemsOf(lines(...WEB, "    build: {}", "ci: { steps: ecss, environment: production }"));
    expect(found).toContain('steps must be docker or ecs, not "ecss"');
    expect(found).not.toContain("environment needs");
  });
});

describe("any text at all", () => {
  const words = fc.constantFrom(
    "app",
    "services",
    "web",
    "image",
    "build",
    "env",
    "port",
    "<<",
    "*a",
    "&a",
    "null",
    "1",
    "{}",
    "[]",
    "constructor",
    "__proto__",
    "verify",
    "environments",
    "health",
  );
  const yamlish = fc
    .array(fc.tuple(fc.nat(4), words, fc.constantFrom(":", ": ", " - ", "\n", ""), words), { maxLength: 12 })
    .map((rows) => rows.map(([indent, a, mark, b]) => `${"  ".repeat(indent)}${a}${mark}${b}`).join("\n"));
  const acceptedOrRefused = (text: string) => {
    try {
      parseAppSpec(text);
    } catch (error) {
      expect(error).toMatchObject({ code: "SPEC_INVALID", hint: expect.any(String) });
    }
  };

  it("is either accepted or refused with SPEC_INVALID", () => {
    fc.assert(fc.property(fc.string({ unit: "binary", maxLength: 60 }), acceptedOrRefused), { numRuns: 300 });
    fc.assert(fc.property(yamlish, acceptedOrRefused), { numRuns: 500 });
  });

  it("is so, too, when it is JSON of any shape under the known keys", () => {
    const keyed = fc.dictionary(words, fc.jsonValue({ maxDepth: 3 }), { maxKeys: 6 });
    fc.assert(
      fc.property(keyed, (value) =>
        acceptedOrRefused(JSON.stringify({ app: "a", services: { web: value }, ...value })),
      ),
      { numRuns: 500 },
    );
  });
});
