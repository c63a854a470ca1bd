/** What testssl.sh finds at an HTTPS server of a gateway that nobody has tuned: nothing above LOW. */
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { stringify } from "yaml";
import { debianTool } from "../support/debian-tool.ts";
import { GatewayFleet } from "../support/gateway-fleet.ts";
import { type Identity, makeMeshCa } from "../support/mesh-ca.ts";
import { freePortRow } from "../support/ports.ts";
import { eventually } from "../support/proxies.ts";
import { TlsClient } from "../support/tls-client.ts";

const testssl = debianTool("testssl", "testssl.sh");
const host = "secure.example.com";

/** Protocols, forward secrecy, ciphers, server preferences and defaults, and all vulnerabilities that it knows. */
const checks = ["--protocols", "--std", "--pfs", "--server-preference", "--server-defaults", "--vulnerable"];

interface Finding {
  readonly id: string;
  readonly severity: string;
  readonly finding: string;
}

describe.skipIf(!testssl)("testssl.sh at a gateway", () => {
  const stack = new AsyncDisposableStack();
  const client = stack.use(new TlsClient());
  const directory = mkdtempSync(join(tmpdir(), "topsail-testssl-"));
  stack.defer(() => rmSync(directory, { recursive: true }));
  const ca = makeMeshCa("testssl");
  let fleet: GatewayFleet;
  let port: number;

  beforeAll(async () => {
    port = await freePortRow(1);
    writeFileSync(join(directory, "ca.pem"), ca.root);
    // As long-lived and as revocable as a certificate that people are shown.
    const options = { days: 90, revocationUrl: "http://127.0.0.1/revoked.crl" };
    const secrets = {
      ec: ca.issueFor(`DNS:${host}`, options),
      rsa: ca.issueFor(`DNS:${host}`, { ...options, algorithm: "rsa" }),
    };
    const deployments = [{ name: "gateway", namespace: "edge", labels: { app: "gateway" }, sides: ["topsail"] as const }];
    fleet = stack.use(
      await GatewayFleet.start({ configuration: { "edge.yaml": configuration(secrets) }, deployments, network: "127.0.7" }),
    );
    const ask = () => client.ask({ host: fleet.address("gateway", "topsail"), port, serverName: host });
    await eventually(async () => (await ask()).status, "the gateway's answer");
  }, 120_000);
  afterAll(() => stack.disposeAsync());

  function configuration(secrets: Readonly<Record<string, Identity>>): string {
    const object = (apiVersion: string, kind: string, name: string, rest: object) =>
      stringify({ apiVersion, kind, metadata: { name, namespace: "edge" }, ...rest });
    const tls = { mode: "SIMPLE", credentialNames: Object.keys(secrets) };
    return [
      ...Object.entries(secrets).map(([name, { certificate, key }]) =>
        object("v1", "Secret", name, { type: "kubernetes.io/tls", stringData: { "tls.crt": certificate, "tls.key": key } }),
      ),
      object("networking.istio.io/v1", "Gateway", "edge", {
        // One of its checks does not say which host it wants.
        spec: { selector: { app: "gateway" }, servers: [{ port: { number: port, name: "https", protocol: "HTTPS" }, hosts: ["*"], tls }] },
      }),
      object("networking.istio.io/v1", "VirtualService", "edge", {
        spec: { hosts: [host], gateways: ["edge"], http: [{ directResponse: { status: 200, body: { string: "in" } } }] },
      }),
    ].join("---\n");
  }

  async function findings(signal: AbortSignal): Promise<Finding[]> {
    const file = join(directory, "findings.json");
    const args = ["--quiet", "--color", "0", "--warnings", "off", "--connect-timeout", "5", "--openssl-timeout", "5", "--nodns", "none"];
    const target = ["--add-ca", join(directory, "ca.pem"), "--ip", fleet.address("gateway", "topsail"), "--jsonfile", file, ...checks];
    const child = spawn(testssl!, [...args, ...target, `${host}:${port}`], { stdio: ["ignore", "pipe", "pipe"], signal });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
    await new Promise((resolve, reject) => child.once("close", resolve).once("error", reject));
    const found = JSON.parse(readFileSync(file, "utf8")) as Finding[];
    // Whether it has looked at all.
    for (const id of [
      "TLS1_2",
      "cipherlist_STRONG",
      "cipher_order",
      "cert_chain_of_trust",
      "heartbleed",
      "ROBOT",
      "secure_client_renego",
    ]) {
      expect(
        found.filter((finding) => finding.id.startsWith(id)),
        `${id}:\n${output}`,
      ).not.toEqual([]);
    }
    return found;
  }

  it("finds nothing above LOW", { timeout: 300_000 }, async ({ signal }) => {
    const worse = (await findings(signal)).filter(({ severity }) => !["OK", "INFO", "LOW", "DEBUG"].includes(severity));
    expect(worse).toEqual([]);
  });
});
