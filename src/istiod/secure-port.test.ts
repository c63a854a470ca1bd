import { execFileSync } from "node:child_process";
import { createHmac, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { connect as connectTcp } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { status } from "@grpc/grpc-js";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { loadSelfSigned } from "./ca/self-signed.ts";
import { Istiod, type IstiodOptions } from "./istiod.ts";
import { type CallOptions, createCertificate, makeRequest } from "./testing/certificate-client.ts";

const account = { namespace: "vm", serviceAccount: "default" };
const identity = "spiffe://cluster.local/ns/vm/sa/default";

const start = (directory: string, more: Partial<IstiodOptions> = {}) =>
  Istiod.start({
    dataDir: join(directory, "data"),
    grpc: { host: "127.0.0.1", port: 0 },
    secureGrpc: { host: "127.0.0.1", port: 0 },
    monitoring: { host: "127.0.0.1", port: 0 },
    domain: "cluster.local",
    ...more,
  });

const fails = (code: status) => expect.objectContaining({ code });

describe("the secure port", () => {
  let directory: string;
  let istiod: Istiod;
  let call: CallOptions;
  const token = (audience = "istio-ca", seconds = 600) =>
    istiod.secure!.tokens.issue(account, [audience], seconds).then((issued) => issued.token);

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "topsail-ca-"));
    istiod = await start(directory);
    call = { port: istiod.secure!.port, root: istiod.secure!.authority.trustBundle };
  });
  afterAll(async () => {
    await istiod[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true });
  });

  it.each(["ec", "rsa"] as const)("signs a key (%s) for the caller's own identity, whatever the request says", async (kind) => {
    const { csr, key } = await makeRequest("spiffe://cluster.local/ns/istio-system/sa/istiod", kind);
    const [leaf, root] = await createCertificate(csr, 3600, { ...call, token: await token() });
    const certificate = new X509Certificate(leaf!);
    expect(certificate.subjectAltName).toBe(`URI:${identity}`);
    expect(certificate.checkPrivateKey(key)).toBe(true);
    expect(certificate.ca).toBe(false);
    expect((certificate.validToDate.getTime() - Date.now()) / 1000).toBeCloseTo(3600, -2);
    expect(root).toBe(call.root);
    // The judge is openssl, with all its rules.
    writeFileSync(join(directory, "leaf.pem"), leaf!);
    writeFileSync(join(directory, "root.pem"), root!);
    const verify = ["verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", join(directory, "root.pem"), join(directory, "leaf.pem")];
    expect(execFileSync("openssl", verify, { encoding: "utf8" })).toContain("OK");
    const shown = execFileSync("openssl", ["x509", "-noout", "-text", "-in", join(directory, "leaf.pem")], { encoding: "utf8" });
    expect(shown).toMatch(/Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster\.local\/ns\/vm\/sa\/default/);
    expect(shown).toMatch(/Key Usage: critical\s+Digital Signature, Key Encipherment/);
  });

  it.each([
    ["certificates", () => istiod.secure!.port],
    ["plaintext", () => istiod.grpcPort],
  ])("counts who connects to the port of %s among those to whom answers give way", async (_, port) => {
    const { newcomers } = istiod.discovery;
    await expect.poll(() => newcomers.areWaiting()).toBe(false);
    const silent = connectTcp(port(), "127.0.0.1");
    await expect.poll(() => newcomers.areWaiting(), { interval: 5 }).toBe(true);
    silent.destroy();
    await expect.poll(() => newcomers.areWaiting()).toBe(false);
  });

  it("renews by the present certificate, without a token", async () => {
    const first = await makeRequest(identity);
    const chain = await createCertificate(first.csr, 3600, { ...call, token: await token() });
    const client = { key: first.key.export({ type: "pkcs8", format: "pem" }) as string, chain: chain[0]! };
    const second = await makeRequest(identity);
    const [leaf] = await createCertificate(second.csr, 3600, { ...call, client });
    expect(new X509Certificate(leaf!).subjectAltName).toBe(`URI:${identity}`);
  });

  it.each([
    ["no token", async () => undefined],
    ["a token for another audience", () => token("vault")],
    ["a token that is none", async () => "aaaa.bbbb.cccc"],
    ["a token that nobody signed", async () => unsigned(await token())],
    ["a token signed by the public key as a secret", async () => confused(await token(), istiod)],
    ["a token whose claims were changed", async () => altered(await token())],
  ])("refuses %s", async (_, make) => {
    const { csr } = await makeRequest(identity);
    const made = await make();
    await expect(createCertificate(csr, 0, { ...call, ...(made === undefined ? {} : { token: made }) })).rejects.toEqual(
      fails(status.UNAUTHENTICATED),
    );
  });

  it("refuses the certificate of another authority, also with a right name in it", async () => {
    const other = await Istiod.start({
      grpc: { host: "127.0.0.1", port: 0 },
      secureGrpc: { host: "127.0.0.1", port: 0 },
      monitoring: { host: "127.0.0.1", port: 0 },
      domain: "cluster.local",
    });
    try {
      const { csr, key } = await makeRequest(identity);
      const foreign = await other.secure!.authority.signRequest(csr, [{ type: "url", value: identity }], 3600);
      const client = { key: key.export({ type: "pkcs8", format: "pem" }) as string, chain: foreign.chain[0]! };
      await expect(createCertificate(csr, 0, { ...call, client })).rejects.toEqual(fails(status.UNAUTHENTICATED));
    } finally {
      await other[Symbol.asyncDispose]();
    }
  });

  it("knows nobody by a name of another trust domain, whoever signed it, until the mesh has it as an alias", async () => {
    const { csr, key } = await makeRequest(identity);
    const stranger = "spiffe://elsewhere.test/ns/vm/sa/default";
    const [leaf] = (await istiod.secure!.authority.signRequest(csr, [{ type: "url", value: stranger }], 3600)).chain;
    const client = { key: key.export({ type: "pkcs8", format: "pem" }) as string, chain: leaf! };
    await expect(createCertificate(csr, 0, { ...call, client })).rejects.toEqual(fails(status.UNAUTHENTICATED));
    const { mesh } = istiod.discovery;
    istiod.discovery.setMesh({ ...mesh, trustDomainAliases: ["elsewhere.test"] });
    await expect(createCertificate(csr, 0, { ...call, client })).resolves.toHaveLength(2);
    istiod.discovery.setMesh(mesh);
  });

  it("refuses a certificate that the operator's list revokes, from the moment the list changes", async () => {
    const authorityDir = join(directory, "cacerts");
    await loadSelfSigned(authorityDir, "revoking");
    const revoking = await start(join(directory, "revoking"), { authorityDir });
    try {
      const options = { port: revoking.secure!.port, root: revoking.secure!.authority.trustBundle };
      const { csr, key } = await makeRequest(identity);
      const [leaf] = (await revoking.secure!.authority.signRequest(csr, [{ type: "url", value: identity }], 3600)).chain;
      const client = { key: key.export({ type: "pkcs8", format: "pem" }) as string, chain: leaf! };
      await expect(createCertificate(csr, 0, { ...options, client })).resolves.toHaveLength(2);
      writeFileSync(join(authorityDir, "ca-crl.pem"), revocationList(authorityDir, leaf!));
      await expect.poll(() => revoking.secure!.authority.crl, { timeout: 5000 }).toBeDefined();
      await expect(createCertificate(csr, 0, { ...options, client })).rejects.toEqual(fails(status.UNAUTHENTICATED));
      // Another certificate of the same workload goes on.
      const [other] = (await revoking.secure!.authority.signRequest(csr, [{ type: "url", value: identity }], 3600)).chain;
      await expect(createCertificate(csr, 0, { ...options, client: { ...client, chain: other! } })).resolves.toHaveLength(2);
    } finally {
      await revoking[Symbol.asyncDispose]();
    }
  });

  it.each([
    ["garbage", async () => "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", 0],
    ["nothing", async () => "", 0],
    ["a request of 20 KB", async () => "A".repeat(20_000), 0],
    ["a short RSA key", async () => (await makeRequest(identity, "rsa1024")).csr, 0],
    ["a broken signature", async () => broken((await makeRequest(identity)).csr), 0],
    ["more than 90 days", async () => (await makeRequest(identity)).csr, 91 * 24 * 3600],
  ])("refuses %s as an argument", async (_, make, ttl) => {
    await expect(createCertificate(await make(), ttl, { ...call, token: await token() })).rejects.toEqual(fails(status.INVALID_ARGUMENT));
  });

  it("gives no token for an account that there is not", async () => {
    const nobody = { namespace: "vm", serviceAccount: "nobody" };
    await expect(istiod.secure!.tokens.issue(nobody, ["istio-ca"], 600)).rejects.toThrow('serviceaccounts "nobody" not found');
  });

  it("shows a certificate with the names by which agents call it", async () => {
    const names = await serverNames(call);
    expect(names).toContain("DNS:istiod.istio-system.svc");
    expect(names).toContain("IP Address:127.0.0.1");
  });

  it("shows one that names where it and the API of Kubernetes listen", async () => {
    const own = mkdtempSync(join(tmpdir(), "topsail-ca-"));
    try {
      await using there = await start(own, { secureGrpc: { host: "127.0.0.7", port: 0 }, kubeApi: { host: "127.0.0.8", port: 0 } });
      const asked = { host: "127.0.0.7", port: there.secure!.port, root: there.secure!.authority.trustBundle };
      const names = (await serverNames(asked)).split(", ");
      expect(names).toEqual(expect.arrayContaining(["IP Address:127.0.0.1", "IP Address:127.0.0.7", "IP Address:127.0.0.8"]));
      expect(new Set(names).size).toBe(names.length);
      await using anywhere = await start(join(own, "anywhere"), {
        secureGrpc: { host: "0.0.0.0", port: 0 },
        kubeApi: { host: "", port: 0 },
      });
      const all = await serverNames({ port: anywhere.secure!.port, root: anywhere.secure!.authority.trustBundle });
      expect(all).not.toMatch(/0\.0\.0\.0|IP Address:0:0|DNS:(,|$)/);
    } finally {
      rmSync(own, { recursive: true });
    }
  });

  it("keeps root and keys over a restart, readable by their owner alone", async () => {
    const old = await token();
    for (const name of ["ca-key.pem", "token-key.pem"]) {
      expect(statSync(join(directory, "data", "ca", name)).mode & 0o777).toBe(0o600);
      expect(readFileSync(join(directory, "data", "ca", name), "utf8")).toContain("BEGIN PRIVATE KEY");
    }
    await istiod[Symbol.asyncDispose]();
    istiod = await start(directory);
    expect(istiod.secure!.authority.trustBundle).toBe(call.root);
    call = { ...call, port: istiod.secure!.port };
    const { csr } = await makeRequest(identity);
    await expect(createCertificate(csr, 0, { ...call, token: old })).resolves.toHaveLength(2);
  });
});

/** By openssl, as an operator makes it. */
function revocationList(authorityDir: string, revoked: string): string {
  const work = mkdtempSync(join(authorityDir, "..", "crl-"));
  writeFileSync(join(work, "index"), "");
  writeFileSync(join(work, "number"), "01\n");
  writeFileSync(join(work, "leaf.pem"), revoked);
  writeFileSync(
    join(work, "ca.cnf"),
    `[ca]\ndefault_ca=d\n[d]\ndatabase=${work}/index\ncrlnumber=${work}/number\ndefault_md=sha256\ndefault_crl_days=30\n`,
  );
  const ca = [
    "ca",
    "-config",
    join(work, "ca.cnf"),
    "-cert",
    join(authorityDir, "ca-cert.pem"),
    "-keyfile",
    join(authorityDir, "ca-key.pem"),
  ];
  execFileSync("openssl", [...ca, "-revoke", join(work, "leaf.pem")], { stdio: "ignore" });
  return execFileSync("openssl", [...ca, "-gencrl"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
}

function altered(token: string): string {
  const [head, claims, signature] = token.split(".");
  const parsed = JSON.parse(Buffer.from(claims!, "base64url").toString()) as Record<string, unknown>;
  const changed = Buffer.from(JSON.stringify({ ...parsed, sub: "system:serviceaccount:istio-system:default" })).toString("base64url");
  return `${head}.${changed}.${signature}`;
}

function unsigned(token: string): string {
  const head = Buffer.from(JSON.stringify({ alg: "none" })).toString("base64url");
  return `${head}.${token.split(".")[1]}.`;
}

function confused(token: string, { secure }: Istiod): string {
  const head = Buffer.from(JSON.stringify({ alg: "HS256" })).toString("base64url");
  const body = `${head}.${token.split(".")[1]}`;
  const signature = createHmac("sha256", secure!.authority.trustBundle).update(body).digest("base64url");
  return `${body}.${signature}`;
}

function broken(csr: string): string {
  const lines = csr.trim().split("\n");
  const bytes = Buffer.from(lines.slice(1, -1).join(""), "base64");
  bytes[bytes.length - 5]! ^= 1;
  return `${lines[0]}\n${bytes.toString("base64")}\n${lines.at(-1)}\n`;
}

function serverNames({ host = "127.0.0.1", port, root }: CallOptions & { readonly host?: string }): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host, ca: root, servername: "istiod.istio-system.svc", ALPNProtocols: ["h2"] }, () => {
      resolve(socket.getPeerX509Certificate()!.subjectAltName!);
      socket.destroy();
    });
    socket.on("error", reject);
  });
}
