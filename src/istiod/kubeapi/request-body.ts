/** The object of a request: JSON, or the protobuf that kubectl prefers for Kubernetes' own kinds. */
import type { IncomingMessage } from "node:http";
import { fromBinary } from "@bufbuild/protobuf";
import { TokenRequestSchema, UnknownSchema } from "../../api/gen/kubernetes/v1/token_request_pb.js";
import { ApiError } from "./status.ts";

const maxBytes = 1024 * 1024;
const protobufMagic = Buffer.from("k8s\0", "latin1");

/** Undefined when there is no body. Throws ApiError. */
export async function readObject(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new ApiError(413, `the object is larger than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  if (bytes === 0) return undefined;
  const body = Buffer.concat(chunks);
  try {
    return body.subarray(0, protobufMagic.length).equals(protobufMagic)
      ? decodeProtobuf(body.subarray(protobufMagic.length))
      : JSON.parse(body.toString("utf8"));
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw new ApiError(400, `the object can't be read: ${(error as Error).message}`);
  }
}

function decodeProtobuf(bytes: Uint8Array): unknown {
  const { typeMeta, raw } = fromBinary(UnknownSchema, bytes);
  if (typeMeta?.kind !== "TokenRequest") throw new ApiError(400, `a ${typeMeta?.kind || "nameless object"} is taken as JSON only`);
  const { spec } = fromBinary(TokenRequestSchema, raw);
  return {
    kind: typeMeta.kind,
    apiVersion: typeMeta.apiVersion,
    spec: {
      audiences: spec?.audiences ?? [],
      ...(spec?.expirationSeconds === undefined ? {} : { expirationSeconds: Number(spec.expirationSeconds) }),
      ...(spec?.boundObjectRef?.name ? { boundObjectRef: spec.boundObjectRef } : {}),
    },
  };
}
