/**
 * The machine's nameservers and search domains, from resolv.conf: read at the start and again whenever it changes, as DHCP clients and
 * systemd-resolved do. A file that is gone or names nobody leaves the last good state in force. Istio reads it once.
 */
import { type BigIntStats, readFileSync, stat, statSync } from "node:fs";
import { isIP } from "node:net";
import { formatHostPort, type HostPort } from "../../lib/host-port.ts";
import { log } from "../../lib/log.ts";

const scope = log.scope("dns");

export interface ResolverConfig {
  /** In the order in which they are to be asked. */
  readonly nameservers: readonly HostPort[];
  readonly search: readonly string[];
  /** `options rotate`: any order will do. */
  readonly rotates: boolean;
}

/** As many as are read; resolvers themselves take three. */
const maxNameservers = 8;

/** Lines that say nothing are passed over, as resolvers do. An address may carry a port, `192.0.2.1:5353`: ours. */
export function parseResolvConf(text: string): ResolverConfig {
  const nameservers: HostPort[] = [];
  let search: string[] = [];
  let rotates = false;
  for (const line of text.split("\n")) {
    const [word, ...rest] = line
      .replace(/[#;].*$/, "")
      .trim()
      .split(/\s+/);
    if (word === "nameserver") {
      const server = rest[0] === undefined ? undefined : parseNameserver(rest[0]);
      if (server && nameservers.length < maxNameservers) nameservers.push(server);
    } else if (word === "search" || word === "domain") {
      // The last line counts.
      search = rest.map((name) => name.replace(/\.$/, "")).filter((name) => name !== "");
    } else if (word === "options" && rest.includes("rotate")) rotates = true;
  }
  return { nameservers, search, rotates };
}

function parseNameserver(text: string): HostPort | undefined {
  const bare = text.replace(/%.*$/, "");
  if (isIP(bare)) return { host: ofThisMachine(text), port: 53 };
  const parts = /^\[?(?<host>.*?)\]?:(?<port>\d{1,5})$/.exec(text)?.groups;
  const port = Number(parts?.port);
  return parts?.host && isIP(parts.host) && port > 0 && port < 65536 ? { host: ofThisMachine(parts.host), port } : undefined;
}

/** "Any address" means this machine to who connects. */
function ofThisMachine(host: string): string {
  return host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host;
}

/** It is looked at every so often, and not watched by inotify: it is often a link into a directory that is made anew. */
const checkIntervalMs = 2000;

export interface ResolvConfOptions {
  readonly path: string;
  readonly onChange: () => void;
  readonly intervalMs?: number;
}

export class ResolvConf implements Disposable {
  readonly #options: ResolvConfOptions;
  readonly #timer: NodeJS.Timeout;
  #config: ResolverConfig = { nameservers: [], search: [], rotates: false };
  /** Of the file that was read last; "" for none. */
  #identity = "";

  constructor(options: ResolvConfOptions) {
    this.#options = options;
    this.#load();
    this.#timer = setInterval(() => this.#check(), options.intervalMs ?? checkIntervalMs).unref();
  }

  get config(): ResolverConfig {
    return this.#config;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #check(): void {
    stat(this.#options.path, { bigint: true }, (_, found) => {
      if (identityOf(found) === this.#identity) return;
      const before = JSON.stringify(this.#config);
      this.#load();
      if (JSON.stringify(this.#config) === before) return;
      const { nameservers, search } = this.#config;
      scope.info("nameservers changed", { nameservers: nameservers.map(formatHostPort).join(","), search: search.join(",") });
      this.#options.onChange();
    });
  }

  #load(): void {
    const { path } = this.#options;
    // Before it is read: what is written meanwhile is another file to the next look.
    try {
      this.#identity = identityOf(statSync(path, { bigint: true, throwIfNoEntry: false }));
      const read = parseResolvConf(readFileSync(path, "utf8"));
      if (read.nameservers.length > 0) this.#config = read;
      else scope.warn("no nameserver is named", { path });
    } catch (error) {
      scope.warn("nameservers can't be read", { path, error });
    }
  }
}

function identityOf(found: BigIntStats | undefined): string {
  return found ? `${found.dev}/${found.ino}/${found.mtimeNs}/${found.size}` : "";
}
