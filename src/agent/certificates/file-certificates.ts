/** The workload's certificate as files that others keep: read, and read again when they change. What does not fit leaves the last one. */
import { X509Certificate } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { log } from "../../lib/log.ts";
import { watchFile } from "../../lib/watch-file.ts";
import { type CertificateFiles, keyPairOf } from "./key-pair.ts";
import { PresentSecrets } from "./workload-secrets.ts";

const scope = log.scope("cache");

export class FileCertificates extends PresentSecrets {
  readonly #files: CertificateFiles;
  readonly #watches = new DisposableStack();

  private constructor(files: CertificateFiles, quietMs: number) {
    super("another");
    this.#files = files;
    for (const file of Object.values(files)) this.#watches.use(watchFile(file, () => void this.#load(), quietMs));
  }

  /** Whether certificate, key and root are there. */
  static areThere(files: CertificateFiles): boolean {
    return Object.values(files).every((file) => existsSync(file));
  }

  /** Their directories exist. `quietMs`: they are read again when they have been left alone for so long. */
  static async start(files: CertificateFiles, quietMs: number): Promise<FileCertificates> {
    const made = new FileCertificates(files, quietMs);
    await made.#load();
    return made;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#watches.dispose();
  }

  async #load(): Promise<void> {
    try {
      const paths = [this.#files.chain, this.#files.privateKey, this.#files.root] as const;
      const [chain = "", key = "", roots = ""] = await Promise.all(paths.map((path) => readFile(path, "utf8")));
      new X509Certificate(roots);
      this.set({ pair: keyPairOf(chain, key), roots });
    } catch (error) {
      scope.warn("the certificate's files can't be used", {
        certificate: this.#files.chain,
        reason: error instanceof Error ? error.message : error,
      });
    }
  }
}
