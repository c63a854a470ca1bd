import type { Command } from "commander";
import type { KubeClient } from "./kube/kube-client.ts";

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
  /** `--namespace` alone. */
  readonly namespaceFlag: () => string | undefined;
  /** `--istioNamespace`. */
  readonly istioNamespace: () => string;
  /** The API server of `--kubeconfig` and `--context`. Throws CliError when there is none to be found. */
  readonly kube: () => Promise<KubeClient>;
}

/** One command of istioctl, a file each in commands/. `create` builds it; its action throws CliError to fail. */
export interface IstioctlCommand {
  readonly name: string;
  readonly create: (context: CommandContext) => Command;
}
