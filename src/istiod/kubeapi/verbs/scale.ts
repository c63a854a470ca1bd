/** The subresource `scale`: how many replicas there are and ought to be, as an object of its own. */

import { wantedReplicas } from "../../../api/kinds/deployment.ts";
import type { ConfigObject } from "../../../api/kinds/object.ts";
import { numberAt, objectAt } from "../../../api/kinds/raw-fields.ts";
import { labelsText } from "../../../api/kinds/service.ts";
import { isPlainObject } from "../../../api/schema/decode.ts";
import type { Raw } from "../admission/admit.ts";
import { ApiError } from "../status.ts";

export function scaleOf({ raw, metadata }: ConfigObject): Raw {
  const { name, namespace, uid, resourceVersion } = metadata;
  const { creationTimestamp } = objectAt(raw, "metadata");
  return {
    kind: "Scale",
    apiVersion: "autoscaling/v1",
    metadata: { name, namespace, uid, resourceVersion, creationTimestamp },
    spec: { replicas: wantedReplicas(raw) },
    status: { replicas: numberAt(raw, "status", "replicas") ?? 0, selector: labelsText(objectAt(raw, "spec", "selector", "matchLabels")) },
  };
}

/** The object with the replicas that a Scale wants. Throws ApiError. */
export function withScale(stored: ConfigObject, scale: unknown): Raw {
  if (!isPlainObject(scale) || scale.kind !== "Scale") throw new ApiError(400, "the object provided is no Scale");
  const replicas = numberAt(scale, "spec", "replicas") ?? 0;
  if (!Number.isInteger(replicas) || replicas < 0)
    throw new ApiError(422, `spec.replicas: Invalid value: ${replicas}: must not be negative`);
  const resourceVersion = objectAt(scale, "metadata").resourceVersion;
  return {
    ...stored.raw,
    metadata: { ...objectAt(stored.raw, "metadata"), ...(typeof resourceVersion === "string" ? { resourceVersion } : {}) },
    spec: { ...objectAt(stored.raw, "spec"), replicas },
  };
}
