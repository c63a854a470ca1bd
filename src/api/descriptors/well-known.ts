import type { DescMessage } from "@bufbuild/protobuf";

/** A type of the language itself, such as Any or Duration: it has a form of its own in JSON, and no rules. */
export function isWellKnown({ typeName }: DescMessage): boolean {
  return typeName.startsWith("google.protobuf.");
}
