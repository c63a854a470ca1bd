/** The WorkloadEntry of a machine that registers itself: its group's template, with what its agent knows better. */
import { decodeObject } from "../../api/documents/decode-object.ts";
import type { ObjectOf } from "../../api/kinds/index.ts";
import type { ConfigObject } from "../../api/kinds/object.ts";
import { formatLocality, type ProxyNode } from "../../api/node.ts";
import { isPlainObject } from "../../api/schema/decode.ts";
import { entryAnnotations } from "./entry-annotations.ts";

/** Tells locality to the control plane; not a label that Kubernetes would take, and the entry has a field for it. */
const localityLabel = "istio-locality";

/** `annotations` are added to those that follow from the group. */
export function entryFromGroup(
  name: string,
  group: ObjectOf<"WorkloadGroup">,
  proxy: ProxyNode,
  annotations: Readonly<Record<string, string>>,
): ConfigObject {
  const { template, metadata } = group.spec;
  const rawSpec = isPlainObject(group.raw.spec) ? group.raw.spec : {};
  const { [localityLabel]: _, ...labels } = { ...template?.labels, ...metadata?.labels, ...proxy.labels };
  const locality = formatLocality(proxy.locality);
  return objectOf({
    apiVersion: group.apiVersion,
    kind: "WorkloadEntry",
    metadata: {
      name,
      namespace: group.metadata.namespace,
      labels,
      annotations: {
        [entryAnnotations.group]: group.metadata.name,
        ...metadata?.annotations,
        ...(hasProbe(proxy) ? { [entryAnnotations.healthChecks]: "true" } : {}),
        ...annotations,
      },
      ownerReferences: [
        { apiVersion: group.apiVersion, kind: "WorkloadGroup", name: group.metadata.name, uid: group.metadata.uid, controller: true },
      ],
    },
    spec: {
      ...(isPlainObject(rawSpec.template) ? rawSpec.template : {}),
      address: proxy.ipAddresses[0],
      labels,
      ...(proxy.network ? { network: proxy.network } : {}),
      // A node that does not know where it is leaves the template's word; Istio takes it back.
      ...(locality ? { locality } : {}),
    },
  });
}

function hasProbe({ metadata }: ProxyNode): boolean {
  return isPlainObject(metadata.PROXY_CONFIG) && isPlainObject(metadata.PROXY_CONFIG.readinessProbe);
}

/** The entry with other annotations; undefined takes one away. */
export function withAnnotations(entry: ConfigObject, changes: Readonly<Record<string, string | undefined>>): ConfigObject {
  const annotations = Object.fromEntries(
    Object.entries({ ...entry.metadata.annotations, ...changes }).filter(([, value]) => value !== undefined),
  );
  const rawMetadata = isPlainObject(entry.raw.metadata) ? entry.raw.metadata : {};
  return objectOf({ ...entry.raw, metadata: { ...rawMetadata, annotations } });
}

export function withStatus(entry: ConfigObject, status: Record<string, unknown>): ConfigObject {
  return objectOf({ ...entry.raw, status });
}

function objectOf(raw: Record<string, unknown>): ConfigObject {
  const { object, errors } = decodeObject(raw);
  if (!object) throw errors[0];
  return object;
}
