import { relative } from "node:path";
import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

// A machine that is shared or slow for a moment must not fail a build. What passed only at its second try is named as such by the reporter, and is to be mended.
const retry = process.env.CI === undefined ? 0 : 1;

/** Long kinds first, since of a clean checkout nothing is known but names. */
const LONG = [/\.terraform\.test/, /\.docker\.test/, /\.moto\.test/];

/** Files of e2e mostly wait, the others mostly compute: taken by turns, they share the machine evenly. */
class ByTurns extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rankOf = ({ moduleId }: TestSpecification): number =>
      LONG.findIndex((kind) => kind.test(moduleId)) + 1 || LONG.length + 1;
    const sorted = (await super.sort(files)).sort((a, b) => rankOf(a) - rankOf(b));
    const isWhole = ({ moduleId }: TestSpecification): boolean =>
      relative(this.ctx.config.root, moduleId).startsWith("test/");
    const [wholes, parts] = [sorted.filter(isWhole), sorted.filter((file) => !isWhole(file))];
    return sorted.flatMap((_, turn) => [...wholes.slice(turn, turn + 1), ...parts.slice(turn, turn + 1)]);
  }
}

export default defineConfig({
  test: {
    // More than the cores of a small machine: most tests wait for Docker, git or Postgres. Never fewer, either: vitest now and then loses a file when it
    // takes away a worker that several files share.
    maxWorkers: 3,
    minWorkers: 3,
    sequence: { sequencer: ByTurns },
    projects: [
      {
        test: {
          name: "unit",
          include: ["src/**/*.test.ts"],
          globalSetup: ["src/store/test-postgres.ts"],
          retry,
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      {
        test: {
          name: "e2e",
          include: ["test/**/*.test.ts"],
          retry,
          testTimeout: 240_000,
          hookTimeout: 240_000,
        },
      },
    ],
  },
});
