/**
 * Fields of a dynamic resource that our protos don't know. They are ignored and counted (server.dynamic_unknown_fields), or,
 * with --reject-unknown-dynamic-fields, a reason to refuse the resource, in Envoy's words.
 */
import type { DescMessage, Message } from "@bufbuild/protobuf";
import { envoyTypes } from "../../api/envoy/type-registry.ts";
import { walkMessages } from "../../api/envoy/walk-messages.ts";

/** One line for each message of the resource that holds unknown fields, `type T(parents) with unknown field set {numbers}`. */
export function unknownFieldsOf(schema: DescMessage, message: Message): string[] {
  const found: string[] = [];
  walkMessages(schema, message, envoyTypes, ({ desc, message: inner, parents }) => {
    const unknown = inner.getUnknown() ?? [];
    if (unknown.length === 0) return;
    const around = parents.map((parent) => parent.desc.typeName).join("::") || "root";
    found.push(`type ${desc.typeName}(${around}) with unknown field set {${unknown.map(({ no }) => no).join(", ")}}`);
  });
  return found;
}
