/**
 * The Service `istiod` of the control plane itself, by which gateways lead machines of other networks to it. A Service of that name that
 * a file has is the operator's, and left alone.
 */
import { networkInterfaces } from "node:os";
import type { WritableConfigStore } from "../../../config/store.ts";
import type { HostPort } from "../../../lib/host-port.ts";
import type { ClusterAddresses } from "../admission/cluster-addresses.ts";
import { keepObject } from "./own-object.ts";

const metadata = { name: "istiod", namespace: "istio-system", labels: { app: "istiod", istio: "pilot" } };
/** Agents and gateways call this one, whatever port it is served on. */
const port = { name: "https-dns", protocol: "TCP", port: 15012 };

export async function keepControlPlaneService(store: WritableConfigStore, addresses: ClusterAddresses, secure: HostPort): Promise<void> {
  const { namespace, name } = metadata;
  const known = store.get({ kind: "Service", namespace, name })?.spec.clusterIP;
  const allocated = known ? undefined : addresses.allocate(namespace, name);
  try {
    const clusterIP = known || allocated?.address;
    const spec = { type: "ClusterIP", clusterIP, ports: [{ ...port, targetPort: secure.port }] };
    await keepObject(store, { apiVersion: "v1", kind: "Service", metadata, spec });
  } finally {
    allocated?.release();
  }
  await keepObject(store, {
    apiVersion: "v1",
    kind: "Endpoints",
    metadata,
    subsets: [{ addresses: [{ ip: reachableAt(secure.host) }], ports: [{ name: port.name, port: secure.port, protocol: "TCP" }] }],
  });
}

/** Of a port that is served on all addresses, the machine's first one that others can call. */
function reachableAt(host: string): string {
  if (host !== "" && host !== "0.0.0.0" && host !== "::") return host;
  const own = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return own.find(({ internal, family }) => !internal && family === "IPv4")?.address ?? "127.0.0.1";
}
