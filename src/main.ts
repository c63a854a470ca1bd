/**
 * Which program am I? Topsail is one multi-call executable: the name it was started by (a symbolic link `istiod`,
 * `pilot-agent`, `envoy`, `istioctl`), or else the first argument, names the program. Each program is loaded only when it runs.
 */
import { basename } from "node:path";
import { revision, version } from "./lib/version.ts";

interface Program {
  /** Absent: not for people. */
  readonly summary?: string;
  /** Runs until the program's work is done; resolves to the exit code. */
  readonly load: () => Promise<{ main(args: string[]): Promise<number> }>;
}

const programs: Record<string, Program> = {
  istiod: { summary: "the control plane: configuration in, xDS out", load: () => import("./istiod/main.ts") },
  "pilot-agent": { summary: "the agent: bootstraps and runs a gateway or sidecar proxy", load: () => import("./agent/main.ts") },
  envoy: { summary: "the proxy, with Envoy's command line and bootstrap", load: () => import("./proxy/main.ts") },
  join: { summary: "makes this machine a workload of a mesh, by an address and a one-time code", load: () => import("./join/main.ts") },
  istioctl: { summary: "the operator's command line", load: () => import("./istioctl/main.ts") },
  "child-of": { load: () => import("./agent/child-of.ts") },
  quickstart: { summary: "control plane, ingress gateway and a sample mesh on loopback", load: () => import("./quickstart/main.ts") },
  sample: {
    summary: "one service of the sample mesh: bookinfo, httpbin, customers, web-frontend",
    load: () => import("./samples/main.ts"),
  },
};

/** Names that only say that this is the executable itself. */
const ownNames = /^topsail\b/;

async function main(argv0: string, args: string[]): Promise<number> {
  const called = basename(argv0);
  const linked = Object.hasOwn(programs, called) ? called : undefined;
  const name = linked ?? args[0];
  const rest = linked ? args : args.slice(1);

  if (name === undefined || name === "--help" || name === "-h" || name === "help") {
    process.stdout.write(usage());
    return name === undefined ? 2 : 0;
  }
  if (name === "version" || name === "--version") {
    process.stdout.write(`topsail ${version} (${revision}), Node.js ${process.version}\n`);
    return 0;
  }
  const program = Object.hasOwn(programs, name) ? programs[name] : undefined;
  if (!program) {
    const hint = ownNames.test(called) ? "" : ` (started as "${called}")`;
    const names = forPeople().map(([known]) => known);
    process.stderr.write(`error: unknown program "${name}"${hint}\nhint: one of ${names.join(", ")}; see topsail --help\n`);
    return 2;
  }
  return (await program.load()).main(rest);
}

function forPeople(): [name: string, summary: string][] {
  return Object.entries(programs).flatMap(([name, { summary }]) => (summary === undefined ? [] : [[name, summary]]));
}

function usage(): string {
  const width = Math.max(...forPeople().map(([name]) => name.length));
  const lines = forPeople().map(([name, summary]) => `  ${name.padEnd(width)}  ${summary}`);
  return `Topsail: Istio for machines that have no Kubernetes

Usage: topsail PROGRAM [ARGUMENTS]      topsail PROGRAM --help      topsail version

Programs:
${lines.join("\n")}

A symbolic link to this executable that bears a program's name is that program.
`;
}

// Running from source, argv[1] is this file; in the single executable it is the name the user typed.
main(process.argv[1] ?? "topsail", process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error: unknown) => {
    process.stderr.write(`error: ${error instanceof Error ? error.message : String(error)}\n`);
    if (process.env.TOPSAIL_STACK) process.stderr.write(`${error instanceof Error ? error.stack : ""}\n`);
    process.exitCode = 1;
  },
);
