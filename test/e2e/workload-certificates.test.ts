/** The agent's certificates, against the real authority: got, kept on disk, renewed with and without a token, handed to the proxy. */
import { generateKeyPairSync, X509Certificate } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { controlPlaneAccess } from "../../src/agent/certificates/control-plane-access.ts";
import { WorkloadCertificates } from "../../src/agent/certificates/workload-certificates.ts";
import { readEnvironment } from "../../src/agent/environment.ts";
import { agentPaths } from "../../src/agent/paths.ts";
import { Troubles } from "../../src/agent/troubles.ts";
import { XdsProxy } from "../../src/agent/xds-proxy.ts";
import { typeUrls } from "../../src/api/type-urls.ts";
import { loadSelfSigned, renewSelfSigned } from "../../src/istiod/ca/self-signed.ts";
import { Istiod } from "../../src/istiod/istiod.ts";

const loopback = { host: "127.0.0.1", port: 0 };
const account = { namespace: "vm", serviceAccount: "default" };
const identity = "spiffe://cluster.local/ns/vm/sa/default";

import { AdsClient } from "../support/ads-client.ts";

let directory: string;
let istiod: Istiod;
let parts: AsyncDisposableStack;
let troubles: Troubles;
/** By how much the agent's wall clock is off. */
let clockOffMs = 0;

beforeEach(async () => {
  troubles = new Troubles();
  clockOffMs = 0;
  parts = new AsyncDisposableStack();
  directory = mkdtempSync(join(tmpdir(), "topsail-certs-"));
  istiod = await Istiod.start({
    dataDir: join(directory, "data"),
    grpc: loopback,
    secureGrpc: loopback,
    monitoring: loopback,
    domain: "cluster.local",
  });
});
afterEach(async () => {
  await parts.disposeAsync();
  await istiod[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true, force: true });
});

const place = (path: string, content: string) => {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
};
const paths = () => agentPaths(join(directory, "machine"));
const provision = async () => {
  place(paths().token, (await istiod.secure!.tokens.issue(account, ["istio-ca"], 600)).token);
  place(paths().root, istiod.secure!.authority.trustBundle);
};
/** `address` stays the same when the control plane is started again elsewhere. */
const begin = (env: Record<string, string> = {}, port = () => istiod.secure!.port, wanted = identity) => {
  const environment = readEnvironment({ POD_NAMESPACE: "vm", ...env });
  return parts.use(
    WorkloadCertificates.start({
      identity: wanted,
      keyKind: environment.keyKind,
      ttlSeconds: environment.secretTtlSeconds,
      graceRatio: environment.secretGraceRatio,
      graceJitter: environment.secretGraceJitter,
      outputDir: environment.outputCerts,
      authority: "controlPlane",
      certSigner: "",
      troubles,
      now: () => Date.now() + clockOffMs,
      access: (present) =>
        controlPlaneAccess({ address: `127.0.0.1:${port()}`, environment, paths: paths(), plaintext: false, rootFile: undefined, present }),
    }),
  );
};
const serial = (certificates: WorkloadCertificates) =>
  certificates.current && new X509Certificate(certificates.current.pair.chain).serialNumber;

describe("an agent's certificate", () => {
  it("comes by a token and is renewed by itself afterwards, when the token is long gone", async () => {
    await provision();
    const certificates = begin({ SECRET_TTL: "4s" });
    await expect.poll(() => serial(certificates), { timeout: 5000 }).toBeDefined();
    expect(new X509Certificate(certificates.current!.pair.chain).subjectAltName).toBe(`URI:${identity}`);
    rmSync(paths().token);
    const first = serial(certificates);
    await expect.poll(() => serial(certificates), { timeout: 5000 }).not.toBe(first);
    const second = serial(certificates);
    await expect.poll(() => serial(certificates), { timeout: 5000 }).not.toBe(second);
  }, 20_000);

  it("is kept where OUTPUT_CERTS says, for its owner alone, and serves after a reboot during an outage", async () => {
    await provision();
    const output = join(directory, "kept");
    const first = begin({ OUTPUT_CERTS: output });
    await expect.poll(() => serial(first), { timeout: 5000 }).toBeDefined();
    for (const name of ["key.pem", "cert-chain.pem", "root-cert.pem"]) expect(statSync(join(output, name)).mode & 0o777).toBe(0o600);
    expect(readFileSync(join(output, "cert-chain.pem"), "utf8")).toBe(first.current!.pair.chain);
    rmSync(paths().token);
    const afterReboot = begin({ OUTPUT_CERTS: output }, () => 1);
    await expect.poll(() => serial(afterReboot), { timeout: 5000 }).toBe(serial(first));
  });

  it("serves after such a reboot whatever trust domain the machine's settings name: the authority decides it", async () => {
    await provision();
    const output = join(directory, "kept");
    const former = "spiffe://former.example/ns/vm/sa/default";
    const first = begin({ OUTPUT_CERTS: output }, undefined, former);
    await expect.poll(() => serial(first), { timeout: 5000 }).toBeDefined();
    const afterReboot = begin({ OUTPUT_CERTS: output }, () => 1, former);
    await expect.poll(() => serial(afterReboot), { timeout: 5000 }).toBe(serial(first));
  });

  it("is got anew when the machine is brought into a mesh of another authority, by its root and a token", async () => {
    await provision();
    const output = dirname(paths().root);
    const first = begin({ OUTPUT_CERTS: output });
    await expect.poll(() => serial(first), { timeout: 5000 }).toBeDefined();
    await first[Symbol.asyncDispose]();
    const former = serial(first);
    await istiod[Symbol.asyncDispose]();
    const settings = { grpc: loopback, secureGrpc: loopback, monitoring: loopback, domain: "cluster.local" };
    istiod = await Istiod.start({ ...settings, dataDir: join(directory, "other") });
    await provision();
    const second = begin({ OUTPUT_CERTS: output });
    await expect.poll(() => serial(second), { timeout: 5000 }).toBeDefined();
    expect(serial(second)).not.toBe(former);
    const root = new X509Certificate(istiod.secure!.authority.trustBundle);
    expect(new X509Certificate(second.current!.pair.chain).verify(root.publicKey)).toBe(true);
  });

  it("is renewed at once when the clock is set beyond its end, and what the new one is by that clock is said until it is right again", async () => {
    await provision();
    const certificates = begin({ SECRET_TTL: "30m" });
    await expect.poll(() => serial(certificates), { timeout: 5000 }).toBeDefined();
    const first = serial(certificates);
    clockOffMs = 3600_000;
    await expect.poll(() => serial(certificates), { timeout: 5000 }).not.toBe(first);
    await expect.poll(() => troubles.present).toEqual([expect.stringMatching(/clock: expired: it ended at .*, the clock says /)]);
    const second = serial(certificates);
    // By this clock it is over, and will be whenever it is asked for: that is no reason to ask again and again.
    await new Promise((resolve) => setTimeout(resolve, 2500));
    expect(serial(certificates)).toBe(second);
    clockOffMs = 0;
    await expect.poll(() => troubles.present, { timeout: 5000 }).toEqual([]);
  }, 20_000);

  it("is said not to be valid yet when the clock is set back, serves all the same, and is well with the clock", async () => {
    await provision();
    const certificates = begin();
    await expect.poll(() => serial(certificates), { timeout: 5000 }).toBeDefined();
    clockOffMs = -3600_000;
    await expect.poll(() => troubles.present, { timeout: 5000 }).toEqual([expect.stringMatching(/clock: not yet valid: it begins at /)]);
    expect(certificates.current).toBeDefined();
    clockOffMs = 0;
    await expect.poll(() => troubles.present, { timeout: 5000 }).toEqual([]);
  }, 20_000);

  it("is asked for until it comes: no root, then no token, then both", async () => {
    const certificates = begin();
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(certificates.current).toBeUndefined();
    await provision();
    await expect.poll(() => serial(certificates), { timeout: 8000 }).toBeDefined();
  }, 10_000);

  it("goes with a new root that the operator brings, and both are trusted, while everything is connected", async () => {
    await istiod[Symbol.asyncDispose]();
    const authorityDir = join(directory, "cacerts");
    const first = await loadSelfSigned(authorityDir, "first");
    istiod = await Istiod.start({ authorityDir, grpc: loopback, secureGrpc: loopback, monitoring: loopback, domain: "cluster.local" });
    await provision();
    const certificates = begin({ SECRET_TTL: "4s" });
    await expect.poll(() => serial(certificates), { timeout: 5000 }).toBeDefined();
    const environment = readEnvironment({ POD_NAMESPACE: "vm" });
    const socket = join(directory, "XDS");
    parts.use(
      await XdsProxy.start({
        path: socket,
        node: { correct: (request) => request, forgetFormer: () => undefined },
        upstream: {
          choose: async () => ({
            isLastGood: false,
            access: await controlPlaneAccess({
              address: `127.0.0.1:${istiod.secure!.port}`,
              environment,
              paths: paths(),
              plaintext: false,
              rootFile: undefined,
              present: () => certificates.current,
            }),
          }),
          onAccepted: () => undefined,
          onStreamEnded: () => undefined,
          whenBack: () => Promise.resolve(),
        },
        onTrust: ({ roots }) => certificates.trust(roots),
      }),
    );
    const proxy = parts.use(
      new AdsClient(`unix:${socket}`, "sidecar~127.0.0.9~web.vm~vm.svc.cluster.local", { NAMESPACE: "vm" }, { [typeUrls.cds]: [] }),
    );
    await expect.poll(() => proxy.received.map(({ type }) => type), { timeout: 5000 }).toContain("cds");

    // As an operator does it: trust first, and sign by the new one once everybody trusts it.
    const second = await renewSelfSigned(undefined, "second");
    const roots = [...second.roots, ...first.roots].join("");
    place(join(authorityDir, "root-cert.pem"), roots);
    await expect.poll(() => certificates.current!.roots, { timeout: 5000 }).toBe(roots);
    place(join(authorityDir, "ca-cert.pem"), second.certificate);
    place(join(authorityDir, "ca-key.pem"), second.key.export({ type: "pkcs8", format: "pem" }) as string);
    const issuer = new X509Certificate(second.certificate);
    const isBySecond = () => new X509Certificate(certificates.current!.pair.chain).verify(issuer.publicKey);
    // The server's certificate is by the new root as well, which is in no file of the machine's.
    await expect.poll(isBySecond, { timeout: 8000 }).toBe(true);
    // The proxy was not told what is the agent's.
    expect(proxy.received.map(({ type }) => type)).not.toContain("pcds");
  }, 20_000);

  it("is not taken from a control plane that another root vouches for", async () => {
    await provision();
    const other = parts.use(await Istiod.start({ grpc: loopback, secureGrpc: loopback, monitoring: loopback, domain: "cluster.local" }));
    const certificates = begin({}, () => other.secure!.port);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(certificates.current).toBeUndefined();
  });

  it("does not use what is left on disk when it is damaged, another's, or over", async () => {
    await provision();
    const output = join(directory, "kept");
    const short = begin({ OUTPUT_CERTS: output, SECRET_TTL: "2s" });
    await expect.poll(() => serial(short), { timeout: 5000 }).toBeDefined();
    await short[Symbol.asyncDispose]();
    const old = serial(short);
    await new Promise((resolve) => setTimeout(resolve, 2500));
    const next = begin({ OUTPUT_CERTS: output });
    await expect.poll(() => serial(next), { timeout: 5000 }).toBeDefined();
    expect(serial(next)).not.toBe(old);
    await next[Symbol.asyncDispose]();
    const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const others = await istiod.secure!.authority.sign(
      publicKey,
      [{ type: "url", value: "spiffe://cluster.local/ns/other/sa/default" }],
      3600,
    );
    writeFileSync(join(output, "cert-chain.pem"), others.chain.join(""));
    writeFileSync(join(output, "key.pem"), privateKey.export({ type: "pkcs8", format: "pem" }));
    const own = begin({ OUTPUT_CERTS: output });
    await expect.poll(() => serial(own), { timeout: 5000 }).toBeDefined();
    expect(new X509Certificate(own.current!.pair.chain).subjectAltName).toBe(`URI:${identity}`);
    await own[Symbol.asyncDispose]();
    writeFileSync(join(output, "key.pem"), "damaged");
    const third = begin({ OUTPUT_CERTS: output });
    await expect.poll(() => serial(third), { timeout: 5000 }).toBeDefined();
    expect(serial(third)).not.toBe(serial(own));
  }, 20_000);
});
