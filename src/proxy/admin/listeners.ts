import { jsonText } from "../../api/envoy/write-json.ts";
import type { AdminHandler } from "./admin-handler.ts";

export const listeners: AdminHandler = {
  path: "/listeners",
  help: "print listener info",
  params: [["format", "File format to use; One of (text, json)"]],
  handle(server, { query }) {
    const all = server.listeners.addresses();
    if (query.get("format") === "json") {
      const statuses = all.map(({ name, addresses: [first, ...more] }) => ({
        name,
        local_address: jsonAddress(first!),
        ...(more.length > 0 && { additional_local_addresses: more.map(jsonAddress) }),
      }));
      return { type: "json", body: jsonText(statuses.length > 0 ? { listener_statuses: statuses } : {}) };
    }
    return { body: all.flatMap(({ name, addresses }) => addresses.map((address) => `${name}::${addressText(address)}\n`)).join("") };
  },
};

interface BoundAddress {
  readonly address: string;
  readonly port: number;
}

/** A Unix domain socket has no port. */
export function jsonAddress({ address, port }: BoundAddress) {
  if (address.startsWith("/") || address.startsWith("@")) return { pipe: { path: address } };
  return { socket_address: { address, port_value: port } };
}

export function addressText({ address, port }: BoundAddress): string {
  if (address.startsWith("/") || address.startsWith("@")) return address;
  return address.includes(":") ? `[${address}]:${port}` : `${address}:${port}`;
}
