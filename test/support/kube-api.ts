/** A client of the Kubernetes-compatible API that has nothing but a kubeconfig. */
import { readFileSync } from "node:fs";
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
}

/** `identity` null: without a client certificate. */
export function callApi(
  { server, root, certificate, key }: Kubeconfig,
  method: string,
  path: string,
  body?: unknown,
  identity: { readonly cert: string; readonly key: string } | null = { cert: certificate, key },
): Promise<ApiAnswer> {
  return new Promise((resolve, reject) => {
    const sent = request(`${server}${path}`, { method, ca: root, ...(identity ?? {}), agent: false }, (response) => {
      let text = "";
      response.on("data", (chunk) => {
        text += chunk;
      });
      response.on("end", () => resolve({ code: response.statusCode ?? 0, body: JSON.parse(text) as Record<string, unknown> }));
    });
    sent.on("error", reject);
    sent.end(body === undefined ? undefined : typeof body === "string" ? body : JSON.stringify(body));
  });
}

export async function createToken(config: Kubeconfig, namespace: string, serviceAccount: string, audience = "istio-ca"): Promise<string> {
  const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${serviceAccount}/token`;
  const { code, body } = await callApi(config, "POST", path, { spec: { audiences: [audience], expirationSeconds: 3600 } });
  if (code !== 201) throw new Error(`no token: ${code} ${JSON.stringify(body)}`);
  return (body.status as { token: string }).token;
}
