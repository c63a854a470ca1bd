/** Istio's own pilot-agent, built from Go's registry once and kept in build/istio, and the template of Envoy's bootstrap that belongs to it. */
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, renameSync } from "node:fs";
import { join } from "node:path";

/** Of Istio's main branch: its releases have no version that Go's registry takes. */
const version = "v0.0.0-20260827124520-eed52ebb66ad";
const directory = join(import.meta.dirname, "..", "..", "build", "istio");

export interface IstioAgent {
  readonly program: string;
  readonly bootstrapTemplate: string;
}

/** A text: why there is none. Takes minutes and some gigabytes of modules the first time. */
export function istioAgent(): IstioAgent | string {
  const agent: IstioAgent = { program: join(directory, "pilot-agent"), bootstrapTemplate: join(directory, "envoy_bootstrap.json") };
  if (existsSync(agent.program) && existsSync(agent.bootstrapTemplate)) return agent;
  const go = ["go", "/usr/local/go/bin/go", "/usr/lib/go/bin/go"].find((candidate) => spawnSync(candidate, ["version"]).status === 0);
  if (go === undefined) return "no Go to build Istio's agent: apt-get install golang";
  mkdirSync(directory, { recursive: true });
  const run = (...args: string[]) =>
    spawnSync(go, args, { env: { ...process.env, GOBIN: directory, GOFLAGS: "-mod=mod" }, encoding: "utf8", timeout: 1_200_000 });
  const module = run("mod", "download", "-json", `istio.io/istio@${version}`);
  if (module.status !== 0) return `Istio's module can't be had: ${module.stdout}${module.stderr}`;
  const { Dir: source } = JSON.parse(module.stdout) as { Dir: string };
  const built = run("install", `istio.io/istio/pilot/cmd/pilot-agent@${version}`);
  if (built.status !== 0) return `Istio's agent can't be built: ${built.stderr.trim().split("\n").at(-1)}`;
  copyFileSync(join(source, "tools/packaging/common/envoy_bootstrap.json"), `${agent.bootstrapTemplate}.new`);
  renameSync(`${agent.bootstrapTemplate}.new`, agent.bootstrapTemplate);
  return agent;
}
