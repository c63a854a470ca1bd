/** Who may import whom: the table of ARCHITECTURE.md, and that each npm package is where it belongs. */
import { globSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, expect, it } from "vitest";

const mayImport: Record<string, readonly string[]> = {
  lib: [],
  api: ["lib"],
  platform: ["lib"],
  ads: ["api", "lib"],
  config: ["api", "lib"],
  registry: ["api", "lib"],
  istiod: ["registry", "config", "ads", "api", "platform", "lib"],
  proxy: ["ads", "api", "platform", "lib"],
  agent: ["proxy", "ads", "api", "platform", "lib"],
  istioctl: ["config", "api", "lib"],
  join: ["api", "lib"],
  samples: ["lib"],
  // The quickstart is a composition of the programs, as main.ts is.
  quickstart: ["istiod", "agent", "proxy", "samples", "platform", "api", "lib"],
};

interface Import {
  readonly file: string;
  readonly folder: string;
  readonly target: string;
}

const root = join(import.meta.dirname, "..");
const files = globSync("src/**/*.ts", { cwd: root }).filter((file) => !file.startsWith("src/api/gen/") && !file.endsWith(".test.ts"));

function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), "utf8");
  const folder = file.split("/")[1]!;
  return [...text.matchAll(/(?:from|import\()\s*"(?<path>[^"]+)"/g)].map((match) => {
    const path = match.groups!.path!;
    return { file, folder, target: path.startsWith(".") ? normalize(join(dirname(file), path)) : path };
  });
}

const imports = files.filter((file) => file !== "src/main.ts").flatMap(importsOf);

describe("architecture", () => {
  it("lets a folder import only what lies beneath it", () => {
    const strays = imports
      .filter(({ target }) => target.startsWith("src/"))
      .filter(({ folder, target }) => {
        const other = target.split("/")[1]!;
        return other !== folder && !(mayImport[folder] ?? []).includes(other);
      })
      .map(({ file, target }) => `${file} imports ${target}`);
    expect(strays).toEqual([]);
  });

  it("knows every folder of src", () => {
    const folders = new Set(files.filter((file) => file.split("/").length > 2).map((file) => file.split("/")[1]!));
    expect([...folders].filter((folder) => !(folder in mayImport))).toEqual([]);
  });

  it("keeps registry and xDS generation free of clocks, I/O and environment", () => {
    const impure = imports
      .filter(({ file }) => file.startsWith("src/registry/") || file.startsWith("src/istiod/xds/"))
      .filter(({ target }) => target.startsWith("node:") && !["node:crypto", "node:net", "node:util"].includes(target))
      .map(({ file, target }) => `${file} imports ${target}`);
    expect(impure).toEqual([]);
  });

  /** Where the configuration itself names the variable: %ENVIRONMENT(X)% in an access log format, DataSource.environment_variable. */
  const namedByConfiguration = ["src/proxy/accesslog/format.ts", "src/proxy/data-source.ts"];

  it("reads the environment and the command line in main.ts files alone", () => {
    const readers = files.filter((file) => {
      if (
        file.endsWith("/main.ts") ||
        file === "src/proxy/worker.ts" || // the main program of a thread
        file === "src/main.ts" ||
        file === "src/lib/version.ts" ||
        namedByConfiguration.includes(file) ||
        file.startsWith("src/istioctl/")
      )
        return false;
      return /process\.(env|argv|exit\b)/.test(readFileSync(join(root, file), "utf8"));
    });
    expect(readers).toEqual([]);
  });

  it("leaves the console alone", () => {
    const writers = files.filter((file) => /\bconsole\./.test(readFileSync(join(root, file), "utf8")));
    expect(writers).toEqual([]);
  });
});
