/** `session_ticket_keys` of a DownstreamTlsContext: keys of our own, the configuration's, or no tickets at all. */
import { randomFillSync } from "node:crypto";
import type * as tls from "node:tls";
import { ConfigError } from "../../api/config-error.ts";
import type { DownstreamTlsContext } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js";
import { compileTicketKeys, type SecretStore } from "./secret.ts";
import { deriveTicketKeys, type SessionKeys } from "./session-keys.ts";

export type TicketKeysSource =
  | { readonly kind: "own" }
  | { readonly kind: "none" }
  | { readonly kind: "inline"; readonly keys: readonly Buffer[] }
  | { readonly kind: "sds"; readonly name: string };

export function compileTicketKeysSource(type: DownstreamTlsContext["sessionTicketKeysType"]): TicketKeysSource {
  switch (type.case) {
    case "sessionTicketKeys":
      return { kind: "inline", keys: compileTicketKeys(type.value).keys };
    case "sessionTicketKeysSdsSecretConfig":
      if (type.value.name === "") throw new ConfigError("SdsSecretConfig: name: value length must be at least 1 characters");
      return { kind: "sds", name: type.value.name };
    case "disableStatelessSessionResumption":
      return { kind: type.value ? "none" : "own" };
    default:
      return { kind: "own" };
  }
}

/** `undefined` while SDS has not delivered them, null where the configuration has none. */
export function currentTicketKeys(source: TicketKeysSource, secrets: SecretStore): readonly Buffer[] | null | undefined {
  if (source.kind === "inline") return source.keys;
  if (source.kind !== "sds") return null;
  const secret = secrets.get(source.name);
  return secret?.kind === "ticketKeys" ? secret.keys : undefined;
}

/** For node:tls, 48 bytes each, the one to make tickets with first. All are bound to the context of the sessions that they carry. */
export function ticketKeysOf(own: SessionKeys, configured: readonly Buffer[] | null, sessionContext: string): readonly Buffer[] {
  return configured === null ? [own.ticketKeys(sessionContext)] : configured.map((key) => deriveTicketKeys(key, sessionContext));
}

/** SSL_CTX_set_tlsext_ticket_key_cb(3). */
const ticketIs = { unknown: 0, made: 1, opened: 2 } as const;

const ivBytes = 16;
const ivs = Buffer.allocUnsafeSlow(256 * ivBytes);
let ivAt = ivs.length;

/** Random bytes, drawn many at once: a draw costs more than the bytes. */
function nextIv(): Buffer {
  if (ivAt === ivs.length) {
    randomFillSync(ivs);
    ivAt = 0;
  }
  ivAt += ivBytes;
  return ivs.subarray(ivAt - ivBytes, ivAt);
}

type TicketAnswer = readonly [status: 0 | 1 | 2, hmacKey: Buffer, aesKey: Buffer, name?: Buffer, iv?: Buffer];

interface NativeContext {
  onticketkeycallback: (name: Buffer, iv: Buffer, makes: boolean) => TicketAnswer;
  enableTicketKeyCallback(): void;
}

/**
 * Tickets are made with the first key; the others open theirs as well. Whoever comes with a ticket gets a new one: in TLS 1.3 a client uses
 * each but once, and OpenSSL, left alone with its keys, would give none.
 */
export function useTicketKeys(context: tls.SecureContext, keys: readonly Buffer[]): void {
  const parts = keys.map((key) => ({ name: key.subarray(0, 16), hmac: key.subarray(16, 32), aes: key.subarray(32, 48) }));
  const [newest] = parts as [(typeof parts)[number], ...typeof parts];
  const native = (context as { readonly context: unknown }).context as NativeContext;
  native.onticketkeycallback = (name, _iv, makes) => {
    if (makes) return [ticketIs.made, newest.hmac, newest.aes, newest.name, nextIv()];
    const known = parts.find((part) => part.name.equals(name));
    return known === undefined ? [ticketIs.unknown, newest.hmac, newest.aes] : [ticketIs.opened, known.hmac, known.aes];
  };
  native.enableTicketKeyCallback();
}
