/** What joining changes on a machine: files in Istio's places, a line in /etc/hosts, and that the service runs. Pure. */
import { isIP } from "node:net";
import { shellQuote } from "../api/machine/shell-quote.ts";

export interface PlannedFile {
  readonly path: string;
  readonly content: string;
  readonly mode: number;
  /** Belongs to the agent's user; otherwise to root. */
  readonly isAgents: boolean;
}

/** What of the machine joins: its sidecar, or a gateway on it. */
export interface Member {
  readonly unit: string;
  /** Below it are Istio's places: "" for a sidecar. */
  readonly root: string;
  readonly journal: string;
}

export const sidecar: Member = { unit: "istio.service", root: "", journal: "/var/lib/istio/join-journal.json" };

/** Of `istio-gateway@NAME`. Throws RangeError for what can't be such a name. */
export function gatewayMember(name: string): Member {
  if (!/^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$/.test(name))
    throw new RangeError(`"${name}" is no name of lower-case letters, digits and dashes`);
  const journal = `/var/lib/istio/join-journal-${name}.json`;
  return { unit: `istio-gateway@${name}.service`, root: `/var/lib/istio-gateway/${name}`, journal };
}

export interface JoinFacts {
  /** What the control plane hands out, by name. */
  readonly files: Readonly<Record<string, string>>;
  /** IP address that the control plane's name is to stand for. */
  readonly controlPlaneIp: string;
  readonly hosts: string;
  /** Port at which the user's own session came in; "" when there is none. */
  readonly sshPort: string;
}

/** What Istio's VM guide has people do by hand. */
const places: Readonly<Record<string, { readonly path: string; readonly mode: number }>> = {
  "root-cert.pem": { path: "/etc/certs/root-cert.pem", mode: 0o644 },
  "istio-token": { path: "/var/run/secrets/tokens/istio-token", mode: 0o600 },
  "cluster.env": { path: "/var/lib/istio/envoy/cluster.env", mode: 0o644 },
  "mesh.yaml": { path: "/etc/istio/config/mesh", mode: 0o644 },
};
export const agentDirectories = ["/etc/certs", "/var/run/secrets", "/var/run/secrets/tokens", "/etc/istio/config", "/etc/istio/proxy"];

const controlPlaneName = "istiod.istio-system.svc";
const excludedPorts = "ISTIO_LOCAL_EXCLUDE_PORTS";

/** Throws RangeError when the control plane did not hand out all that is needed. */
export function joinPlan(facts: JoinFacts, { root }: Member): PlannedFile[] {
  const planned = Object.entries(places).map(([name, { path, mode }]): PlannedFile => {
    const content = facts.files[name];
    if (content === undefined) throw new RangeError(`the control plane handed out no ${name}`);
    return {
      path: `${root}${path}`,
      mode,
      isAgents: true,
      content: name === "cluster.env" ? withOpenPort(content, facts.sshPort) : content,
    };
  });
  return [...planned, { path: "/etc/hosts", content: withHost(facts.hosts, facts.controlPlaneIp), mode: 0o644, isAgents: false }];
}

/** One line for the control plane, whatever stood there of it before. */
function withHost(hosts: string, ip: string): string {
  if (isIP(ip) === 0) throw new RangeError(`${ip} is no IP address`);
  const others = hosts.split("\n").filter((line) => !line.replace(/#.*/, "").trim().split(/\s+/).slice(1).includes(controlPlaneName));
  while (others.at(-1) === "") others.pop();
  return [...others, `${ip} ${controlPlaneName}`, ""].join("\n");
}

/** A session at another port than 22 must not be captured either. */
function withOpenPort(env: string, sshPort: string): string {
  if (sshPort === "" || sshPort === "22") return env;
  return env
    .split("\n")
    .map((line) => {
      if (!line.startsWith(`${excludedPorts}=`)) return line;
      const ports = line
        .slice(excludedPorts.length + 1)
        .replaceAll("'", "")
        .split(",");
      return `${excludedPorts}=${shellQuote([...new Set([...ports, sshPort])].join(","))}`;
    })
    .join("\n");
}
