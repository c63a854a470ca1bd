/** Every descriptor of generated code beside what the library makes of the same bytes. */
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  create,
  type DescEnum,
  type DescExtension,
  type DescField,
  type DescFile,
  type DescMessage,
  type DescService,
  toBinary,
} from "@bufbuild/protobuf";
import { fileDesc as decodeAtOnce, tsEnum } from "@bufbuild/protobuf/codegenv2";
import * as wellKnown from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { fileDesc } from "./codegen.ts";

type Pair = { ours: DescFile; theirs: DescFile };
type Member = DescField | DescExtension;

const generated = join(import.meta.dirname, "..", "gen");
const texts = new Map(
  globSync("**/*_pb.js", { cwd: generated }).map((name) => {
    const text = readFileSync(join(generated, name), "utf8");
    const call = /export const (file_\w+) = [^;]*?fileDesc\("([^"]*)"(?:, \[([^\]]*)\])?\)/.exec(text);
    if (!call) throw new Error(`${name} has no descriptor`);
    return [call[1]!, { encoded: call[2]!, imports: call[3]?.split(", ") ?? [] }];
  }),
);
const pairs = new Map<string, Pair>();

function pairOf(name: string): Pair {
  const known = pairs.get(name);
  if (known) return known;
  const text = texts.get(name);
  const library = (wellKnown as unknown as Record<string, DescFile>)[name];
  if (text === undefined) return { ours: library!, theirs: library! };
  const imports = text.imports.map(pairOf);
  const pair = {
    ours: fileDesc(
      text.encoded,
      imports.map(({ ours }) => ours),
    ),
    theirs: decodeAtOnce(
      text.encoded,
      imports.map(({ theirs }) => theirs),
    ),
  };
  pairs.set(name, pair);
  return pair;
}

function sayType(desc: DescEnum | DescMessage): object {
  const { kind, name, typeName, deprecated, file, parent, proto } = desc;
  return { kind, name, typeName, deprecated, text: `${desc}`, file: file.name, parent: parent?.typeName, options: proto.options };
}

function sayEnum(desc: DescEnum): unknown {
  const { open, sharedPrefix, values } = desc;
  return {
    ...sayType(desc),
    ...{ open, sharedPrefix, values: values.map(sayValue) },
    byNumber: Object.entries(desc.value).map(([number, value]) => [number, value.name]),
  };
}

function sayValue(value: DescEnum["values"][number]): unknown {
  const { kind, name, localName, jsonName, number, deprecated } = value;
  return {
    kind,
    name,
    localName,
    jsonName,
    number,
    deprecated,
    text: `${value}`,
    parent: value.parent.typeName,
    options: value.proto.options,
  };
}

function sayField(field: Member): unknown {
  const { kind, name, number, jsonName, deprecated, presence, utf8Validation, fieldKind, oneof, scalar } = field;
  const rest = field as Partial<
    Record<"listKind" | "mapKind" | "mapKey" | "packed" | "delimitedEncoding" | "longAsString" | "localName", unknown>
  >;
  const { listKind, mapKind, mapKey, packed, delimitedEncoding, longAsString, localName } = rest;
  const isSingular = fieldKind !== "list" && fieldKind !== "map";
  return {
    ...{ kind, name, number, localName, jsonName, deprecated, presence, utf8Validation, fieldKind, scalar, longAsString, text: `${field}` },
    ...{ listKind, mapKind, mapKey, packed, delimitedEncoding, oneof: oneof?.name, parent: field.parent?.typeName },
    message: field.message?.typeName,
    enum: field.enum?.typeName,
    extendee: field.kind === "extension" ? [field.extendee.typeName, field.typeName, field.file.name] : undefined,
    default: isSingular ? field.getDefaultValue() : undefined,
    options: field.proto.options,
    proto: [field.proto.name, field.proto.number, field.proto.type, field.proto.label, field.proto.jsonName],
  };
}

function sayMessage(desc: DescMessage): unknown {
  const names = (members: readonly { name: string }[]) => members.map((member) => member.name);
  return {
    ...sayType(desc),
    fields: desc.fields.map(sayField),
    byName: Object.entries(desc.field).map(([localName, field]) => [localName, field.number]),
    oneofs: desc.oneofs.map((oneof) => [oneof.kind, `${oneof}`, oneof.localName, names(oneof.fields), oneof.proto.options]),
    members: names(desc.members),
    enums: desc.nestedEnums.map(sayEnum),
    messages: desc.nestedMessages.map(sayMessage),
    extensions: desc.nestedExtensions.map(sayField),
  };
}

function sayService(desc: DescService): unknown {
  const { kind, name, typeName, deprecated } = desc;
  const methods = desc.methods.map((method) => [
    ...[method.kind, `${method}`, method.name, method.localName, method.methodKind, method.idempotency, method.deprecated],
    ...[method.input.typeName, method.output.typeName, method.proto.options, method.parent.typeName],
  ]);
  return { kind, name, typeName, deprecated, text: `${desc}`, methods, byName: Object.keys(desc.method), options: desc.proto.options };
}

function sayFile(file: DescFile): unknown {
  const { kind, name, edition, deprecated } = file;
  return {
    ...{ kind, name, edition, deprecated, text: `${file}`, package: file.proto.package, dependencies: file.dependencies.map(String) },
    messages: file.messages.map(sayMessage),
    enums: file.enums.map(sayEnum),
    services: file.services.map(sayService),
    extensions: file.extensions.map(sayField),
    imports: file.proto.dependency,
  };
}

/** Exports of generated code by what its comments say that they describe. */
function described(text: string, kind: string): [exported: string, typeName: string][] {
  const pattern = new RegExp(`Describes the ${kind} ([\\w.]+)\\.\\n(?: \\*[^\\n]*\\n)*export const (\\w+) =`, "g");
  return [...text.matchAll(pattern)].map((match) => [match[2]!, match[1]!]);
}

describe("descriptors of generated code", () => {
  it("are those of all files", () => expect(texts.size).toBeGreaterThan(400));

  it("say what the library's say", { timeout: 120_000 }, () => {
    for (const name of texts.keys()) {
      const { ours, theirs } = pairOf(name);
      expect(sayFile(ours), name).toEqual(sayFile(theirs));
    }
  });

  it("are exported by the names of what they describe, and enumerations with the library's names of their values", async () => {
    for (const name of globSync("**/*_pb.js", { cwd: generated })) {
      const text = readFileSync(join(generated, name), "utf8");
      const module = (await import(join(generated, name))) as Record<string, DescMessage & DescEnum>;
      for (const kind of ["message", "enum", "service"]) {
        for (const [exported, typeName] of described(text, kind)) {
          expect(module[exported]).toMatchObject({ kind, typeName });
          if (kind === "enum") expect(module[exported.replace(/Schema$/, "")], typeName).toEqual(tsEnum(module[exported]!));
        }
      }
    }
  });

  it("name a type that cannot be found", () => {
    const encoded = toBinary(
      wellKnown.FileDescriptorProtoSchema,
      create(wellKnown.FileDescriptorProtoSchema, {
        name: "a.proto",
        syntax: "proto3",
        messageType: [{ name: "A", field: [{ name: "b", number: 1, label: 1, type: 11, typeName: ".b.B" }] }],
      }),
    );
    const { messages } = fileDesc(Buffer.from(encoded).toString("base64"));
    expect(() => messages[0]!.field.b!.message).toThrow("file a.proto names .b.B, which is no message of it or of what it imports");
  });
});
