/** What the packages are, for .deb and .rpm alike; what the two do differently is given by a layout. */
import { readdirSync, readFileSync } from "node:fs";
import { relative } from "node:path";
import type { Executable } from "./executable.ts";
import { at } from "./project.ts";
import type { Entry } from "./stage.ts";

export interface Layout {
  /** Where units of systemd are. */
  readonly units: string;
  /** Where programs are that nobody calls by their path: `/usr/lib`, or what SELinux lets run: `/usr/libexec`. */
  readonly programs: string;
}

export interface PackageDefinition {
  readonly name: string;
  readonly summary: string;
  /** Lines of prose. */
  readonly description: readonly string[];
  readonly dependencies: { readonly deb: readonly string[]; readonly rpm: readonly string[] };
  readonly entries: readonly Entry[];
  /** Of `entries`, what the administrator may change. */
  readonly configuration: readonly string[];
  /** By the format's own names: `postinst` or `post`. */
  readonly scripts: { readonly deb: Readonly<Record<string, string>>; readonly rpm: Readonly<Record<string, string>> };
  /** Tags of lintian that do not hold here, each with its reason. */
  readonly lintianOverrides: readonly { readonly tag: string; readonly reason: string }[];
}

const istiosPlace = "Istio's own package has it there, and guides and people rely on it";

export function sidecarPackage(executable: Executable, layout: Layout): PackageDefinition {
  const home = `${layout.programs}/istio-sidecar`;
  return {
    name: "istio-sidecar",
    summary: "Istio sidecar and gateways for machines without Kubernetes",
    description: [
      "Agent and proxy by which the workloads of this machine are part of a mesh,",
      "and gateways to it. Files are where Istio's own package has them: copy",
      "cluster.env, mesh.yaml, istio-token and root-cert.pem as its guide for",
      "virtual machines says, and start istio.service.",
    ],
    dependencies: {
      deb: ["libc6 (>= 2.28)", "libgcc-s1 (>= 3.0)", "libstdc++6 (>= 5.2)", "iptables", "iproute2", "passwd"],
      rpm: ["iptables", "iproute", "shadow-utils", "systemd"],
    },
    entries: [
      { path: `${home}/topsail`, kind: "file", from: executable.path, mode: 0o755 },
      { path: `${home}/libatomic.so.1`, kind: "file", from: executable.libatomic, mode: 0o644 },
      { path: "/usr/local/bin/pilot-agent", kind: "link", to: relative("/usr/local/bin", `${home}/topsail`) },
      { path: "/usr/local/bin/envoy", kind: "link", to: relative("/usr/local/bin", `${home}/topsail`) },
      { path: "/usr/local/bin/topsail", kind: "link", to: relative("/usr/local/bin", `${home}/topsail`) },
      ...["istio.service", "istio-capture.service", "istio-gateway@.service"].map((unit) => unitEntry(unit, layout)),
      { path: "/var/lib/istio/envoy/sidecar.env", kind: "file", from: at("packaging", "sidecar", "sidecar.env"), mode: 0o644 },
    ],
    configuration: ["/var/lib/istio/envoy/sidecar.env"],
    scripts: scriptsOf("sidecar", layout),
    lintianOverrides: [
      { tag: "dir-in-usr-local", reason: istiosPlace },
      { tag: "file-in-usr-local", reason: istiosPlace },
      { tag: "file-in-unusual-dir", reason: istiosPlace },
      { tag: "non-etc-file-marked-as-conffile", reason: istiosPlace },
      ...commonOverrides,
    ],
  };
}

export function controlPlanePackage(executable: Executable, layout: Layout): PackageDefinition {
  const home = `${layout.programs}/istio-control-plane`;
  return {
    name: "istio-control-plane",
    summary: "Istio control plane for machines without Kubernetes",
    description: [
      "Control plane and certificate authority of a mesh, and istioctl.",
      "Configuration is a directory of YAML, /etc/istiod/config, or comes through",
      "an API that kubectl speaks.",
    ],
    dependencies: {
      deb: ["libc6 (>= 2.28)", "libgcc-s1 (>= 3.0)", "libstdc++6 (>= 5.2)", "passwd"],
      rpm: ["shadow-utils", "systemd"],
    },
    entries: [
      { path: `${home}/topsail`, kind: "file", from: executable.path, mode: 0o755 },
      { path: `${home}/libatomic.so.1`, kind: "file", from: executable.libatomic, mode: 0o644 },
      ...["istiod", "istioctl", "topsail"].map(
        (name): Entry => ({ path: `/usr/bin/${name}`, kind: "link", to: relative("/usr/bin", `${home}/topsail`) }),
      ),
      unitEntry("istio-control-plane.service", layout),
      { path: "/etc/istiod/istiod.env", kind: "file", from: at("packaging", "control-plane", "istiod.env"), mode: 0o644 },
      { path: "/etc/istiod/mesh.yaml", kind: "file", from: at("packaging", "control-plane", "mesh.yaml"), mode: 0o644 },
      ...samples(),
      { path: "/etc/istiod/config", kind: "directory", mode: 0o755 },
      { path: "/etc/istiod/cacerts", kind: "directory", mode: 0o755 },
    ],
    configuration: ["/etc/istiod/istiod.env", "/etc/istiod/mesh.yaml"],
    scripts: scriptsOf("control-plane", layout),
    lintianOverrides: commonOverrides,
  };
}

const commonOverrides = [
  { tag: "hardening-no-pie", reason: "Node.js is published so" },
  { tag: "no-manual-page", reason: "--help says it" },
  { tag: "embedded-library", reason: "Node.js brings its own OpenSSL, zlib and others, tested together" },
  { tag: "unstripped-binary-or-object", reason: "stripping after the program has been put into Node breaks it" },
];

/** Where a guide says `samples/multicluster`, this is `/usr/share/istio-control-plane/samples/multicluster`. */
function samples(): Entry[] {
  return readdirSync(at("samples", "multicluster"))
    .sort()
    .map((name) => ({
      path: `/usr/share/istio-control-plane/samples/multicluster/${name}`,
      kind: "file",
      from: at("samples", "multicluster", name),
      mode: name.endsWith(".sh") ? 0o755 : 0o644,
    }));
}

function unitEntry(name: string, { units }: Layout): Entry {
  return { path: `${units}/${name}`, kind: "file", from: at("packaging", "systemd", name), mode: 0o644 };
}

function scriptsOf(folder: string, layout: Layout): PackageDefinition["scripts"] {
  const read = (...parts: string[]) => readFileSync(at("packaging", ...parts), "utf8").replaceAll("@UNITS@", layout.units);
  const functions = `${read("systemd", "functions.sh")}${read(folder, "functions.sh")}\n`;
  return {
    deb: Object.fromEntries(
      ["postinst", "prerm", "postrm"].map((name) => [name, `#!/bin/sh\nset -e\n\n${functions}${read(folder, "deb", name)}`]),
    ),
    rpm: Object.fromEntries(["post", "preun", "postun"].map((name) => [name, `${functions}${read(folder, "rpm", name)}`])),
  };
}
