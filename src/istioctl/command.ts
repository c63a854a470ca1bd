import type { Command } from "commander";

/** What a command works with; a test hands in its own. */
export interface CommandContext {
  /** Writes to standard output. */
  readonly out: (text: string) => void;
  /** Writes to standard error. */
  readonly err: (text: string) => void;
  /** All of standard input. */
  readonly readStdin: () => Promise<Uint8Array>;
  /** Namespace of objects that name none: `--namespace`, else `default`. */
  readonly namespace: () => string;
  /** `--istioNamespace`. */
  readonly istioNamespace: () => string;
}

/** One command of istioctl, a file each in commands/. `create` builds it; its action throws CliError to fail. */
export interface IstioctlCommand {
  readonly name: string;
  readonly create: (context: CommandContext) => Command;
}
