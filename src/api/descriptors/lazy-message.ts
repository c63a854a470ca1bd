/** A message's descriptor that stays encoded until somebody asks for its fields. */
import { type DescEnum, type DescExtension, type DescField, type DescMessage, type DescOneof, fromBinary } from "@bufbuild/protobuf";
import { protoCamelCase, safeObjectProperty } from "@bufbuild/protobuf/reflect";
import { type DescriptorProto, DescriptorProtoSchema, type OneofDescriptorProto, OneofDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { LazyEnum } from "./lazy-enum.ts";
import { extensionAt, fieldAt } from "./lazy-field.ts";
import type { LazyFile } from "./lazy-file.ts";
import { typeNameOf } from "./type-names.ts";
import { flagOf, type Range, WireScan } from "./wire-scan.ts";

/** DescriptorProto as far as its parts have places. */
interface MessageShape {
  readonly range: Range;
  readonly name: string;
  readonly deprecated: boolean;
  readonly messages: readonly Range[];
  /** Messages that stand for the entries of maps: nobody sees them. */
  readonly entries: readonly Range[];
  readonly enums: readonly Range[];
  readonly extensions: readonly Range[];
}

interface MessageFields {
  readonly fields: DescField[];
  readonly field: Record<string, DescField>;
  readonly oneofs: DescOneof[];
  readonly members: (DescField | DescOneof)[];
}

const none: readonly never[] = [];

export class LazyMessage implements DescMessage {
  readonly kind = "message";
  readonly file: LazyFile;
  readonly parent: LazyMessage | undefined;
  readonly #find: () => Range;
  #typeName: string | undefined;
  #shape: MessageShape | undefined;
  #fields: MessageFields | undefined;
  #messages: LazyMessage[] | undefined;
  #enums: LazyEnum[] | undefined;
  #extensions: DescExtension[] | undefined;

  constructor(file: LazyFile, parent: LazyMessage | undefined, find: () => Range) {
    this.file = file;
    this.parent = parent;
    this.#find = find;
  }

  /** Nothing of these two is decoded for them. */
  nestedMessage(index: number): LazyMessage {
    this.#messages ??= [];
    this.#messages[index] ??= new LazyMessage(this.file, this, () => this.#open().messages[index]!);
    return this.#messages[index];
  }

  nestedEnum(index: number): LazyEnum {
    this.#enums ??= [];
    this.#enums[index] ??= new LazyEnum(this.file, this, () => this.#open().enums[index]!);
    return this.#enums[index];
  }

  get nestedMessages(): DescMessage[] {
    return this.#open().messages.map((_, index) => this.nestedMessage(index));
  }

  get nestedEnums(): DescEnum[] {
    return this.#open().enums.map((_, index) => this.nestedEnum(index));
  }

  get nestedExtensions(): DescExtension[] {
    this.#extensions ??= this.#open().extensions.map((range) => extensionAt(this.file, this, range));
    return this.#extensions;
  }

  get name(): string {
    return this.#open().name;
  }

  get typeName(): string {
    this.#typeName ??= typeNameOf(this.name, this.parent, this.file);
    return this.#typeName;
  }

  get deprecated(): boolean {
    return this.#open().deprecated;
  }

  get fields(): DescField[] {
    return this.#read().fields;
  }

  get field(): Record<string, DescField> {
    return this.#read().field;
  }

  get oneofs(): DescOneof[] {
    return this.#read().oneofs;
  }

  get members(): (DescField | DescOneof)[] {
    return this.#read().members;
  }

  get proto(): DescriptorProto {
    return fromBinary(DescriptorProtoSchema, this.file.part(this.#open().range));
  }

  toString(): string {
    return `message ${this.typeName}`;
  }

  /** The entry of a map field whose type has that name; undefined for any other message's. */
  entry(typeName: string): LazyMessage | undefined {
    for (const range of this.#open().entries) {
      const entry = new LazyMessage(this.file, this, () => range);
      if (`.${entry.typeName}` === typeName) return entry;
    }
    return undefined;
  }

  #open(): MessageShape {
    this.#shape ??= shapeOf(this.file.shape.bytes, this.#find());
    return this.#shape;
  }

  #read(): MessageFields {
    this.#fields ??= fieldsOf(this, this.#open().range);
    return this.#fields;
  }
}

class LazyOneof implements DescOneof {
  readonly kind = "oneof";
  readonly deprecated = false;
  readonly parent: LazyMessage;
  readonly fields: DescField[] & DescOneof["fields"] = [];
  readonly name: string;
  readonly localName: string;
  readonly #range: Range;

  constructor(parent: LazyMessage, name: string, range: Range) {
    this.parent = parent;
    this.name = name;
    this.localName = safeObjectProperty(protoCamelCase(name));
    this.#range = range;
  }

  get proto(): OneofDescriptorProto {
    return fromBinary(OneofDescriptorProtoSchema, this.parent.file.part(this.#range));
  }

  toString(): string {
    return `oneof ${this.parent.typeName}.${this.name}`;
  }
}

function shapeOf(bytes: Buffer, range: Range): MessageShape {
  let [name, deprecated] = ["", false];
  const lists: Record<"messages" | "entries" | "enums" | "extensions", readonly Range[]> = {
    messages: none,
    entries: none,
    enums: none,
    extensions: none,
  };
  const add = (list: keyof typeof lists, found: Range) => {
    lists[list] = [...lists[list], found];
  };
  for (const scan = new WireScan(bytes, range); scan.next(); ) {
    if (scan.number === 1) name = scan.text();
    else if (scan.number === 3) add(isMapEntry(scan.within()) ? "entries" : "messages", scan.range());
    else if (scan.number === 4) add("enums", scan.range());
    else if (scan.number === 6) add("extensions", scan.range());
    else if (scan.number === 7) deprecated = flagOf(scan, 3);
  }
  return { range, name, deprecated, ...lists };
}

function isMapEntry(scan: WireScan): boolean {
  while (scan.next()) if (scan.number === 7) return flagOf(scan, 7);
  return false;
}

function fieldsOf(message: LazyMessage, range: Range): MessageFields {
  const bytes = message.file.shape.bytes;
  const oneofs: LazyOneof[] = [];
  const ranges: Range[] = [];
  for (const scan = new WireScan(bytes, range); scan.next(); ) {
    if (scan.number === 2) ranges.push(scan.range());
    else if (scan.number === 8) oneofs.push(new LazyOneof(message, oneofName(scan.within()), scan.range()));
  }
  const found: MessageFields = { fields: [], field: {}, oneofs: [], members: [] };
  for (const fieldRange of ranges) {
    const { field, oneof } = fieldAt(message, oneofs, fieldRange);
    found.fields.push(field);
    found.field[field.localName] = field;
    if (oneof === undefined) found.members.push(field);
    else {
      if (oneof.fields.length === 0) found.members.push(oneof);
      oneof.fields.push(field as never);
    }
  }
  // Those of optional fields are the compiler's.
  found.oneofs.push(...oneofs.filter(({ fields }) => fields.length > 0));
  return found;
}

function oneofName(scan: WireScan): string {
  while (scan.next()) if (scan.number === 1) return scan.text();
  return "";
}
