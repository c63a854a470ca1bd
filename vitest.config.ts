import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["src/**/*.test.ts", "test/**/*.test.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Real proxies, Envoys and control planes run inside the tests: on two cores more than two files at a time only add noise.
    maxWorkers: 2,
  },
});
