import { defineConfig } from "vitest/config";

// A machine that is shared or slow for a moment must not fail a build. What passed only at its second try is named as such by the reporter, and is to be mended.
const retry = process.env.CI === undefined ? 0 : 1;

export default defineConfig({
  test: {
    // More than the cores of a small machine: most tests wait for Docker, git or Postgres.
    maxWorkers: 3,
    minWorkers: 1,
    projects: [
      {
        test: {
          name: "unit",
          include: ["src/**/*.test.ts"],
          globalSetup: ["src/store/test-postgres.ts"],
          retry,
          testTimeout: 20_000,
          hookTimeout: 60_000,
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
