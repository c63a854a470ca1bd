/** Every message inside a message, contents of Any fields included: for questions that are asked of a whole resource. */
import type { DescMessage, Message, Registry } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { type Any, anyUnpack } from "@bufbuild/protobuf/wkt";
import { isWellKnown } from "../descriptors/well-known.ts";
import { resolveTypedStruct } from "./typed-struct.ts";

/** One message with the messages around it, outermost first, without the Any between them. */
export interface VisitedMessage {
  readonly desc: DescMessage;
  readonly message: ReflectMessage;
  readonly parents: readonly ReflectMessage[];
}

/** Depth first, parents before children. `registry` says which Any contents can be looked into. */
export function walkMessages(schema: DescMessage, message: Message, registry: Registry, visit: (visited: VisitedMessage) => void): void {
  walk(reflect(schema, message), []);

  function walk(current: ReflectMessage, parents: readonly ReflectMessage[]): void {
    const { desc } = current;
    if (desc.typeName === "google.protobuf.Any") {
      const content = anyUnpack(resolveTypedStruct(current.message as Any), registry);
      const inner = content && registry.getMessage(content.$typeName);
      if (content && inner) walk(reflect(inner, content), parents);
      return;
    }
    visit({ desc, message: current, parents });
    if (isWellKnown(desc)) return;
    const inside = [...parents, current];
    for (const field of desc.fields) {
      if (!current.isSet(field)) continue;
      if (field.fieldKind === "message") walk(current.get(field) as ReflectMessage, inside);
      else if (field.fieldKind === "list" && field.listKind === "message")
        for (const item of current.get(field) as Iterable<ReflectMessage>) walk(item, inside);
      else if (field.fieldKind === "map" && field.mapKind === "message")
        for (const [, item] of current.get(field) as Iterable<[unknown, ReflectMessage]>) walk(item, inside);
    }
  }
}
