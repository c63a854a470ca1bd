/** `istioctl proxy-config listeners`. Source: Istio istioctl/pkg/writer/envoy/configdump/listener.go. */
import type { Command } from "commander";
import { CliError } from "../cli-error.ts";
import type { CommandContext } from "../command.ts";
import { type JsonObject, numberAt, objectAt, objectsAt, textAt } from "../output/json-fields.ts";
import { printDump } from "../output/print-dump.ts";
import { formatTable } from "../output/table.ts";
import { parseBoolean } from "./boolean-flag.ts";
import { describeChainMatch, describeDestination, listenerType } from "./describe-filter-chain.ts";
import { parsePort, readConfigDump, type SourceOptions, sourceCommand } from "./proxy-source.ts";
import { withoutType } from "./without-type.ts";

interface Options extends SourceOptions {
  readonly address?: string;
  readonly port?: string;
  readonly type?: string;
  readonly verbose: boolean;
}

export function listenersCommand(context: CommandContext): Command {
  return sourceCommand("listener", ["listeners", "l"], "Retrieves listener configuration for the Envoy in the specified pod")
    .option("--address <address>", "filter listeners by address field")
    .option("--port <port>", "filter listeners by Port field")
    .option("--type <type>", "filter listeners by type field")
    .option("--verbose [bool]", "output more information", parseBoolean("--verbose"), true)
    .action((target: string | undefined, options: Options) => showListeners(target, options, context));
}

async function showListeners(target: string | undefined, options: Options, context: CommandContext): Promise<void> {
  const passes = filterOf(options);
  const dump = await readConfigDump("ListenersConfigDump", "dynamic_listeners,static_listeners", target, options, context);
  const all = [
    ...objectsAt(dump, "dynamic_listeners").map((entry) => objectAt(entry, "active_state", "listener")),
    ...objectsAt(dump, "static_listeners").map((entry) => objectAt(entry, "listener")),
  ].filter((message) => Object.keys(message).length > 0);
  if (all.length === 0) throw new CliError("no listeners found");
  const listeners = all.map(listenerOf).filter(passes);
  printDump(options.output, context, {
    table: () => {
      const sorted = listeners.toSorted(byPort);
      return options.verbose
        ? formatTable([["ADDRESSES", "PORT", "MATCH", "DESTINATION"], ...sorted.flatMap(rowsOf)], 1)
        : formatTable([["ADDRESSES", "PORT", "TYPE"], ...sorted.map((one) => [...placeOf(one), one.type])], 1);
    },
    dump: () => listeners.map(({ message }) => withoutType(message)),
  });
}

interface Listener {
  readonly message: JsonObject;
  readonly addresses: readonly string[];
  readonly port: number;
  readonly type: string;
  readonly chains: readonly JsonObject[];
}

function listenerOf(message: JsonObject): Listener {
  const address = objectAt(message, "address");
  const more = objectsAt(message, "additional_addresses").map((one) => textAt(one, "address", "socket_address", "address"));
  const defaultChain = message.default_filter_chain === undefined ? [] : [objectAt(message, "default_filter_chain")];
  const chains = [...objectsAt(message, "filter_chains"), ...defaultChain];
  return {
    message,
    addresses: [textAt(address, "socket_address", "address") || textAt(address, "pipe", "path"), ...more],
    port: numberAt(address, "socket_address", "port_value"),
    type: listenerType(chains),
    chains,
  };
}

function filterOf({ address, port = "0", type }: Options): (listener: Listener) => boolean {
  const wantedPort = port === "0" ? undefined : parsePort(port, "--port");
  const isSame = (a: string, b: string) => a.toLowerCase() === b.toLowerCase();
  return (listener) =>
    (!address || listener.addresses.some((one) => isSame(one, address))) &&
    (wantedPort === undefined || wantedPort === listener.port) &&
    (!type || isSame(listener.type, type));
}

function byPort(a: Listener, b: Listener): number {
  if (a.port !== b.port) return a.port - b.port;
  const [one, other] = [a.addresses[0]!, b.addresses[0]!];
  if (one !== other) return one < other ? -1 : 1;
  return a.type < b.type ? -1 : a.type > b.type ? 1 : 0;
}

function placeOf({ addresses, port }: Listener): string[] {
  return [addresses.join(","), String(port)];
}

/** By destination, backwards. */
function rowsOf(listener: Listener): string[][] {
  return listener.chains
    .map((chain) => ({ match: describeChainMatch(objectAt(chain, "filter_chain_match")), destination: describeDestination(chain) }))
    .sort((a, b) => (a.destination > b.destination ? -1 : a.destination < b.destination ? 1 : 0))
    .map(({ match, destination }) => [...placeOf(listener), match, destination]);
}
