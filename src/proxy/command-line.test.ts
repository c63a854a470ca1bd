import { describe, expect, it } from "vitest";
import { parseCommandLine } from "./command-line.ts";

describe("parseCommandLine", () => {
  it("takes the line that Istio's agent starts Envoy with", () => {
    const line = parseCommandLine(
      "-c etc/istio/proxy/envoy-rev.json --drain-time-s 45 --drain-strategy immediate --local-address-ip-version v4 --file-flush-interval-msec 1000 --disable-hot-restart --allow-unknown-static-fields -l warning --component-log-level misc:error --skip-deprecated-logs --concurrency 2".split(
        " ",
      ),
    );
    expect(line.source).toEqual({ path: "etc/istio/proxy/envoy-rev.json", allowUnknownFields: true });
    expect(line.server).toMatchObject({
      drainTimeMs: 45_000,
      drainStrategy: "immediate",
      fileFlushIntervalMs: 1000,
      logLevel: "warning",
      componentLogLevel: "misc:error",
      concurrency: 2,
    });
  });

  it("takes values after a space and after an equals sign", () => {
    expect(parseCommandLine(["--config-path=a.yaml", "--mode=validate"])).toMatchObject({ mode: "validate", source: { path: "a.yaml" } });
    expect(parseCommandLine(["-ca.yaml"]).source.path).toBe("a.yaml");
  });

  it.each([
    [["--nope"], /Couldn't find match for argument/],
    [["-c"], /Missing a value/],
    [["--concurrency", "many"], /Couldn't read argument value/],
    [["-l", "loud"], /unknown log level 'loud'/],
    [["--mode", "dance"], /unknown mode 'dance'/],
    [["bootstrap.yaml"], /Couldn't find match for argument/],
    [["--version=1"], /takes no value/],
  ])("refuses %j", (args, message) => {
    expect(() => parseCommandLine(args)).toThrow(message);
  });
});
