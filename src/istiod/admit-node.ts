/** Who a client says it is, and whether it may say so. Of every stream that begins with a node. */
import { status } from "@grpc/grpc-js";
import { type Peer, StreamRefused } from "../ads/server.ts";
import type { Node } from "../api/gen/envoy/config/core/v3/base_pb.js";
import { NodeError, type ProxyNode, parseNode } from "../api/node.ts";
import { formatSpiffeId } from "../api/spiffe.ts";
import { log } from "../lib/log.ts";

const scope = log.scope("ads");

/**
 * A proxy is given what its namespace and service account may see, so it must be who it says; whoever does not say gets the account that it
 * proved. A peer without identities is one of a port that does not ask. Throws StreamRefused.
 * Source: Istio pilot/pkg/xds/auth.go (checkConnectionIdentity).
 */
export function admitNode(node: Node | undefined, { identities, address }: Peer): ProxyNode {
  const proxy = parsedOrRefused(node);
  if (!identities) return proxy;
  const proved = identities.find(
    ({ namespace, serviceAccount }) =>
      namespace === proxy.namespace && (proxy.serviceAccount === "" || serviceAccount === proxy.serviceAccount),
  );
  if (proved) return { ...proxy, serviceAccount: proved.serviceAccount };
  scope.warn("proxy refused", { proxy: proxy.id, peer: address, identities: identities.map(formatSpiffeId).join(",") });
  throw new StreamRefused(status.PERMISSION_DENIED, `no identity of the caller matches the node ${proxy.nodeId}`);
}

function parsedOrRefused(node: Node | undefined): ProxyNode {
  try {
    return parseNode(node);
  } catch (error) {
    if (error instanceof NodeError) throw new StreamRefused(status.INVALID_ARGUMENT, error.message);
    throw error;
  }
}
