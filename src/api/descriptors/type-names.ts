/** Names of types, and what they stand for among a file's dependencies. */
import type { DescEnum, DescFile, DescMessage } from "@bufbuild/protobuf";
import type { LazyFile } from "./lazy-file.ts";

/** `envoy.config.core.v3.SocketAddress.Protocol` */
export function typeNameOf(name: string, parent: { readonly typeName: string } | undefined, file: LazyFile): string {
  const scope = parent?.typeName ?? file.shape.package;
  return scope === "" ? name : `${scope}.${name}`;
}

/** `typeName`: as descriptors write it, with a dot before it. Throws where the file and its dependencies have none of that name. */
export function messageOf(file: LazyFile, typeName: string): DescMessage {
  const message = search(file, typeName, (scope, name) => scope.messages.find((found) => found.name === name) as DescMessage | undefined);
  if (message === undefined) throw new Error(`${file} names ${typeName}, which is no message of it or of what it imports`);
  return message;
}

export function enumOf(file: LazyFile, typeName: string): DescEnum {
  const found = search(file, typeName, (scope, name) => scope.enums.find((known) => known.name === name));
  if (found === undefined) throw new Error(`${file} names ${typeName}, which is no enumeration of it or of what it imports`);
  return found;
}

/** Where types are: a file, or a message that has others in it. */
interface Scope {
  readonly messages: readonly DescMessage[];
  readonly enums: readonly DescEnum[];
}

type Find<Type> = (scope: Scope, name: string) => Type | undefined;

function search<Type>(file: DescFile, typeName: string, find: Find<Type>, seen = new Set<DescFile>()): Type | undefined {
  seen.add(file);
  const prefix = `.${packageOf(file)}${packageOf(file) === "" ? "" : "."}`;
  const here = typeName.startsWith(prefix) ? searchWithin(file, typeName.slice(prefix.length).split("."), find) : undefined;
  if (here !== undefined) return here;
  for (const dependency of file.dependencies) {
    if (seen.has(dependency)) continue;
    const found = search(dependency, typeName, find, seen);
    if (found !== undefined) return found;
  }
  return undefined;
}

function searchWithin<Type>(file: DescFile, names: readonly string[], find: Find<Type>): Type | undefined {
  let scope: Scope = file;
  for (const name of names.slice(0, -1)) {
    const outer = scope.messages.find((message) => message.name === name);
    if (outer === undefined) return undefined;
    scope = { messages: outer.nestedMessages, enums: outer.nestedEnums };
  }
  return find(scope, names.at(-1)!);
}

/** The library's own files have it in their `proto` alone. */
function packageOf(file: DescFile | LazyFile): string {
  return "shape" in file ? file.shape.package : file.proto.package;
}
