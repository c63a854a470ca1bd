/**
 * Many certificates in one gateway: each tenant has a Gateway with an HTTPS server, a Secret and a VirtualService of its own.
 *
 *     node bench/certificates.ts [tenants=10000] [proxies=envoy,topsail] [workers=1]
 *
 * Measured: the control plane from its start to ready; a proxy from its start until it serves; its memory then, and after a handshake of
 * every tenant; what a new certificate of one tenant takes to be shown.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { webcrypto } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "node:tls";
import { envoyPath } from "../test/support/envoy.ts";
import { meshBootstrap } from "../test/support/mesh-proxy.ts";
import { usageOf } from "./process-usage.ts";

const topsail = join(import.meta.dirname, "..", "dist", "topsail");
const [tenantsText = "10000", proxiesText = "envoy,topsail", workers = "1"] = process.argv.slice(2);
const tenants = Number(tenantsText);
const ports = { xds: 18_700, debug: 18_701, https: 18_702 } as const;
const patienceMs = 600_000;
/** Of so many tenants one is asked whether all is there. */
const step = 97;

interface Material {
  readonly certificate: string;
  readonly key: string;
}

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
const { X509CertificateGenerator, SubjectAlternativeNameExtension } = await import("../src/lib/x509.ts");

const caKeys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
const issuer = "CN=bench";

async function issue(host: string): Promise<Material> {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const certificate = await X509CertificateGenerator.create({
    subject: `CN=${host}`,
    issuer,
    signingKey: caKeys.privateKey as never,
    publicKey: keys.publicKey as never,
    signingAlgorithm: algorithm,
    notBefore: new Date(),
    notAfter: new Date(Date.now() + 30 * 86_400_000),
    extensions: [new SubjectAlternativeNameExtension([{ type: "dns", value: host }])],
  });
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey)).toString("base64");
  const key = `-----BEGIN PRIVATE KEY-----\n${pkcs8.match(/.{1,64}/g)!.join("\n")}\n-----END PRIVATE KEY-----\n`;
  return { certificate: `${certificate.toString("pem")}\n`, key };
}

const hostOf = (tenant: number) => `tenant-${tenant}.bench.test`;

function documentsOf(tenant: number, material: Material): string {
  const meta = (kind: string) => `kind: ${kind}\nmetadata: {name: t-${tenant}, namespace: edge}\n`;
  const networking = "apiVersion: networking.istio.io/v1\n";
  return [
    secretOf(tenant, material),
    `${networking}${meta("Gateway")}spec: {selector: {app: gateway}, servers: [{port: {number: ${ports.https}, name: https-${tenant}, protocol: HTTPS}, hosts: [${hostOf(tenant)}], tls: {mode: SIMPLE, credentialName: t-${tenant}}}]}`,
    `${networking}${meta("VirtualService")}spec: {hosts: [${hostOf(tenant)}], gateways: [t-${tenant}], http: [{route: [{destination: {host: backend.edge.test}}]}]}`,
  ].join("\n---\n");
}

function secretOf(tenant: number, { certificate, key }: Material): string {
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  return `apiVersion: v1\nkind: Secret\nmetadata: {name: t-${tenant}, namespace: edge}\ntype: kubernetes.io/tls\ndata: {tls.crt: ${base64(certificate)}, tls.key: ${base64(key)}}`;
}

const backend = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: backend, namespace: edge}
spec: {hosts: [backend.edge.test], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 127.0.0.1}]}`;

/** The serial number that a tenant is shown, undefined when there is none. */
function serialAt(tenant: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port: ports.https, servername: hostOf(tenant), rejectUnauthorized: false }, () => {
      resolve(socket.getPeerCertificate().serialNumber);
      socket.destroy();
    });
    socket.on("error", () => resolve(undefined));
    socket.on("close", () => resolve(undefined));
  });
}

async function until(probe: () => Promise<boolean>, what: string): Promise<number> {
  const started = performance.now();
  while (!(await probe())) {
    if (performance.now() - started > patienceMs) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return performance.now() - started;
}

function start(command: string, args: readonly string[]): ChildProcess {
  return spawn(command, args, { stdio: ["ignore", "ignore", "inherit"] });
}

async function stop(child: ChildProcess): Promise<void> {
  const exited = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  if (child.exitCode === null && child.signalCode === null) await exited;
}

const directory = mkdtempSync(join(tmpdir(), "topsail-certificates-"));
const seconds = (ms: number) => (ms / 1000).toFixed(1);
const memory = (child: ChildProcess) => `${usageOf(child.pid!).anonymousMiB.toFixed(0)} MiB`;
const print = (line: string) => process.stdout.write(`${line}\n`);

try {
  const configDir = join(directory, "config");
  mkdirSync(configDir);
  const documents = [backend];
  for (let tenant = 1; tenant < tenants; tenant++) documents.push(documentsOf(tenant, await issue(hostOf(tenant))));
  writeFileSync(join(configDir, "all.yaml"), documents.join("\n---\n"), { mode: 0o600 });
  await writeFirst(configDir);
  const istiod = start(topsail, [
    ...["istiod", "--configDir", configDir, "--dataDir", join(directory, "data"), "--grpcAddr", `127.0.0.1:${ports.xds}`],
    ...["--secureGRPCAddr", "", "--monitoringAddr", `127.0.0.1:${ports.debug}`],
  ]);
  try {
    const ready = await until(async () => (await fetch(`http://127.0.0.1:${ports.debug}/ready`).catch(() => null))?.ok === true, "istiod");
    print(`${tenants} tenants; istiod ready after ${seconds(ready)} s, ${memory(istiod)}`);
    for (const name of proxiesText.split(",")) await measure(name, istiod, configDir);
  } finally {
    await stop(istiod);
  }
} finally {
  rmSync(directory, { recursive: true, force: true });
}

/** The first tenant has a file of its own, so that it can change without the others being read again. */
async function writeFirst(configDir: string): Promise<void> {
  writeFileSync(join(configDir, "first.yaml"), documentsOf(0, await issue(hostOf(0))), { mode: 0o600 });
}

async function measure(name: string, istiod: ChildProcess, configDir: string): Promise<void> {
  const file = join(directory, `${name}.json`);
  const node = { type: "router" as const, name, address: "127.0.0.1", labels: { app: "gateway" }, namespace: "edge", isDelta: true };
  const bootstrap = meshBootstrap({ ...node, xds: ports.xds, sdsPath: "/dev/null" });
  writeFileSync(file, JSON.stringify(bootstrap));
  const args = ["-c", file, "--concurrency", workers, "-l", "error"];
  const cpuBefore = usageOf(istiod.pid!).cpuSeconds;
  const proxy = name === "envoy" ? start(envoyPath, ["--disable-hot-restart", ...args]) : start(topsail, ["envoy", ...args]);
  try {
    const started = performance.now();
    for (let tenant = 0; tenant < tenants; tenant += step) await until(async () => (await serialAt(tenant)) !== undefined, hostOf(tenant));
    const cpu = usageOf(istiod.pid!).cpuSeconds - cpuBefore;
    print(
      `${name.padEnd(8)} serves every ${step}th after ${seconds(performance.now() - started)} s (CPU: its own ${usageOf(proxy.pid!).cpuSeconds.toFixed(1)} s, istiod's ${cpu.toFixed(1)} s), ${memory(proxy)}`,
    );
    for (let tenant = 0; tenant < tenants; tenant++) await until(async () => (await serialAt(tenant)) !== undefined, hostOf(tenant));
    print(`${name.padEnd(8)} after a handshake of each: ${memory(proxy)}; istiod ${memory(istiod)}`);
    const before = await serialAt(0);
    const cpuAt = () => [usageOf(proxy.pid!).cpuSeconds, usageOf(istiod.pid!).cpuSeconds] as const;
    const [proxyCpu, istiodCpu] = cpuAt();
    await writeFirst(configDir);
    const changed = await until(async () => (await serialAt(0)) !== before, "the new certificate");
    const [proxyCpuNow, istiodCpuNow] = cpuAt();
    print(
      `${name.padEnd(8)} shows a new certificate after ${seconds(changed)} s (CPU: its own ${(proxyCpuNow - proxyCpu).toFixed(2)} s, istiod's ${(istiodCpuNow - istiodCpu).toFixed(2)} s)`,
    );
  } finally {
    await stop(proxy);
  }
}
