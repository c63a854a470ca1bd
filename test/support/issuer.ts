/** A token issuer's server: its OpenID Connect document, and keys that a test changes, takes away and brings back. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

export interface TestIssuer extends AsyncDisposable {
  readonly url: string;
  /** The text of /keys; undefined: 503. */
  keys: string | undefined;
  /** Paths that were asked for. */
  readonly asked: string[];
}

export async function startIssuer(keys: string | undefined): Promise<TestIssuer> {
  const asked: string[] = [];
  const server = createServer({ keepAliveTimeout: 600_000 }, (request, response) => {
    asked.push(request.url!);
    const text = request.url === "/keys" ? issuer.keys : JSON.stringify({ issuer: issuer.url, jwks_uri: `${issuer.url}/keys` });
    if (text === undefined || !["/keys", "/.well-known/openid-configuration"].includes(request.url!)) response.writeHead(503).end();
    else response.writeHead(200, { "content-type": "application/json" }).end(text);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const issuer: TestIssuer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    keys,
    asked,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return issuer;
}
