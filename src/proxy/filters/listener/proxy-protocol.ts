/**
 * envoy.filters.listener.proxy_protocol: what a PROXY header tells becomes the connection's addresses, and some of its extensions its
 * metadata. Statistics are of the process, as in Envoy, and not of a listener.
 */
import { isUtf8 } from "node:buffer";
import { ConfigError } from "../../../api/config-error.ts";
import { ProxyProtocolConfig_Version } from "../../../api/gen/envoy/config/core/v3/proxy_protocol_pb.js";
import {
  type ProxyProtocol,
  type ProxyProtocol_KeyValuePair,
  ProxyProtocol_TlvLocation,
} from "../../../api/gen/envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol_pb.js";
import { type HeaderReading, type ProxyHeader, type ReadingTerms, readProxyHeader } from "../../proxy-protocol/read-header.ts";
import { compileTlvSelection, type TlvSelection } from "../../proxy-protocol/tlv-selection.ts";
import { noTlvs, type Tlv } from "../../proxy-protocol/wire.ts";
import type { StatIndex, StatsStore } from "../../stats/store.ts";
import type { DynamicMetadata } from "../../stream-info.ts";

const ownNamespace = "envoy.filters.listener.proxy_protocol";

export class ProxyProtocolFilter {
  readonly #terms: ReadingTerms;
  readonly #rules = new Map<number, ProxyProtocol_KeyValuePair>();
  readonly #passes: TlvSelection;
  readonly #stats: StatsStore;
  readonly #errors: StatIndex;
  readonly #notFound: { readonly allowed: StatIndex; readonly disallowed: StatIndex };
  readonly #versions: Readonly<Record<1 | 2, { readonly found: StatIndex; readonly disallowed: StatIndex; readonly error: StatIndex }>>;

  constructor(config: ProxyProtocol, stats: StatsStore) {
    const disallowed = new Set(config.disallowedVersions);
    this.#terms = {
      isOptional: config.allowRequestsWithoutProxyProtocol,
      takesText: !disallowed.has(ProxyProtocolConfig_Version.V1),
      takesBinary: !disallowed.has(ProxyProtocolConfig_Version.V2),
    };
    if (!this.#terms.takesText && !this.#terms.takesBinary) {
      throw new ConfigError("Proxy Protocol filter is misconfigured: all proxy protocol versions are disallowed.");
    }
    if (config.tlvLocation === ProxyProtocol_TlvLocation.FILTER_STATE) {
      throw new ConfigError("ProxyProtocol: tlv_location FILTER_STATE is not supported by this proxy");
    }
    for (const { tlvType, onTlvPresent } of config.rules) {
      if (tlvType > 255) throw new ConfigError("ProxyProtocol.Rule: tlv_type: value must be less than 256");
      if (onTlvPresent?.key === "") throw new ConfigError("ProxyProtocol.KeyValuePair: key: value length must be at least 1 characters");
      if (onTlvPresent !== undefined) this.#rules.set(tlvType, onTlvPresent);
    }
    this.#passes = compileTlvSelection(config.passThroughTlvs);
    const prefix = config.statPrefix === "" ? "proxy_proto." : `proxy_proto.${config.statPrefix}.`;
    const counter = (name: string) => stats.counter(prefix + name);
    const ofVersion = (version: string) => ({
      found: counter(`versions.${version}.found`),
      disallowed: counter(`versions.${version}.disallowed`),
      error: counter(`versions.${version}.error`),
    });
    this.#stats = stats;
    this.#errors = stats.counter("downstream_cx_proxy_proto_error");
    this.#notFound = { allowed: counter("not_found_allowed"), disallowed: counter("not_found_disallowed") };
    this.#versions = { 1: ofVersion("v1"), 2: ofVersion("v2") };
  }

  /** `bytes`: everything that came so far. */
  read(bytes: Buffer): HeaderReading {
    const reading = readProxyHeader(bytes, this.#terms);
    if (reading.kind !== "more") this.#count(reading);
    return reading;
  }

  #count(reading: HeaderReading): void {
    const add = (at: StatIndex) => this.#stats.add(at, 1);
    switch (reading.kind) {
      case "absent":
        add(this.#notFound.allowed);
        break;
      case "found":
        add(this.#versions[reading.header.version].found);
        break;
      case "disallowed":
        // Found it was.
        add(this.#versions[reading.version as 1 | 2].found);
        add(this.#versions[reading.version as 1 | 2].disallowed);
        break;
      case "refused":
        add(this.#errors);
        add(reading.version === 0 ? this.#notFound.disallowed : this.#versions[reading.version].error);
        break;
      default:
    }
  }

  /** What the rules make of a header's extensions; null: nothing. The first of a type counts. */
  metadataOf({ tlvs }: ProxyHeader): DynamicMetadata | null {
    let metadata: DynamicMetadata | null = null;
    for (const { type, value } of tlvs) {
      const rule = this.#rules.get(type);
      if (rule === undefined) continue;
      metadata ??= new Map();
      const namespace = rule.metadataNamespace || ownNamespace;
      const fields = metadata.get(namespace) ?? {};
      metadata.set(namespace, { [rule.key]: validText(value), ...fields });
    }
    return metadata;
  }

  /** Extensions that go on to endpoints, where their clusters let them. They outlive what was read. */
  passedTlvs({ tlvs }: ProxyHeader): readonly Tlv[] {
    const passed = tlvs.filter(({ type }) => this.#passes(type)).map(({ type, value }) => ({ type, value: Buffer.from(value) }));
    return passed.length === 0 ? noTlvs : passed;
  }
}

/** Envoy puts an exclamation mark in the place of each byte that is no UTF-8. */
function validText(bytes: Buffer): string {
  if (isUtf8(bytes)) return bytes.toString("utf8");
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    const length = [1, 2, 3, 4].find((count) => at + count <= bytes.length && isUtf8(bytes.subarray(at, at + count)));
    text += length === undefined ? "!" : bytes.toString("utf8", at, at + length);
    at += length ?? 1;
  }
  return text;
}
