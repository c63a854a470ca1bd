import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { ConfigError } from "../../api/config-error.ts";
import { loadBootstrap } from "./bootstrap.ts";

const directories: string[] = [];
afterEach(() => {
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true });
});

function file(name: string, text: string | Uint8Array): string {
  const directory = mkdtempSync(path.join(tmpdir(), "topsail-bootstrap-"));
  directories.push(directory);
  const full = path.join(directory, name);
  writeFileSync(full, text);
  return full;
}

function failure(load: () => unknown): ConfigError {
  try {
    load();
  } catch (error) {
    if (error instanceof ConfigError) return error;
    throw error;
  }
  throw new Error("it was accepted");
}

describe("loadBootstrap", () => {
  it("names file, line and field of what is wrong", () => {
    const yaml = "static_resources:\n  clusters:\n  - name: a\n    connect_timeout: 5\n";
    const full = file("bootstrap.yaml", yaml);
    const error = failure(() => loadBootstrap({ path: full }));
    expect(error).toMatchObject({ field: "static_resources.clusters[0].connect_timeout", position: { file: full, line: 4 } });
  });

  it("knows the line in JSON too", () => {
    const full = file("bootstrap.json", '{\n "static_resources": {\n  "nope": 1\n }\n}\n');
    expect(failure(() => loadBootstrap({ path: full }))).toMatchObject({ field: "static_resources.nope", position: { line: 3 } });
  });

  it("merges --config-yaml over the file: scalars replaced, messages merged, lists grown", () => {
    const full = file("bootstrap.yaml", "node: {id: a, cluster: c}\nstatic_resources: {clusters: [{name: one}]}\n");
    const { bootstrap } = loadBootstrap({ path: full, yaml: "node: {id: b}\nstaticResources: {clusters: [{name: two}]}" });
    expect(bootstrap.node).toMatchObject({ id: "b", cluster: "c" });
    expect(bootstrap.staticResources?.clusters.map(({ name }) => name)).toEqual(["one", "two"]);
  });

  it("fills in a well-known filter that has only a name, and says so", () => {
    const hcm = {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
      stat_prefix: "s",
      http_filters: [{ name: "envoy.filters.http.router" }],
      route_config: {},
    };
    const listener = {
      name: "l",
      address: { socket_address: { address: "127.0.0.1", port_value: 1 } },
      filter_chains: [{ filters: [{ name: "h", typed_config: hcm }] }],
    };
    const { warnings } = loadBootstrap({ yaml: JSON.stringify({ static_resources: { listeners: [listener] } }) });
    expect(warnings).toEqual([expect.stringContaining("'envoy.filters.http.router' has no typed_config")]);
  });

  it("counts unknown fields instead of refusing them when asked to", () => {
    const { unknownFields, warnings } = loadBootstrap({ yaml: "nope: 1\nnode: {more: 2}", allowUnknownFields: true });
    expect([unknownFields, warnings.length]).toEqual([2, 2]);
  });

  it("passes over a field that Envoy has since, and says so", () => {
    expect(loadBootstrap({ yaml: "stats_eviction_interval: 5s" }).warnings).toEqual([expect.stringContaining("stats_eviction_interval")]);
  });

  it.each([
    ["nothing", "", /Unable to convert YAML as JSON/],
    ["a list", "- a\n- b\n", /Unable to convert YAML as JSON/],
    ["broken YAML", "a: [b", /yaml: error at line 1/],
    ["bytes", "\x00\x01\x02", /NUL bytes/],
    ["an alias that is no anchor", "a: *b", /[Uu]nresolved alias/],
    [
      "a type that nobody has",
      'admin: {access_log: [{name: x, typed_config: {"@type": type.googleapis.com/a.B}}]}',
      /could not find @type 'type.googleapis.com\/a.B'/,
    ],
  ])("refuses %s", (_name, text, message) => {
    expect(failure(() => loadBootstrap({ path: file("bootstrap.yaml", text) })).message).toMatch(message);
  });

  it("refuses aliases that multiply beyond measure", () => {
    const bomb = ["a: &a [x, x, x, x, x, x, x, x, x]"];
    for (const [from, to] of ["ab", "bc", "cd", "de", "ef", "fg"]) bomb.push(`${to}: &${to} [${Array(9).fill(`*${from}`).join(", ")}]`);
    expect(failure(() => loadBootstrap({ yaml: bomb.join("\n") })).message).toMatch(/Excessive alias count/);
  });

  it("refuses nesting without end and files without end", () => {
    const deep = `${'{"a":'.repeat(200)}1${"}".repeat(200)}`;
    expect(failure(() => loadBootstrap({ yaml: `node: {metadata: {}, locality: ${deep}}` })).message).toMatch(
      /no such field|too deeply nested/,
    );
    expect(failure(() => loadBootstrap({ path: file("big.yaml", Buffer.alloc(17 * 1024 * 1024, 0x61)) })).message).toMatch(
      /more than 16777216/,
    );
  });

  it("refuses a directory and a file that is not there", () => {
    expect(failure(() => loadBootstrap({ path: tmpdir() })).message).toMatch(/directory/);
    expect(failure(() => loadBootstrap({ path: "/no/such/file.yaml" })).message).toBe("Invalid path: /no/such/file.yaml");
  });
});
