import { defineConfig, type ViteUserConfig } from "vitest/config";

/** Whole systems: servers, workers and databases as processes, with deadlines of their own. */
const SYSTEM_TESTS = ["test/e2e/**/*.test.ts", "test/runtime/{server,postgres}.test.ts", "test/quickstart.test.ts"];
const LIMITS = { testTimeout: 60_000, hookTimeout: 60_000, expect: { poll: { timeout: 20_000 } } };

const config: ViteUserConfig = defineConfig({
  test: {
    globalSetup: ["test/support/run-folder.ts", "test/support/postgres-server.ts", "test/support/radosgw-server.ts"],
    projects: [
      {
        test: {
          ...LIMITS,
          name: "parts",
          include: ["**/*.test.ts"],
          exclude: ["**/node_modules/**", ...SYSTEM_TESTS],
          maxWorkers: 2,
          sequence: { groupOrder: 1 },
        },
      },
      {
        // One at a time: they share two cores badly, and several of them at once run into each other's deadlines.
        test: { ...LIMITS, name: "systems", include: SYSTEM_TESTS, maxWorkers: 1, sequence: { groupOrder: 2 } },
      },
    ],
  },
});

export default config;
