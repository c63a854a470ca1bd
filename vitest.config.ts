import { configDefaults, defineConfig } from "vitest/config";

/** What takes a whole release, a scanner ten minutes, or gigabytes of Istio's modules: `npm run test:release` runs these, and `npm test` all others. */
const release = ["test/packages/release.test.ts", "test/conformance/testssl.test.ts", "test/interop/istio-agent.test.ts"];
const isRelease = process.env.TOPSAIL_TEST_RELEASE === "1";

export default defineConfig({
  test: {
    include: isRelease ? release : ["src/**/*.test.ts", "test/**/*.test.ts"],
    exclude: isRelease ? configDefaults.exclude : [...configDefaults.exclude, ...release],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Real proxies, Envoys and control planes run inside the tests: on two cores more than two files at a time only add noise.
    maxWorkers: 2,
  },
});
