/**
 * Objects in Kubernetes' protobuf encoding, in which kubectl sends what `kubectl create KIND` makes: the bytes `k8s\0`, an envelope that
 * names the kind, and the message. The result is the object as its JSON would be.
 */
import { type DescMessage, fromBinary } from "@bufbuild/protobuf";
import { SelfSubjectReviewSchema, TokenRequestSchema } from "../../../api/gen/kubernetes/authentication/v1/objects_pb.js";
import { SelfSubjectAccessReviewSchema, SelfSubjectRulesReviewSchema } from "../../../api/gen/kubernetes/authorization/v1/objects_pb.js";
import { DeleteOptionsSchema, UnknownSchema } from "../../../api/gen/kubernetes/meta/v1/objects_pb.js";
import { kindByName } from "../../../api/kinds/index.ts";
import { ApiError } from "../status.ts";
import { kindMessages } from "../types/object-types.ts";
import { jsonOfMessage } from "./json-of-message.ts";

export const protobufMediaType = "application/vnd.kubernetes.protobuf";

const magic = Buffer.from("k8s\0", "latin1");

/** What is sent and not stored, by apiVersion and kind. */
const requests: Readonly<Record<string, DescMessage>> = {
  "authentication.k8s.io/v1 TokenRequest": TokenRequestSchema,
  "authentication.k8s.io/v1 SelfSubjectReview": SelfSubjectReviewSchema,
  "authorization.k8s.io/v1 SelfSubjectAccessReview": SelfSubjectAccessReviewSchema,
  "authorization.k8s.io/v1 SelfSubjectRulesReview": SelfSubjectRulesReviewSchema,
};

/** Throws ApiError: 415 for a kind that is taken as JSON only, 400 for what can't be read. */
export function decodeEnvelope(body: Uint8Array): Record<string, unknown> {
  if (!magic.equals(body.subarray(0, magic.length))) throw new ApiError(400, "the object is not in Kubernetes' protobuf encoding");
  try {
    const { typeMeta, raw, contentEncoding } = fromBinary(UnknownSchema, body.subarray(magic.length));
    const { apiVersion = "", kind = "" } = typeMeta ?? {};
    if (contentEncoding) throw new ApiError(415, `the object is encoded as ${contentEncoding}, which is not taken`);
    const message = messageOf(apiVersion, kind);
    if (!message)
      throw new ApiError(415, `${kind || "a nameless object"} of ${apiVersion || "no version"} is taken as JSON only, not as protobuf`);
    return { apiVersion, kind, ...(jsonOfMessage(message, fromBinary(message, raw)) as Record<string, unknown>) };
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw new ApiError(400, `the object can't be read as protobuf: ${(error as Error).message}`);
  }
}

function messageOf(apiVersion: string, kind: string): DescMessage | undefined {
  // Its group is that of the object to be deleted.
  if (kind === "DeleteOptions") return DeleteOptionsSchema;
  const request = requests[`${apiVersion} ${kind}`];
  if (request) return request;
  const known = kindByName(kind);
  const isOfGroup = known && apiVersion === (known.group ? `${known.group}/${known.versions[0]}` : known.versions[0]);
  return isOfGroup && Object.hasOwn(kindMessages, kind) ? (kindMessages as Record<string, DescMessage>)[kind] : undefined;
}
