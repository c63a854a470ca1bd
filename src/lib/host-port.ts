/** `host:port`, `[v6]:port`, or `:port` for all addresses, as Go programs take them on the command line. */
export interface HostPort {
  /** "" stands for all addresses. */
  readonly host: string;
  readonly port: number;
}

export class HostPortError extends Error {
  override readonly name = "HostPortError";
}

export function parseHostPort(text: string): HostPort {
  const match = /^(?:\[(?<v6>[^\]]+)\]|(?<host>[^:[\]]*)):(?<port>\d{1,5})$/.exec(text);
  const port = Number(match?.groups?.port);
  if (!match?.groups || port > 65535) throw new HostPortError(`"${text}" is not host:port`);
  return { host: match.groups.v6 ?? match.groups.host ?? "", port };
}

export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
