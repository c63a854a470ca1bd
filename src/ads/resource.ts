/** A resource as it travels: encoded once, its bytes shared by every proxy that gets it. */
import { hash } from "node:crypto";
import { type DescMessage, type MessageShape, toBinary } from "@bufbuild/protobuf";

export interface EncodedResource {
  readonly name: string;
  readonly typeUrl: string;
  readonly bytes: Uint8Array;
  /** Hash of the bytes: the same content has the same version, also after a restart of the control plane. */
  readonly version: string;
}

export function encodeResource<Desc extends DescMessage>(name: string, schema: Desc, message: MessageShape<Desc>): EncodedResource {
  return resourceOf(name, schema, toBinary(schema, message));
}

/** Of bytes that are encoded already. */
export function resourceOf(name: string, schema: DescMessage, bytes: Uint8Array): EncodedResource {
  return { name, typeUrl: `type.googleapis.com/${schema.typeName}`, bytes, version: hash("md5", bytes, "base64url") };
}
