/** A network namespace, with /run of its own, in which `pilot-agent istio-iptables` sets real rules. Needs what `namespacesProblem` says. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { binary } from "./topsail.ts";

const saves = ["iptables-nft-save", "iptables-legacy-save", "ip6tables-nft-save", "ip6tables-legacy-save"];

export function hasTool(command: string): boolean {
  return spawnSync(command, ["--version"]).status === 0;
}

export class CaptureMachine implements AsyncDisposable {
  readonly pid: number;
  readonly #holder: ChildProcess;

  private constructor(holder: ChildProcess) {
    this.#holder = holder;
    this.pid = holder.pid!;
  }

  static async start(): Promise<CaptureMachine> {
    const script = "mount -t tmpfs tmpfs /run && ip link set lo up && echo ready; cat";
    const holder = spawn("unshare", ["--net", "--mount", "sh", "-c", script], { stdio: ["pipe", "pipe", "inherit"] });
    await new Promise((resolve) => holder.stdout.once("data", resolve));
    return new CaptureMachine(holder);
  }

  /** Arguments of nsenter. */
  inside(...command: readonly string[]): string[] {
    return ["--target", String(this.pid), "--net", "--mount", "--", ...command];
  }

  run(command: readonly string[], input = ""): string {
    return execFileSync("nsenter", this.inside(...command), { encoding: "utf8", input, stdio: ["pipe", "pipe", "ignore"] });
  }

  capture(...flags: readonly string[]): string {
    return this.run([binary, "pilot-agent", "istio-iptables", ...flags]);
  }

  /** What the kernel holds, without counters and comments. */
  state(): string {
    return (
      saves
        .filter(hasTool)
        .map((tool) => this.run([tool]))
        .concat(this.run(["ip", "rule"]), this.run(["ip", "-6", "rule"]), this.run(["ip", "route", "show", "table", "all"]))
        .join("\n")
        .replace(/^#.*$/gm, "")
        // The address that the proxy calls from stays, and is no rule.
        .replace(/^.*::6 dev lo.*$/gm, "")
        .replace(/\[\d+:\d+\]/g, "")
        // A table that was used once stays, empty; a legacy one as well.
        .replace(/^\*\w+\n(?::\w+ \w+ \n)*COMMIT\n/gm, "")
        .replace(/\n+/g, "\n")
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const exited = new Promise((resolve) => this.#holder.once("exit", resolve));
    this.#holder.stdin!.end();
    await exited;
  }
}
