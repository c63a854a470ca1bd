/** A client of the Kubernetes-compatible API that has nothing but a kubeconfig. */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { request } from "node:https";
import { parse } from "yaml";

export interface Kubeconfig {
  readonly server: string;
  /** PEM. */
  readonly root: string;
  readonly certificate: string;
  readonly key: string;
}

export function readKubeconfig(path: string): Kubeconfig {
  const config = parse(readFileSync(path, "utf8")) as {
    clusters: { cluster: { server: string; "certificate-authority-data": string } }[];
    users: { user: { "client-certificate-data": string; "client-key-data": string } }[];
  };
  const text = (data: string) => Buffer.from(data, "base64").toString("utf8");
  const { cluster } = config.clusters[0]!;
  const { user } = config.users[0]!;
  return {
    server: cluster.server,
    root: text(cluster["certificate-authority-data"]),
    certificate: text(user["client-certificate-data"]),
    key: text(user["client-key-data"]),
  };
}

export interface ApiAnswer {
  readonly code: number;
  readonly body: Record<string, unknown>;
  readonly headers: IncomingHttpHeaders;
}

/** A body that is text is sent as it is, anything else as JSON. `identity` null: without a client certificate. */
export function callApi(
  { server, root, certificate, key }: Kubeconfig,
  method: string,
  path: string,
  body?: unknown,
  identity: { readonly cert: string; readonly key: string } | null = { cert: certificate, key },
  headers: Readonly<Record<string, string>> = {},
): Promise<ApiAnswer> {
  return new Promise((resolve, reject) => {
    const text = body === undefined ? "" : typeof body === "string" ? body : JSON.stringify(body);
    // Node leaves it away for DELETE.
    const length = { "content-length": Buffer.byteLength(text) };
    const options = { method, ca: root, ...(identity ?? {}), agent: false, headers: { ...length, ...headers } };
    const sent = request(`${server}${path}`, options, (response) => {
      let answer = "";
      response.on("data", (chunk) => {
        answer += chunk;
      });
      response.on("end", () => {
        resolve({ code: response.statusCode ?? 0, body: JSON.parse(answer) as Record<string, unknown>, headers: response.headers });
      });
    });
    sent.on("error", reject);
    sent.end(text);
  });
}

/** Lines of a watch as they come, until it is disposed of. */
export interface ApiWatch extends Disposable {
  readonly events: { readonly type: string; readonly object: Record<string, unknown> }[];
  /** Resolves when there are so many events. */
  seen(count: number): Promise<void>;
  readonly ended: Promise<void>;
}

export async function watchApi({ server, root, certificate: cert, key }: Kubeconfig, path: string, headers = {}): Promise<ApiWatch> {
  const events: ApiWatch["events"] = [];
  const waiting = new Set<() => void>();
  const sent = request(`${server}${path}`, { ca: root, cert, key, agent: false, headers });
  sent.end();
  const [response] = (await once(sent, "response")) as [IncomingMessage];
  if (response.statusCode !== 200) throw new Error(`no watch: ${response.statusCode}`);
  let text = "";
  response.on("data", (chunk) => {
    const lines = (text + chunk).split("\n");
    text = lines.pop() ?? "";
    for (const line of lines) events.push(JSON.parse(line) as ApiWatch["events"][number]);
    for (const check of waiting) check();
  });
  return {
    events,
    ended: new Promise((resolve) => response.once("close", () => resolve())),
    seen: (count) =>
      new Promise((resolve, reject) => {
        const check = () => {
          if (events.length < count) return;
          waiting.delete(check);
          resolve();
        };
        waiting.add(check);
        response.once("close", () => reject(new Error(`the watch ended after ${events.length} of ${count} events`)));
        check();
      }),
    [Symbol.dispose]: () => sent.destroy(),
  };
}

/** Makes the namespace where it is missing. */
export async function createToken(config: Kubeconfig, namespace: string, serviceAccount: string, audience = "istio-ca"): Promise<string> {
  const made = await callApi(config, "POST", "/api/v1/namespaces", { metadata: { name: namespace } });
  if (made.code !== 201 && made.code !== 409) throw new Error(`no namespace: ${made.code} ${JSON.stringify(made.body)}`);
  const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}/token`;
  const { code, body } = await callApi(config, "POST", path, { spec: { audiences: [audience], expirationSeconds: 3600 } });
  if (code !== 201) throw new Error(`no token: ${code} ${JSON.stringify(body)}`);
  return (body.status as { token: string }).token;
}
