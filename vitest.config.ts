import { defineConfig } from "vitest/config";

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
          testTimeout: 20_000,
          hookTimeout: 60_000,
        },
      },
      {
        test: {
          name: "e2e",
          include: ["test/**/*.test.ts"],
          testTimeout: 240_000,
          hookTimeout: 240_000,
        },
      },
    ],
  },
});
