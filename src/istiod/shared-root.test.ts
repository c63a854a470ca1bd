/** Several control planes of one mesh: what one has signed is good for the others. */
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { decodeObject } from "../api/documents/decode-object.ts";
import { defaultMesh } from "../api/mesh/decode-mesh.ts";
import { MemoryStore } from "../config/memory.ts";
import { StoreError } from "../config/store.ts";
import { loadSelfSigned } from "./ca/self-signed.ts";
import { loadTokenKey } from "./ca/service-account-tokens.ts";
import { readStoredRoot, renewSharedRoot } from "./ca/stored-root.ts";
import { DiscoveryServer } from "./discovery-server.ts";
import { SecurePort, type SecurePortOptions } from "./secure-port.ts";
import { createCertificate, makeRequest } from "./testing/certificate-client.ts";

const account = { namespace: "vm", serviceAccount: "default" };
const identity = "spiffe://cluster.local/ns/vm/sa/default";
const rootKey = { kind: "Secret", namespace: "istio-system", name: "istio-ca-secret" } as const;
const tenYears = 3650 * 24 * 3600_000;

let stack: AsyncDisposableStack;
let directory: string;
let store: MemoryStore;

beforeEach(() => {
  stack = new AsyncDisposableStack();
  directory = mkdtempSync(join(tmpdir(), "topsail-shared-"));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  store = stack.use(new MemoryStore({ isShared: true }));
});
afterEach(() => stack.disposeAsync());

async function start(more: Partial<SecurePortOptions> = {}): Promise<SecurePort> {
  const used = more.store ?? store;
  const discovery = stack.use(new DiscoveryServer({ store: used, mesh: defaultMesh(), domain: "cluster.local" }));
  const options = { host: "127.0.0.1", port: 0, discovery, store: used, dataDir: undefined, authorityDir: undefined, serverNames: [] };
  return stack.use(await SecurePort.start({ ...options, ...more }));
}

/** A token of the first gets a certificate of the second, and that gets another one of the first. */
async function expectOneMesh(first: SecurePort, second: SecurePort): Promise<void> {
  expect(first.authority.trustBundle).toBe(second.authority.trustBundle);
  const root = first.authority.trustBundle;
  const { token } = await first.tokens.issue(account, ["istio-ca"], 600);
  const { csr, key } = await makeRequest(identity);
  const [chain] = await createCertificate(csr, 60, { port: second.port, root, token });
  const client = { chain: chain!, key: key.export({ type: "pkcs8", format: "pem" }) as string };
  await expect(createCertificate(csr, 60, { port: first.port, root, client })).resolves.toHaveLength(2);
}

describe("control planes that share a store", () => {
  it("have one root and one key for tokens, when they start at once and later", async () => {
    const [first, second] = await Promise.all([start(), start()]);
    await expectOneMesh(first, second);
    await expectOneMesh(second, await start());
  });

  it("make the root of the first one's directory the common one", async () => {
    const dataDir = join(directory, "data");
    const { certificate } = await loadSelfSigned(join(dataDir, "ca"), "before");
    const first = await start({ dataDir });
    expect(first.authority.signingCertificate).toBe(certificate);
    await expectOneMesh(first, await start({ dataDir: join(directory, "other") }));
  });

  it("follow a root that is prolonged once, whoever finds it due", async () => {
    const [first, second] = await Promise.all([start(), start()]);
    const before = first.authority.signingCertificate;
    const due = Date.now() + tenYears * 0.9;
    expect(await renewSharedRoot(store, "cluster.local", Date.now())).toBe(false);
    const outcomes = await Promise.all([renewSharedRoot(store, "cluster.local", due), renewSharedRoot(store, "cluster.local", due)]);
    expect(outcomes.sort()).toEqual([false, true]);
    await expect.poll(() => first.authority.roots.length).toBe(2);
    await expect.poll(() => second.authority.trustBundle).toBe(first.authority.trustBundle);
    expect(first.authority.roots[1]).toBe(before);
    await expectOneMesh(first, second);
  });

  it("keep the last good root when somebody damages the stored one", async () => {
    const running = await start();
    const before = running.authority.trustBundle;
    const stored = store.get(rootKey)!;
    const raw = { ...stored.raw, data: { ...(stored.raw.data as object), "ca-cert.pem": "AAAA" } };
    await store.put(decodeObject(raw).object!);
    expect(() => readStoredRoot(store)).toThrow("holds no certificate in PEM");
    expect(running.authority.trustBundle).toBe(before);
    await expect(start()).rejects.toThrow("holds no certificate in PEM");
  });
});

describe("a control plane that shares nothing", () => {
  beforeEach(() => {
    store = stack.use(new MemoryStore());
  });

  it("takes Istio's root where the store has one, and writes nothing", async () => {
    const { certificate, key } = await loadSelfSigned(undefined, "istio");
    const encode = (text: string) => Buffer.from(text).toString("base64");
    // As Istio writes it: the root is in ca-cert.pem alone.
    const data = {
      "ca-cert.pem": encode(certificate),
      "ca-key.pem": encode(key.export({ type: "pkcs8", format: "pem" }) as string),
      "root-cert.pem": "",
    };
    const { kind, namespace, name } = rootKey;
    await store.put(decodeObject({ apiVersion: "v1", kind, metadata: { namespace, name }, type: "istio.io/ca-root", data }).object!);
    const { revision } = store;
    const started = await start();
    expect(started.authority.roots).toEqual([certificate]);
    expect(store.revision).toBe(revision);
  });

  it("is of one mesh with another that has the same plugged-in files", async () => {
    const [one, two] = [join(directory, "one"), join(directory, "two")];
    await loadSelfSigned(one, "plugged");
    await loadTokenKey(directory);
    cpSync(join(directory, "ca", "token-key.pem"), join(one, "token-key.pem"));
    cpSync(one, two, { recursive: true });
    await expectOneMesh(await start({ authorityDir: one }), await start({ authorityDir: two }));
    expect(store.list()).toEqual([]);
  });

  it("says so when the store does not take the root", async () => {
    const refusing = new MemoryStore({ isShared: true });
    refusing.put = () => Promise.reject(new StoreError("unavailable", "the store is away"));
    await expect(start({ store: refusing })).rejects.toThrow("the store is away");
  });
});
