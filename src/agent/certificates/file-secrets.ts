/** Secrets that are files on this machine, followed as they change. A pair that does not fit leaves the last good one in force. */
import { X509Certificate } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Secret } from "../../api/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js";
import { log } from "../../lib/log.ts";
import { watchFile } from "../../lib/watch-file.ts";
import { keyPairOf } from "./key-pair.ts";
import { certificateSecret, rootSecret } from "./secret-messages.ts";

const scope = log.scope("sds");
const certificatePrefix = "file-cert:";
const rootPrefix = "file-root:";
const systemRoots = "/etc/ssl/certs/ca-certificates.crt";
/** What a proxy may make us watch. */
const maxSecrets = 1024;

interface Entry {
  secret: Secret | undefined;
  readonly watches: readonly Disposable[];
}

export class FileSecrets implements Disposable {
  readonly #onChange: () => void;
  readonly #quietMs: number;
  readonly #entries = new Map<string, Entry>();

  /** `quietMs`: files are read again when they have been left alone for so long. */
  constructor(onChange: () => void, quietMs: number) {
    this.#onChange = onChange;
    this.#quietMs = quietMs;
  }

  /** Undefined for a name of another kind, and while the files can't be used. */
  get(name: string): Secret | undefined {
    const known = this.#entries.get(name);
    if (known) return known.secret;
    const paths = pathsOf(name);
    if (!paths) return undefined;
    if (this.#entries.size >= maxSecrets) {
      scope.warn("too many files are asked for", { name });
      return undefined;
    }
    const watches = paths
      .filter((path) => existsSync(dirname(path)))
      .map((path) => watchFile(path, () => this.#reload(name), this.#quietMs));
    const entry: Entry = { secret: load(name, paths), watches };
    this.#entries.set(name, entry);
    return entry.secret;
  }

  [Symbol.dispose](): void {
    for (const { watches } of this.#entries.values()) for (const watch of watches) watch[Symbol.dispose]();
  }

  #reload(name: string): void {
    const entry = this.#entries.get(name);
    const loaded = load(name, pathsOf(name)!);
    if (!entry || !loaded) return;
    entry.secret = loaded;
    this.#onChange();
  }
}

function pathsOf(name: string): string[] | undefined {
  if (name.startsWith(certificatePrefix)) {
    const paths = name.slice(certificatePrefix.length).split("~");
    return paths.length === 2 && paths.every(Boolean) ? paths : undefined;
  }
  if (!name.startsWith(rootPrefix)) return undefined;
  const path = name.slice(rootPrefix.length);
  return path === "" ? undefined : [path === "system" ? systemRoots : path];
}

function load(name: string, paths: readonly string[]): Secret | undefined {
  try {
    const [first = "", second] = paths.map((path) => readFileSync(path, "utf8"));
    if (second === undefined) {
      new X509Certificate(first);
      return rootSecret(name, first);
    }
    const { chain, privateKey } = keyPairOf(first, second);
    return certificateSecret(name, chain, privateKey);
  } catch (error) {
    scope.warn("files can't be used", { name, reason: error instanceof Error ? error.message : error });
    return undefined;
  }
}
