/** A publisher of SPIFFE bundles over HTTPS, as SPIRE's server is one. */
import { X509Certificate } from "node:crypto";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { makeMeshCa } from "./mesh-ca.ts";

export interface TestBundleEndpoint extends AsyncDisposable {
  readonly url: string;
  /** PEM of the CA of its own certificate. */
  readonly ca: string;
  /** What it answers; undefined: 503. */
  body: string | undefined;
  asked: number;
}

export async function startBundleEndpoint(body?: string): Promise<TestBundleEndpoint> {
  const web = makeMeshCa("web");
  const { certificate, key } = web.issueFor("DNS:localhost");
  const server = createServer({ cert: certificate, key }, (_, response) => {
    endpoint.asked++;
    if (endpoint.body === undefined) response.writeHead(503).end();
    else response.writeHead(200, { "content-type": "application/json" }).end(endpoint.body);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const endpoint: TestBundleEndpoint = {
    url: `https://localhost:${(server.address() as AddressInfo).port}/bundle`,
    ca: web.root,
    body,
    asked: 0,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return endpoint;
}

export function spiffeBundle(...roots: string[]): string {
  const keys = roots.map((pem) => {
    const certificate = new X509Certificate(pem);
    return { ...certificate.publicKey.export({ format: "jwk" }), use: "x509-svid", x5c: [certificate.raw.toString("base64")] };
  });
  return JSON.stringify({ keys: [...keys, { kty: "EC", use: "jwt-svid", kid: "a" }], spiffe_sequence: 1, spiffe_refresh_hint: 1 });
}
