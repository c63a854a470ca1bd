/** What of this machine the control plane may ask by way of the agent: four ports on it, to read; and of the proxy two things more. */
import type { ProxyConfig } from "../../api/mesh/proxy-config.ts";
import { ownLoopback } from "../../lib/loopback.ts";
import { isWildcard } from "../../lib/wildcard-address.ts";
import type { AgentEnvironment } from "../environment.ts";

export interface OwnPort {
  readonly host: string;
  readonly port: number;
  /** Paths that take POST. */
  readonly posts: ReadonlySet<string>;
}

const none: ReadonlySet<string> = new Set();
const adminPosts: ReadonlySet<string> = new Set(["/logging", "/reset_counters"]);

export interface OwnPortsOptions {
  readonly environment: Pick<AgentEnvironment, "bindAddress" | "statusListenerPort" | "prometheusPort">;
  readonly config: Pick<ProxyConfig, "proxyAdminPort" | "statusPort">;
  /** Where the status port listens. */
  readonly statusHost: string;
}

/** By Istio's numbers, which an operator asks for, and by those that are in use here. */
export function ownPorts({ environment, config, statusHost }: OwnPortsOptions): ReadonlyMap<number, OwnPort> {
  const loopback = ownLoopback(environment.bindAddress);
  const listenerHost = environment.bindAddress ?? loopback;
  const isAny = statusHost === "" || isWildcard(statusHost);
  const usual: readonly (readonly [number, OwnPort])[] = [
    [15000, { host: loopback, port: config.proxyAdminPort, posts: adminPosts }],
    [15020, { host: isAny ? loopback : statusHost, port: config.statusPort, posts: none }],
    [15021, { host: listenerHost, port: environment.statusListenerPort, posts: none }],
    [15090, { host: listenerHost, port: environment.prometheusPort, posts: none }],
  ];
  const served = usual.filter(([, { port }]) => port !== 0);
  return new Map([...served.map(([, own]) => [own.port, own] as const), ...served]);
}
