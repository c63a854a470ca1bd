/**
 * envoy.transport_sockets.upstream_proxy_protocol: before anything else, TLS included, an endpoint is told by a PROXY header whose
 * connection it gets.
 */
import type * as net from "node:net";
import { type Any, anyUnpack } from "@bufbuild/protobuf/wkt";
import { ConfigError } from "../../api/config-error.ts";
import {
  PerHostConfigSchema,
  type ProxyProtocolConfig,
  ProxyProtocolConfig_Version,
  type TlvEntry,
} from "../../api/gen/envoy/config/core/v3/proxy_protocol_pb.js";
import { compileTlvSelection, type TlvSelection } from "../proxy-protocol/tlv-selection.ts";
import type { AnnouncedAddresses, Tlv } from "../proxy-protocol/wire.ts";
import { binaryHeader, localHeader, textHeader } from "../proxy-protocol/write-header.ts";
import type { ClientView } from "./client-view.ts";

/** Of an endpoint's `metadata.typed_filter_metadata`. */
export const announcementNamespace = "envoy.transport_sockets.proxy_protocol";

export class ProxyAnnouncement {
  readonly #isText: boolean;
  readonly #passes: TlvSelection;
  readonly #added: readonly Tlv[];
  readonly #countTooLong: () => void;

  /** `countTooLong` is called for a header that lacks an extension for which there was no room. */
  constructor(config: ProxyProtocolConfig | undefined, countTooLong: () => void) {
    this.#isText = (config?.version ?? ProxyProtocolConfig_Version.V1) === ProxyProtocolConfig_Version.V1;
    this.#passes = compileTlvSelection(config?.passThroughTlvs);
    this.#added = compileAddedTlvs(config?.addedTlvs ?? []);
    this.#countTooLong = countTooLong;
  }

  /** Writes as soon as the socket is connected. `client`: null for the proxy's own connections. */
  announce(socket: net.Socket, client: ClientView | null, ofEndpoint: readonly Tlv[]): void {
    socket.once("connect", () => {
      const header = this.#headerOf(socket, client, ofEndpoint);
      if (header !== null) socket.write(header);
    });
  }

  #headerOf(socket: net.Socket, client: ClientView | null, ofEndpoint: readonly Tlv[]): Buffer | null {
    // A client of a Unix domain socket has no address that could be told.
    const known = client === null || client.remoteIp === "" ? null : addressesOf(client);
    if (this.#isText) {
      const addresses = known ?? ownAddresses(socket);
      return addresses === null ? null : textHeader(addresses);
    }
    if (known === null) return localHeader();
    const { bytes, isWhole } = binaryHeader(known, this.#tlvsFor(client!, ofEndpoint));
    if (!isWhole) this.#countTooLong();
    return bytes;
  }

  /** The endpoint's go before the cluster's, and these before the client's; of a type only those of one of them. */
  #tlvsFor(client: ClientView, ofEndpoint: readonly Tlv[]): readonly Tlv[] {
    const tlvs = [...ofEndpoint];
    const add = (more: readonly Tlv[]) => {
      const known = new Set(tlvs.map(({ type }) => type));
      tlvs.push(...more.filter(({ type }) => !known.has(type)));
    };
    add(this.#added);
    add(client.passedTlvs.filter(({ type }) => this.#passes(type)));
    return tlvs;
  }
}

/** `added_tlvs` of an endpoint; none where its metadata is something else, as with Envoy. */
export function tlvsOfEndpoint(metadata: Any | undefined): readonly Tlv[] {
  const config = metadata === undefined ? undefined : anyUnpack(metadata, PerHostConfigSchema);
  return config === undefined ? [] : compileAddedTlvs(config.addedTlvs);
}

function compileAddedTlvs(entries: readonly TlvEntry[]): Tlv[] {
  return entries.map(({ type, value, formatString }) => {
    if (type > 255) throw new ConfigError("TlvEntry: type: value must be less than 256");
    if (formatString !== undefined) throw new ConfigError("TlvEntry: format_string is not supported by this proxy");
    return { type, value: Buffer.from(value) };
  });
}

function addressesOf({ remoteIp, remotePort, localIp, localPort }: ClientView): AnnouncedAddresses {
  return { sourceIp: remoteIp, sourcePort: remotePort, destinationIp: localIp, destinationPort: localPort };
}

/** null for a Unix domain socket. */
function ownAddresses({ localAddress, localPort, remoteAddress, remotePort }: net.Socket): AnnouncedAddresses | null {
  if (localAddress === undefined || localPort === undefined || remoteAddress === undefined || remotePort === undefined) return null;
  return { sourceIp: localAddress, sourcePort: localPort, destinationIp: remoteAddress, destinationPort: remotePort };
}
