/** What Kubernetes fills into a pod's specification, also in that of a Deployment's template. */
import { isPlainObject } from "../schema/decode.ts";
import { objectAt, objectsAt, type RawObject, textAt } from "./raw-fields.ts";

export function podSpecDefaults(spec: RawObject): Record<string, unknown> {
  const containers = (field: "containers" | "initContainers") =>
    Array.isArray(spec[field]) ? { [field]: spec[field].map((one) => (isPlainObject(one) ? containerDefaults(one) : one)) } : {};
  return {
    dnsPolicy: "ClusterFirst",
    restartPolicy: "Always",
    schedulerName: "default-scheduler",
    securityContext: {},
    terminationGracePeriodSeconds: 30,
    ...spec,
    ...containers("containers"),
    ...containers("initContainers"),
    ...(Array.isArray(spec.volumes) ? { volumes: spec.volumes.map((one) => (isPlainObject(one) ? volumeDefaults(one) : one)) } : {}),
    ...(spec.serviceAccountName ? { serviceAccount: spec.serviceAccountName } : {}),
  };
}

/** A pod itself, as opposed to a template, also has an account and a class. */
export function podDefaults(raw: RawObject): Record<string, unknown> {
  const spec = podSpecDefaults({ enableServiceLinks: true, serviceAccountName: "default", ...objectAt(raw, "spec") });
  return { ...raw, spec, status: { phase: "Pending", qosClass: qualityOf(spec), ...objectAt(raw, "status") } };
}

function containerDefaults(container: RawObject): Record<string, unknown> {
  const image = textAt(container, "image");
  const tag = /:([^/:@]+)$/.exec(image)?.[1];
  const isMoving = !image.includes("@") && (tag === undefined || tag === "latest");
  const probes = ["livenessProbe", "readinessProbe", "startupProbe"].filter((name) => isPlainObject(container[name]));
  return {
    imagePullPolicy: isMoving ? "Always" : "IfNotPresent",
    resources: {},
    terminationMessagePath: "/dev/termination-log",
    terminationMessagePolicy: "File",
    ...container,
    ...(Array.isArray(container.ports)
      ? { ports: container.ports.map((port) => (isPlainObject(port) ? { protocol: "TCP", ...port } : port)) }
      : {}),
    ...(Array.isArray(container.env) ? { env: container.env.map((one) => (isPlainObject(one) ? variableDefaults(one) : one)) } : {}),
    ...Object.fromEntries(probes.map((name) => [name, probeDefaults(objectAt(container, name))])),
  };
}

function variableDefaults(variable: RawObject): RawObject {
  const valueFrom = objectAt(variable, "valueFrom");
  if (!isPlainObject(valueFrom.fieldRef)) return variable;
  return { ...variable, valueFrom: { ...valueFrom, fieldRef: { apiVersion: "v1", ...valueFrom.fieldRef } } };
}

function probeDefaults(probe: RawObject): Record<string, unknown> {
  const httpGet = isPlainObject(probe.httpGet) ? { httpGet: { path: "/", scheme: "HTTP", ...probe.httpGet } } : {};
  return { timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3, ...probe, ...httpGet };
}

function volumeDefaults(volume: RawObject): RawObject {
  const sources = Object.keys(volume).filter((field) => field !== "name");
  if (sources.length === 0) return { ...volume, emptyDir: {} };
  const moded = ["secret", "configMap", "downwardAPI", "projected"].filter((name) => isPlainObject(volume[name]));
  return { ...volume, ...Object.fromEntries(moded.map((name) => [name, { defaultMode: 0o644, ...objectAt(volume, name) }])) };
}

/** Kubernetes' class of service. */
function qualityOf(spec: RawObject): "Guaranteed" | "Burstable" | "BestEffort" {
  const all = [...objectsAt(spec, "containers"), ...objectsAt(spec, "initContainers")];
  const resourcesOf = (container: RawObject, bound: "limits" | "requests") => objectAt(container, "resources", bound);
  const saysNothing = (container: RawObject) =>
    Object.keys(resourcesOf(container, "limits")).length === 0 && Object.keys(resourcesOf(container, "requests")).length === 0;
  if (all.every(saysNothing)) return "BestEffort";
  const isFixed = (container: RawObject) => {
    const [limits, requests] = [resourcesOf(container, "limits"), resourcesOf(container, "requests")];
    return ["cpu", "memory"].every(
      (name) => limits[name] !== undefined && (requests[name] === undefined || requests[name] === limits[name]),
    );
  };
  return all.every(isFixed) ? "Guaranteed" : "Burstable";
}
