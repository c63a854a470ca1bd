/**
 * The Service `istiod` of the control plane itself, by which gateways lead machines of other networks to it. A Service of that name that
 * a file has is the operator's, and left alone.
 */
import { lookup } from "node:dns/promises";
import { networkInterfaces } from "node:os";
import type { WritableConfigStore } from "../../../config/store.ts";
import type { HostPort } from "../../../lib/host-port.ts";
import { isWildcard } from "../../../lib/wildcard-address.ts";
import type { ClusterAddresses } from "../admission/cluster-addresses.ts";
import { keepObject } from "./own-object.ts";

const metadata = { name: "istiod", namespace: "istio-system", labels: { app: "istiod", istio: "pilot" } };

export interface ControlPlaneAddresses {
  /** Of agents. */
  readonly secure: HostPort;
  readonly kubeApi: HostPort;
}

export async function keepControlPlaneService(
  store: WritableConfigStore,
  addresses: ClusterAddresses,
  { secure, kubeApi }: ControlPlaneAddresses,
): Promise<void> {
  const { namespace, name } = metadata;
  // By these ports it is called, whatever ports it is served on. Behind 443 Istio has its webhooks, which check what is written; here that
  // is done by the API.
  const served = [
    { name: "https-dns", port: 15012, at: secure },
    { name: "https-api", port: 443, at: kubeApi },
  ];
  const known = store.get({ kind: "Service", namespace, name })?.spec.clusterIP;
  const allocated = known ? undefined : addresses.allocate(namespace, name);
  try {
    const clusterIP = known || allocated?.address;
    const ports = served.map((one) => ({ name: one.name, protocol: "TCP", port: one.port, targetPort: one.at.port }));
    // Not a way to the gateways that are on the control plane's machine. Its endpoints are those below.
    const selector = { app: "istiod", istio: "pilot" };
    await keepObject(store, { apiVersion: "v1", kind: "Service", metadata, spec: { type: "ClusterIP", clusterIP, selector, ports } });
  } finally {
    allocated?.release();
  }
  await keepObject(store, {
    apiVersion: "v1",
    kind: "Endpoints",
    metadata,
    subsets: await Promise.all(
      served.map(async (one) => ({
        addresses: [{ ip: await reachableAt(one.at.host) }],
        ports: [{ name: one.name, port: one.at.port, protocol: "TCP" }],
      })),
    ),
  });
}

/** Of a port that is served on all addresses, the machine's first one that others can call. */
async function reachableAt(host: string): Promise<string> {
  if (host !== "" && !isWildcard(host)) return (await lookup(host)).address;
  const own = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return own.find(({ internal, family }) => !internal && family === "IPv4")?.address ?? "127.0.0.1";
}
