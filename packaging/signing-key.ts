/**
 * The key that signs repositories: an ASCII-armored private key in the file that TOPSAIL_SIGNING_KEY names, or else one made here, which is
 * good for trying things out: it stays in build/ of this work tree.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { at } from "./project.ts";
import { requireTools, runTool } from "./tools.ts";

export class SigningKey implements Disposable {
  /** ASCII-armored. */
  readonly publicKey: string;
  readonly fingerprint: string;
  /** Directory of a key ring with this key alone, for GNUPGHOME. */
  readonly home: string;

  private constructor(home: string, fingerprint: string) {
    this.home = home;
    this.fingerprint = fingerprint;
    this.publicKey = this.#gpg(["--armor", "--export", fingerprint]);
  }

  static load(): SigningKey {
    requireTools(["gpg"]);
    // Short, since the agent's socket is in it.
    const home = mkdtempSync(join(tmpdir(), "topsail-gpg-"));
    const given = process.env.TOPSAIL_SIGNING_KEY;
    const file = given ?? at("build", "packages", "signing-key.asc");
    const gpg = (args: readonly string[], input?: string) =>
      runTool("gpg", ["--homedir", home, "--batch", "--quiet", ...args], { input: input ?? "" });
    try {
      if (!given && !existsSync(file)) {
        gpg(["--passphrase", "", "--quick-generate-key", "Topsail packages (made for a build)", "rsa3072", "sign", "never"]);
        writeFileSync(file, gpg(["--armor", "--export-secret-keys"]), { mode: 0o600 });
      } else {
        gpg(["--import"], readFileSync(file, "utf8"));
      }
      const fingerprint = /^fpr:+(?<fingerprint>[0-9A-F]{40}):/m.exec(gpg(["--with-colons", "--list-secret-keys"]))!.groups!.fingerprint!;
      return new SigningKey(home, fingerprint);
    } catch (error) {
      rmSync(home, { recursive: true, force: true });
      throw error;
    }
  }

  /** A file that holds `file` and its signature. */
  clearSign(file: string, output: string): void {
    this.#gpg(["--yes", "--local-user", this.fingerprint, "--digest-algo", "SHA512", "--output", output, "--clearsign", file]);
  }

  /** The signature alone, armored. */
  detachSign(file: string, output: string): void {
    this.#gpg(["--yes", "--local-user", this.fingerprint, "--digest-algo", "SHA512", "--armor", "--output", output, "--detach-sign", file]);
  }

  [Symbol.dispose](): void {
    // gpg leaves an agent behind for this directory.
    runTool("gpgconf", ["--homedir", this.home, "--kill", "all"]);
    rmSync(this.home, { recursive: true, force: true });
  }

  #gpg(args: readonly string[]): string {
    return runTool("gpg", ["--homedir", this.home, "--batch", "--quiet", ...args], { input: "" });
  }
}
