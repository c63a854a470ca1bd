/** `istioctl proxy-config endpoints`: to whom a proxy sends. Source: Istio istioctl/pkg/writer/envoy/clusters. */
import type { Command } from "commander";
import type { CommandContext } from "../command.ts";
import { fieldAt, type JsonObject, numberAt, objectAt, objectsAt, textAt } from "../output/json-fields.ts";
import { printDump } from "../output/print-dump.ts";
import { formatTable } from "../output/table.ts";
import { parsePort, readAdminJson, type SourceOptions, sourceCommand } from "./proxy-source.ts";

interface Options extends SourceOptions {
  readonly address?: string;
  readonly port?: string;
  readonly cluster?: string;
  readonly status?: string;
}

const heading = ["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"];

export function endpointsCommand(context: CommandContext): Command {
  return sourceCommand("endpoint", ["endpoints", "ep"], "Retrieves endpoint configuration for the Envoy in the specified pod")
    .option("--address <address>", "filter endpoints by address field")
    .option("--port <port>", "filter endpoints by port field")
    .option("--cluster <name>", "filter endpoints by cluster name field")
    .option("--status <status>", "filter endpoints by status field")
    .action((target: string | undefined, options: Options) => showEndpoints(target, options, context));
}

async function showEndpoints(target: string | undefined, options: Options, context: CommandContext): Promise<void> {
  const passes = filterOf(options);
  const statuses = objectsAt(await readAdminJson("/clusters?format=json", target, options, context), "cluster_statuses");
  const hostsOf = (status: JsonObject) => objectsAt(status, "host_statuses").map((host) => endpointOf(host, textAt(status, "name")));
  printDump(options.output, context, {
    table: () => {
      const endpoints = statuses.flatMap(hostsOf).filter(passes).sort(byAddress);
      return formatTable([heading, ...endpoints.map(rowOf)], 5);
    },
    dump: () => statuses.filter((status) => hostsOf(status).some(passes)),
  });
}

interface Endpoint {
  readonly address: string;
  readonly port: number;
  readonly health: string;
  readonly isOutlier: boolean;
  readonly cluster: string;
}

function endpointOf(host: JsonObject, cluster: string): Endpoint {
  const address = objectAt(host, "address");
  const health = textAt(host, "health_status", "eds_health_status") || "UNKNOWN";
  const isOutlier = fieldAt(host, "health_status", "failed_outlier_check") === true;
  return { address: addressText(address), port: numberAt(address, "socket_address", "port_value"), health, isOutlier, cluster };
}

function addressText(address: JsonObject): string {
  if (address.socket_address !== undefined) return textAt(address, "socket_address", "address");
  if (address.pipe !== undefined) return `unix://${textAt(address, "pipe", "path")}`;
  const internal = objectAt(address, "envoy_internal_address");
  const listener = textAt(internal, "server_listener_name");
  return listener === "" ? "unknown" : `envoy://${listener}/${textAt(internal, "endpoint_id")}`;
}

function filterOf({ address, port, cluster, status }: Options): (endpoint: Endpoint) => boolean {
  const wantedPort = port === undefined || port === "0" ? undefined : parsePort(port, "--port");
  const isSame = (wanted: string | undefined, is: string) => !wanted || wanted.toLowerCase() === is.toLowerCase();
  return (endpoint) =>
    isSame(address, endpoint.address) &&
    (wantedPort === undefined || wantedPort === endpoint.port) &&
    isSame(cluster, endpoint.cluster) &&
    isSame(status, endpoint.health);
}

function byAddress(a: Endpoint, b: Endpoint): number {
  if (a.address !== b.address) return a.address < b.address ? -1 : 1;
  if (a.port !== b.port) return a.port - b.port;
  return a.cluster < b.cluster ? -1 : a.cluster > b.cluster ? 1 : 0;
}

function rowOf({ address, port, health, isOutlier, cluster }: Endpoint): string[] {
  return [port === 0 ? address : `${address}:${port}`, health, isOutlier ? "FAILED" : "OK", cluster];
}
