import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { filesIn } from "./key-pair.ts";
import { mountedFiles } from "./mounted-files.ts";

let directory: string;
let certs: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "mounted-"));
  certs = join(directory, "etc/certs");
  mkdirSync(certs, { recursive: true });
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

const client = () => ({
  TLS_CLIENT_CERT_CHAIN: join(directory, "chain"),
  TLS_CLIENT_KEY: join(directory, "key"),
  TLS_CLIENT_ROOT_CERT: join(directory, "root"),
});

describe("mountedFiles", () => {
  it("are those of etc/certs for the workload, and for calls to the control plane as well where nothing else is named", () => {
    expect(mountedFiles({}, certs)).toEqual({ workload: filesIn(certs), client: undefined, clientRoot: undefined });
  });

  it("are those that the node names for calls, and for the workload where etc/certs has none", () => {
    const [chain, privateKey, root] = Object.values(client()) as [string, string, string];
    const calls = { client: { chain, privateKey }, clientRoot: root };
    expect(mountedFiles(client(), certs)).toEqual({ workload: { chain, privateKey, root }, ...calls });
    for (const file of Object.values(filesIn(certs))) writeFileSync(file, "");
    expect(mountedFiles(client(), certs)).toEqual({ workload: filesIn(certs), ...calls });
  });

  it("may be a root alone", () => {
    const { TLS_CLIENT_ROOT_CERT: root } = client();
    expect(mountedFiles({ TLS_CLIENT_ROOT_CERT: root }, certs)).toMatchObject({ client: undefined, clientRoot: root });
  });

  it("are no half of a pair, and are in directories that are there", () => {
    expect(() => mountedFiles({ TLS_CLIENT_KEY: "/k" }, certs)).toThrow("ISTIO_META_TLS_CLIENT_CERT_CHAIN: is missing");
    expect(() => mountedFiles({ TLS_CLIENT_CERT_CHAIN: "/c" }, certs)).toThrow("ISTIO_META_TLS_CLIENT_KEY: is missing");
    rmSync(certs, { recursive: true });
    expect(() => mountedFiles({}, certs)).toThrow(`FILE_MOUNTED_CERTS: there is no directory ${certs}`);
    expect(() => mountedFiles({ ...client(), TLS_CLIENT_KEY: "/none/k" }, certs)).toThrow("there is no directory /none");
  });
});
