/** Whether the agent answers DNS queries, and how. Source: Istio pkg/istio-agent/agent.go, pkg/dns/client/dns.go. */
import { existsSync } from "node:fs";
import { isTrue, type ProxyType } from "../../api/node.ts";
import { log } from "../../lib/log.ts";
import type { PortSharing } from "../../platform/port-sharing.ts";
import type { AgentEnvironment } from "../environment.ts";
import type { NodeIdentity } from "../node.ts";
import type { AgentPaths } from "../paths.ts";
import type { DnsProxyOptions } from "./dns-proxy.ts";
import { proxyDomain } from "./name-forms.ts";

const scope = log.scope("dns");

const defaultAddress = "localhost:15053";

/** By the node's metadata, so that the control plane allocates addresses where somebody answers with them. */
export function answersDns({ metadata }: NodeIdentity, type: ProxyType): boolean {
  return isTrue(metadata.ENABLE_DNS_SERVER) || (type === "sidecar" && isTrue(metadata.DNS_CAPTURE));
}

export function dnsProxyOptions(
  node: NodeIdentity,
  environment: AgentEnvironment,
  paths: AgentPaths,
  sharing: PortSharing,
): DnsProxyOptions {
  const [, , , nodeDomain = ""] = node.id.split("~");
  const isRoot = process.getuid?.() === 0;
  let address = environment.dnsProxyAddress ?? defaultAddress;
  // On DNS's own port this is the machine's nameserver: the others stand in a file of their own then.
  const isNameserver = address.endsWith(":53") && isRoot;
  if (address.endsWith(":53") && !isRoot) {
    scope.error("DNS_PROXY_ADDR needs root, the default is taken", { address, default: defaultAddress });
    address = defaultAddress;
  }
  return {
    address,
    sharing,
    domain: proxyDomain(environment.podNamespace, nodeDomain),
    resolvConf: environment.resolvConf ?? (isNameserver && existsSync(paths.resolvConf) ? paths.resolvConf : "/etc/resolv.conf"),
    isParallel: environment.dnsForwardParallel,
    timeoutMs: environment.dnsForwardTimeoutMs,
    forwardsBeforeTable: isNameserver,
  };
}
