/** What Kubernetes demands of its own kinds beyond their structure, as far as somebody here reads the fields. */
import { isIP } from "node:net";
import { isDeepStrictEqual } from "node:util";
import type { Kind } from "../../../api/kinds/kind.ts";
import type { KubernetesKindName } from "../../../api/kinds/object.ts";
import { fieldAt, numberAt, objectAt, objectsAt, type RawObject, textAt, textsAt } from "../../../api/kinds/raw-fields.ts";
import { isPlainObject } from "../../../api/schema/decode.ts";

export interface FieldProblem {
  readonly field: string;
  readonly message: string;
}

type Report = (field: string, message: string) => void;
type Rule = (raw: RawObject, stored: RawObject | undefined, report: Report) => void;

const rules: Partial<Record<KubernetesKindName, Rule>> = {
  ConfigMap: checkEntries,
  Deployment: checkDeployment,
  EndpointSlice: checkSlice,
  Event: checkEvent,
  Namespace: checkNamespace,
  Pod: (raw, _, report) => checkPodSpec(objectAt(raw, "spec"), "spec", report),
  Secret: checkSecret,
  Service: checkService,
};

/** `stored`: what the object takes the place of, for fields that must not change. */
export function builtInProblems(raw: RawObject, stored: RawObject | undefined, kind: Kind): FieldProblem[] {
  const problems: FieldProblem[] = [];
  rules[kind.kind as KubernetesKindName]?.(raw, stored, (field, message) => problems.push({ field, message }));
  return problems;
}

const label = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/;

function checkNamespace(raw: RawObject, _: RawObject | undefined, report: Report): void {
  const name = textAt(raw, "metadata", "name");
  if (!label.test(name))
    report("metadata.name", `${JSON.stringify(name)}: must be a DNS label: small letters, digits and hyphens, at most 63`);
}

function checkEntries(raw: RawObject, stored: RawObject | undefined, report: Report): void {
  const [data, binary] = [objectAt(raw, "data"), objectAt(raw, "binaryData")];
  for (const [field, entries] of [
    ["data", data],
    ["binaryData", binary],
  ] as const) {
    for (const key of Object.keys(entries)) {
      if (!/^[-._a-zA-Z0-9]{1,253}$/.test(key) || key === "." || key === "..")
        report(`${field}[${key}]`, `${JSON.stringify(key)}: a key has letters, digits, "-", "_" and "."`);
    }
  }
  for (const key of Object.keys(data))
    if (Object.hasOwn(binary, key)) report(`data[${key}]`, `${JSON.stringify(key)}: is in data and in binaryData`);
  if (
    stored?.immutable === true &&
    !isDeepStrictEqual([data, binary, true], [objectAt(stored, "data"), objectAt(stored, "binaryData"), raw.immutable])
  )
    report("data", "field is immutable when `immutable` is set");
}

function checkSecret(raw: RawObject, stored: RawObject | undefined, report: Report): void {
  checkEntries(raw, stored, report);
  if (stored && textAt(stored, "type") !== textAt(raw, "type")) report("type", `${JSON.stringify(raw.type)}: field is immutable`);
  const needed = textAt(raw, "type") === "kubernetes.io/tls" ? ["tls.crt", "tls.key"] : [];
  for (const key of needed) if (!Object.hasOwn(objectAt(raw, "data"), key)) report(`data[${key}]`, "is required for a Secret of this type");
}

const serviceTypes = ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"];
const protocols = ["TCP", "UDP", "SCTP"];

function checkService(raw: RawObject, stored: RawObject | undefined, report: Report): void {
  const spec = objectAt(raw, "spec");
  const [type, clusterIP] = [textAt(spec, "type"), textAt(spec, "clusterIP")];
  const name = textAt(raw, "metadata", "name");
  if (!label.test(name)) report("metadata.name", `${JSON.stringify(name)}: a Service's name is a DNS label, at most 63 characters`);
  if (!serviceTypes.includes(type)) report("spec.type", `${JSON.stringify(type)}: supported values: ${serviceTypes.join(", ")}`);
  if (type === "ExternalName" && textAt(spec, "externalName") === "")
    report("spec.externalName", "is required for a Service of type ExternalName");
  if (clusterIP !== "" && clusterIP !== "None" && isIP(clusterIP) === 0)
    report("spec.clusterIP", `${JSON.stringify(clusterIP)}: is no IP address`);
  const before = textAt(stored, "spec", "clusterIP");
  if (before !== "" && type !== "ExternalName" && clusterIP !== before)
    report("spec.clusterIP", `${JSON.stringify(clusterIP)}: field is immutable`);
  for (const [index, ip] of textsAt(spec, "externalIPs").entries())
    if (isIP(ip) === 0) report(`spec.externalIPs[${index}]`, `${JSON.stringify(ip)}: is no IP address`);
  const ports = objectsAt(spec, "ports");
  if (ports.length === 0 && type !== "ExternalName" && clusterIP !== "None") report("spec.ports", "is required");
  const names = new Set<string>();
  const places = new Set<string>();
  for (const [index, port] of ports.entries()) {
    const field = `spec.ports[${index}]`;
    checkPort(numberAt(port, "port"), `${field}.port`, report);
    const protocol = textAt(port, "protocol");
    if (!protocols.includes(protocol))
      report(`${field}.protocol`, `${JSON.stringify(protocol)}: supported values: ${protocols.join(", ")}`);
    if (typeof port.targetPort === "number") checkPort(port.targetPort, `${field}.targetPort`, report);
    const portName = textAt(port, "name");
    if (portName === "" && ports.length > 1) report(`${field}.name`, "is required where there are several ports");
    else if (portName !== "" && !label.test(portName)) report(`${field}.name`, `${JSON.stringify(portName)}: is no DNS label`);
    else if (names.has(portName)) report(`${field}.name`, `${JSON.stringify(portName)}: is given twice`);
    names.add(portName);
    const place = `${numberAt(port, "port")}/${protocol}`;
    if (places.has(place)) report(field, `${JSON.stringify(place)}: is given twice`);
    places.add(place);
  }
}

function checkPort(port: number | undefined, field: string, report: Report): void {
  if (port === undefined || !Number.isInteger(port) || port < 1 || port > 65_535)
    report(field, `${port ?? "nothing"}: must be between 1 and 65535`);
}

function checkDeployment(raw: RawObject, stored: RawObject | undefined, report: Report): void {
  const spec = objectAt(raw, "spec");
  const replicas = numberAt(spec, "replicas") ?? 0;
  if (replicas < 0) report("spec.replicas", `${replicas}: must not be negative`);
  const selector = objectAt(spec, "selector");
  const matchLabels = objectAt(selector, "matchLabels");
  if (Object.keys(matchLabels).length === 0 && objectsAt(selector, "matchExpressions").length === 0)
    report("spec.selector", "is required and must not be empty");
  const labels = objectAt(spec, "template", "metadata", "labels");
  for (const [name, value] of Object.entries(matchLabels))
    if (labels[name] !== value) report("spec.template.metadata.labels", "`selector` does not match the template's labels");
  if (stored && !isDeepStrictEqual(fieldAt(stored, "spec", "selector"), selector)) report("spec.selector", "field is immutable");
  checkPodSpec(objectAt(spec, "template", "spec"), "spec.template.spec", report);
}

function checkPodSpec(spec: RawObject, field: string, report: Report): void {
  const containers = objectsAt(spec, "containers");
  if (containers.length === 0) report(`${field}.containers`, "is required");
  const names = new Set<string>();
  const check = (list: "containers" | "initContainers") => {
    for (const [index, container] of objectsAt(spec, list).entries()) {
      const place = `${field}.${list}[${index}]`;
      const name = textAt(container, "name");
      if (!label.test(name)) report(`${place}.name`, `${JSON.stringify(name)}: must be a DNS label`);
      else if (names.has(name)) report(`${place}.name`, `${JSON.stringify(name)}: is given twice`);
      names.add(name);
      if (textAt(container, "image") === "") report(`${place}.image`, "is required");
      for (const [portIndex, port] of objectsAt(container, "ports").entries())
        checkPort(numberAt(port, "containerPort"), `${place}.ports[${portIndex}].containerPort`, report);
    }
  };
  check("containers");
  check("initContainers");
}

function checkSlice(raw: RawObject, stored: RawObject | undefined, report: Report): void {
  const type = textAt(raw, "addressType");
  if (!["IPv4", "IPv6", "FQDN"].includes(type)) report("addressType", `${JSON.stringify(type)}: supported values: IPv4, IPv6, FQDN`);
  if (stored && textAt(stored, "addressType") !== type) report("addressType", `${JSON.stringify(type)}: field is immutable`);
  for (const [index, endpoint] of objectsAt(raw, "endpoints").entries()) {
    const addresses = textsAt(endpoint, "addresses");
    if (addresses.length === 0) report(`endpoints[${index}].addresses`, "is required");
    const family = type === "IPv4" ? 4 : type === "IPv6" ? 6 : undefined;
    for (const address of addresses)
      if (family && isIP(address) !== family) report(`endpoints[${index}].addresses`, `${JSON.stringify(address)}: is no ${type} address`);
  }
}

function checkEvent(raw: RawObject, _: RawObject | undefined, report: Report): void {
  if (!isPlainObject(raw.involvedObject)) report("involvedObject", "is required");
  const namespace = textAt(raw, "involvedObject", "namespace") || "default";
  if (namespace !== textAt(raw, "metadata", "namespace"))
    report("involvedObject.namespace", `${JSON.stringify(namespace)}: does not match the event's namespace`);
}
