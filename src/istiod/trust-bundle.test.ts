/** Whom the mesh trusts, and who may call: roots of several authorities, written down and published, and of other trust domains. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { status } from "@grpc/grpc-js";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { spiffeBundle, startBundleEndpoint, type TestBundleEndpoint } from "../../test/support/bundle-endpoint.ts";
import { type Identity, makeMeshCa } from "../../test/support/mesh-ca.ts";
import { splitCertificates } from "../lib/pem.ts";
import { parseSpiffeBundle } from "./ca/spiffe-bundle.ts";
import { parseForeignBundles } from "./ca/trust-bundle.ts";
import { Istiod, type IstiodOptions } from "./istiod.ts";
import { createCertificate, makeRequest } from "./testing/certificate-client.ts";

const loopback = { host: "127.0.0.1", port: 0 };
const written = makeMeshCa("written");
const published = makeMeshCa("published");
const foreign = makeMeshCa("foreign");

const identity = (trustDomain = "cluster.local") => `spiffe://${trustDomain}/ns/vm/sa/default`;

let stack: AsyncDisposableStack;
let directory: string;
let endpoint: TestBundleEndpoint;

beforeEach(async () => {
  stack = new AsyncDisposableStack();
  directory = mkdtempSync(join(tmpdir(), "topsail-trust-"));
  stack.defer(() => rmSync(directory, { recursive: true, force: true }));
  endpoint = stack.use(await startBundleEndpoint());
});
afterEach(() => stack.disposeAsync());

async function start(mesh: Record<string, unknown>, more: Partial<IstiodOptions> = {}): Promise<Istiod> {
  const meshConfig = join(directory, "mesh.yaml");
  writeFileSync(meshConfig, stringify(mesh));
  return stack.use(
    await Istiod.start({
      meshConfig,
      dataDir: join(directory, "data"),
      grpc: loopback,
      secureGrpc: loopback,
      monitoring: loopback,
      domain: "cluster.local",
      debounceQuietMs: 10,
      bundles: { trustedCas: [endpoint.ca], refreshMs: 50, retryMs: 20 },
      ...more,
    }),
  );
}

/** The roots that connected agents are told, and that go with certificates: the same. */
async function roots(istiod: Istiod): Promise<readonly string[]> {
  const { csr } = await makeRequest(identity());
  const { token } = await istiod.secure!.tokens.issue({ namespace: "vm", serviceAccount: "default" }, ["istio-ca"], 600);
  const chain = await createCertificate(csr, 60, { ...callOf(istiod), token });
  const answered = splitCertificates(chain.at(-1)!);
  return answered.join() === istiod.discovery.context.trust.roots.join() ? answered : ["different"];
}
const callOf = ({ secure }: Istiod) => ({ port: secure!.port, root: secure!.authority.trustBundle });
const without = (istiod: Istiod, list: readonly string[]) => list.filter((root) => root !== istiod.secure!.authority.roots[0]);

async function callAs(istiod: Istiod, { certificate, key }: Identity): Promise<string> {
  const { csr } = await makeRequest(identity());
  try {
    await createCertificate(csr, 60, { ...callOf(istiod), client: { chain: certificate, key } });
    return "known";
  } catch (error) {
    return status[(error as { code: status }).code]!;
  }
}

describe("the trust bundle", () => {
  it("is the authority's roots, then those of the mesh configuration, each once", async () => {
    const istiod = await start({ caCertificates: [{ pem: written.root + published.root }, { pem: written.root }] });
    expect(await roots(istiod)).toEqual([istiod.secure!.authority.roots[0], written.root, published.root]);
  });

  it("follows the mesh configuration and what is published, and outlives an outage and a restart", async () => {
    endpoint.body = spiffeBundle(published.root);
    const istiod = await start({});
    expect(without(istiod, await roots(istiod))).toEqual([]);
    const caCertificates = [{ pem: written.root }, { spiffeBundleUrl: endpoint.url }];
    writeFileSync(join(directory, "mesh.yaml"), stringify({ caCertificates }));
    await expect.poll(async () => without(istiod, await roots(istiod)), { timeout: 5000 }).toEqual([written.root, published.root]);

    endpoint.body = spiffeBundle(foreign.root);
    await expect.poll(async () => without(istiod, await roots(istiod)), { timeout: 5000 }).toEqual([written.root, foreign.root]);

    for (const broken of [undefined, "{}", '{"keys":[{"use":"x509-svid","x5c":["AAAA"]}]}']) {
      endpoint.body = broken;
      const { asked } = endpoint;
      await expect.poll(() => endpoint.asked, { timeout: 5000 }).toBeGreaterThan(asked + 1);
      expect(without(istiod, await roots(istiod))).toEqual([written.root, foreign.root]);
    }
    await istiod[Symbol.asyncDispose]();
    const next = await start({ caCertificates });
    expect(without(next, await roots(next))).toEqual([written.root, foreign.root]);
  });

  it("takes no bundle from a server that the machine does not trust", async () => {
    endpoint.body = spiffeBundle(published.root);
    const istiod = await start({ caCertificates: [{ spiffeBundleUrl: endpoint.url }] }, { bundles: { retryMs: 10 } });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(endpoint.asked).toBe(0);
    expect(without(istiod, await roots(istiod))).toEqual([]);
  });
});

describe("callers", () => {
  it("are known by any root that vouches for the mesh, also through an intermediate", async () => {
    const istiod = await start({ caCertificates: [{ pem: written.root }] });
    expect(await callAs(istiod, written.issue(identity()))).toBe("known");
    expect(await callAs(istiod, written.intermediate("between").intermediate("below").issue(identity()))).toBe("known");
    expect(await callAs(istiod, published.issue(identity()))).toBe("UNAUTHENTICATED");
    // What is trusted is taken back with the configuration.
    writeFileSync(join(directory, "mesh.yaml"), "");
    await expect.poll(() => callAs(istiod, written.issue(identity())), { timeout: 5000 }).toBe("UNAUTHENTICATED");
  });

  it("of another trust domain are known by its own roots alone, and those vouch for nobody else", async () => {
    endpoint.body = spiffeBundle(foreign.root);
    const istiod = await start({}, { foreignBundles: parseForeignBundles(`other.test|${endpoint.url}`) });
    await expect.poll(() => callAs(istiod, foreign.issue(identity("other.test"))), { timeout: 5000 }).toBe("known");
    expect(await callAs(istiod, foreign.intermediate("between").issue(identity("other.test")))).toBe("known");
    expect(await callAs(istiod, foreign.issue(identity()))).toBe("UNAUTHENTICATED");
    expect(await callAs(istiod, foreign.intermediate("between").issue(identity()))).toBe("UNAUTHENTICATED");
    expect(await callAs(istiod, foreign.issue(identity("third.test")))).toBe("UNAUTHENTICATED");
    const { csr, key } = await makeRequest(identity());
    const own = await istiod.secure!.authority.signRequest(csr, [{ type: "url", value: identity("other.test") }], 60);
    const pair = { certificate: own.chain[0]!, key: key.export({ type: "pkcs8", format: "pem" }) as string };
    expect(await callAs(istiod, pair)).toBe("UNAUTHENTICATED");
    // Workloads of this mesh are not told to trust them.
    expect(without(istiod, await roots(istiod))).toEqual([]);
  });

  it("are not known by a root that the mesh has for other trust domains", async () => {
    const istiod = await start({ caCertificates: [{ pem: written.root, trustDomains: ["other.test"] }] });
    expect(await callAs(istiod, written.issue(identity()))).toBe("UNAUTHENTICATED");
    expect(await callAs(istiod, written.issue(identity("other.test")))).toBe("UNAUTHENTICATED");
    expect(without(istiod, await roots(istiod))).toEqual([written.root]);
  });
});

describe("bundles", () => {
  const key = (x5c: unknown) => JSON.stringify({ keys: [{ use: "x509-svid", x5c }] });
  it.each([
    ["nonsense", "no JSON"],
    ["[]", 'no list "keys"'],
    ['{"keys":[]}', 'no key of use "x509-svid"'],
    [key(undefined), "keys[0].x5c: must be one certificate"],
    [key([]), "keys[0].x5c: must be one certificate"],
    [key(["AAAA"]), "keys[0].x5c: is no certificate"],
    [
      key([
        Buffer.from(
          makeMeshCa()
            .issue("spiffe://a/b")
            .certificate.replace(/-----[A-Z ]+-----|\s/g, ""),
          "base64",
        ).toString("base64"),
      ]),
      "is not one of an authority",
    ],
  ])("that say %s are refused", (text, problem) => {
    expect(() => parseSpiffeBundle(text)).toThrow(problem);
  });

  it.each([["a.test"], ["a.test|http://b.test/c"], ["|https://b.test"], ["a|https://b.test|c"]])("are not at %s", (text) => {
    expect(() => parseForeignBundles(text)).toThrow("is not TRUST-DOMAIN|https://");
  });

  it("of one trust domain may be at several URLs", () => {
    expect([...parseForeignBundles("a|https://b.test/c||d|https://e.test||a|https://f.test")]).toEqual([
      ["a", ["https://b.test/c", "https://f.test"]],
      ["d", ["https://e.test"]],
    ]);
  });
});
