/** `host:port`, `[v6]:port`, or `:port` for all addresses, as Go programs take them. */
export interface HostPort {
  /** "" stands for all addresses. */
  readonly host: string;
  readonly port: number;
}

export class HostPortError extends Error {
  override readonly name = "HostPortError";
  /** Without the field's name. */
  readonly reason: string;

  constructor(field: string, reason: string) {
    super(`${field}: ${reason}`);
    this.reason = reason;
  }
}

/**
 * To `listen` on, the host may be left out and the port be 0 for any; to `connect` to, both must be there.
 * `field` is the flag or field that the text is from. Throws HostPortError.
 */
export function parseHostPort(text: string, field: string, purpose: "listen" | "connect"): HostPort {
  const wrong = (reason: string) => new HostPortError(field, `"${text}" ${reason}`);
  const match = /^(?:\[(?<v6>[^\]]*)\]|(?<name>[^[\]]*)):(?<port>[^:]*)$/.exec(text)?.groups;
  if (!match) throw wrong("is not host:port");
  const host = match.v6 ?? match.name ?? "";
  if (match.v6 === undefined && host.includes(":")) throw wrong("is not host:port: an IPv6 address stands in brackets, [::1]:80");
  const least = purpose === "listen" ? 0 : 1;
  const port = Number(match.port);
  if (!/^\d{1,5}$/.test(match.port ?? "") || port < least || port > 65535)
    throw wrong(`is not host:port: the port must be from ${least} to 65535`);
  if (purpose === "connect" && host === "") throw wrong("is not host:port: the host is missing");
  return { host, port };
}

export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
