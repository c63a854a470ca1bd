/** A TLS client as operators have it: `openssl s_client`, one request on one connection. */
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Identity } from "./mesh-ca.ts";

export interface TlsAsk {
  readonly host?: string;
  readonly port: number;
  readonly serverName: string;
  readonly identity?: Identity | undefined;
  /** Name of the session to come with, and that to keep what is given by. */
  readonly session?: string | undefined;
  readonly keep?: string | undefined;
  readonly version?: "-tls1_2" | "-tls1_3" | undefined;
  /** More of openssl's options. */
  readonly options?: readonly string[];
}

export interface TlsAnswer {
  /** Everything that openssl said. */
  readonly text: string;
  readonly isReused: boolean;
  /** HTTP status, undefined when there was no answer. */
  readonly status: string | undefined;
  readonly header: (name: string) => string | undefined;
}

/** Keeps sessions and certificates in a directory of its own. */
export class TlsClient implements Disposable {
  readonly #directory = mkdtempSync(join(tmpdir(), "topsail-tls-"));

  hasSession(name: string): boolean {
    return existsSync(this.#path(name));
  }

  async ask({ host = "127.0.0.1", port, serverName, identity, session, keep, version, options = [] }: TlsAsk): Promise<TlsAnswer> {
    const args = ["s_client", "-connect", `${host}:${port}`, "-servername", serverName, "-ign_eof", ...options];
    if (version) args.push(version);
    if (session) args.push("-sess_in", this.#path(session));
    if (keep) args.push("-sess_out", this.#path(keep));
    if (identity) {
      writeFileSync(this.#path("cert"), identity.certificate);
      writeFileSync(this.#path("key"), identity.key, { mode: 0o600 });
      args.push("-cert", this.#path("cert"), "-key", this.#path("key"));
    }
    const text = await run(args, `GET / HTTP/1.1\r\nhost: ${serverName}\r\nconnection: close\r\n\r\n`);
    return {
      text,
      isReused: /^Reused, TLSv1/m.test(text),
      status: /HTTP\/1\.1 (\d{3})/.exec(text)?.[1],
      header: (name) => new RegExp(`^${name}: (.*?)\r?$`, "im").exec(text)?.[1],
    };
  }

  #path(name: string): string {
    return join(this.#directory, name);
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

function run(args: readonly string[], input: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn("openssl", args, { stdio: ["pipe", "pipe", "pipe"], timeout: 10_000 });
    let text = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk: Buffer) => {
        text += chunk.toString("latin1");
      });
    }
    // A server that refuses has no ear for the request.
    child.stdin.on("error", () => {});
    child.on("error", reject);
    child.on("close", () => resolve(text));
    child.stdin.end(input);
  });
}
