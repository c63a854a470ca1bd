/** The workload's certificate as files that others keep: read, and read again when they change. What does not fit leaves the last one. */
import { X509Certificate } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { log } from "../../lib/log.ts";
import { watchFile } from "../../lib/watch-file.ts";
import { keyPairOf, pairFiles } from "./key-pair.ts";
import { PresentSecrets } from "./workload-secrets.ts";

const scope = log.scope("cache");

export class FileCertificates extends PresentSecrets {
  readonly #directory: string;
  readonly #watches = new DisposableStack();

  private constructor(directory: string) {
    super("another");
    this.#directory = directory;
    for (const name of Object.values(pairFiles)) this.#watches.use(watchFile(join(directory, name), () => void this.#load()));
  }

  /** Whether the directory holds certificate, key and root. */
  static areIn(directory: string): boolean {
    return Object.values(pairFiles).every((name) => existsSync(join(directory, name)));
  }

  static async start(directory: string): Promise<FileCertificates> {
    const made = new FileCertificates(directory);
    await made.#load();
    return made;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#watches.dispose();
  }

  async #load(): Promise<void> {
    try {
      const read = (name: string) => readFile(join(this.#directory, name), "utf8");
      const [chain, key, roots] = await Promise.all([read(pairFiles.chain), read(pairFiles.privateKey), read(pairFiles.root)]);
      new X509Certificate(roots);
      this.set({ pair: keyPairOf(chain, key), roots });
    } catch (error) {
      scope.warn("the certificate's files can't be used", {
        directory: this.#directory,
        reason: error instanceof Error ? error.message : error,
      });
    }
  }
}
