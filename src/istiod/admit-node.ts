/** Who a client says it is, and whether it may say so. Of every stream that begins with a node. */
import { status } from "@grpc/grpc-js";
import { type Peer, StreamRefused } from "../ads/server.ts";
import type { Node } from "../api/gen/envoy/config/core/v3/base_pb.js";
import { NodeError, type ProxyNode, parseNode } from "../api/node.ts";
import { formatSpiffeId, type SpiffeId } from "../api/spiffe.ts";
import { log } from "../lib/log.ts";

const scope = log.scope("ads");

/** Throws StreamRefused. A peer without identities is one of a port that does not ask. */
export function admitNode(node: Node | undefined, peer: Peer): ProxyNode {
  const proxy = parsedOrRefused(node);
  if (peer.identities && !hasIdentityOf(proxy, peer.identities)) {
    scope.warn("proxy refused", { proxy: proxy.id, peer: peer.address, identities: peer.identities.map(formatSpiffeId).join(",") });
    throw new StreamRefused(status.PERMISSION_DENIED, `no identity of the caller matches the node ${proxy.nodeId}`);
  }
  return proxy;
}

/**
 * A proxy is given what its namespace and service account may see, so it must be who it says.
 * Source: Istio pilot/pkg/xds/auth.go (checkConnectionIdentity).
 */
function hasIdentityOf(proxy: ProxyNode, identities: readonly SpiffeId[]): boolean {
  return identities.some(
    ({ namespace, serviceAccount }) =>
      namespace === proxy.namespace && (proxy.serviceAccount === "" || serviceAccount === proxy.serviceAccount),
  );
}

function parsedOrRefused(node: Node | undefined): ProxyNode {
  try {
    return parseNode(node);
  } catch (error) {
    if (error instanceof NodeError) throw new StreamRefused(status.INVALID_ARGUMENT, error.message);
    throw error;
  }
}
