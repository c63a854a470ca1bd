/** Fields of an opened message, and extensions. The types that they name are looked for when somebody asks. */
import {
  type DescEnum,
  type DescExtension,
  type DescField,
  type DescMessage,
  type DescOneof,
  fromBinary,
  ScalarType,
} from "@bufbuild/protobuf";
import { protoCamelCase, safeObjectProperty } from "@bufbuild/protobuf/reflect";
import { parseTextFormatEnumValue, parseTextFormatScalarValue } from "@bufbuild/protobuf/wire";
import { type FieldDescriptorProto, FieldDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { type LazyFile, proto2 } from "./lazy-file.ts";
import type { LazyMessage } from "./lazy-message.ts";
import { enumOf, messageOf, typeNameOf } from "./type-names.ts";
import { type Range, WireScan } from "./wire-scan.ts";

/** FieldDescriptorProto.Type beside those of ScalarType. */
const [group, messageType, enumType] = [10, 11, 14];
/** FieldDescriptorProto.Label. */
const [required, repeated] = [2, 3];
/** FeatureSet.FieldPresence. */
const [explicit, implicit, legacyRequired] = [1, 2, 3] as const;

/** FieldDescriptorProto, as written. */
interface Written {
  name: string;
  number: number;
  label: number;
  type: number;
  typeName: string;
  extendee: string;
  defaultValue: string | undefined;
  jsonName: string | undefined;
  oneof: number | undefined;
  isOptional: boolean;
  packed: boolean | undefined;
  deprecated: boolean;
  isLongAsString: boolean;
}

type Kind = "scalar" | "enum" | "message";

/** What a DescField or a DescExtension is, whichever of their kinds. */
class LazyField {
  readonly kind: "field" | "extension";
  readonly file: LazyFile;
  readonly parent: LazyMessage | undefined;
  readonly oneof: DescOneof | undefined;
  readonly name: string;
  readonly number: number;
  readonly localName: string | undefined;
  readonly jsonName: string;
  readonly deprecated: boolean;
  readonly presence: 1 | 2 | 3;
  readonly utf8Validation: boolean;
  readonly fieldKind: Kind | "list" | "map";
  readonly listKind: Kind | undefined;
  readonly mapKind: Kind | undefined;
  readonly mapKey: ScalarType | undefined;
  readonly scalar: ScalarType | undefined;
  readonly packed: boolean | undefined;
  readonly delimitedEncoding: boolean | undefined;
  readonly longAsString: boolean;
  readonly #range: Range;
  readonly #typeName: string;
  readonly #extendee: string;
  readonly #default: string | undefined;
  /** Of a map's entry: whose types are the field's. */
  readonly #value: DescField | undefined;
  #message: DescMessage | undefined;
  #enum: DescEnum | undefined;

  constructor(
    file: LazyFile,
    parent: LazyMessage | undefined,
    range: Range,
    written: Written,
    oneof: DescOneof | undefined,
    isExtension: boolean,
  ) {
    const isProto2 = file.edition === proto2;
    const camel = protoCamelCase(written.name);
    const isList = written.label === repeated;
    const kind: Kind = written.type === enumType ? "enum" : written.type === messageType || written.type === group ? "message" : "scalar";
    const entry = isList && written.type === messageType ? parent?.entry(written.typeName) : undefined;
    const value = entry?.fields.find(({ number }) => number === 2);
    this.kind = isExtension ? "extension" : "field";
    this.file = file;
    this.parent = parent;
    this.oneof = oneof;
    this.name = written.name;
    this.number = written.number;
    this.localName = isExtension ? undefined : oneof === undefined ? safeObjectProperty(camel) : camel;
    this.jsonName = isExtension ? `[${typeNameOf(written.name, parent, file)}]` : (written.jsonName ?? camel);
    this.deprecated = written.deprecated;
    this.presence = presenceOf(written, kind, isProto2, oneof !== undefined || isExtension);
    this.utf8Validation = !isProto2;
    this.fieldKind = value !== undefined ? "map" : isList ? "list" : kind;
    this.listKind = this.fieldKind === "list" ? kind : undefined;
    this.mapKind = value?.fieldKind as Kind | undefined;
    this.mapKey = entry?.fields.find(({ number }) => number === 1)?.scalar;
    this.scalar = value !== undefined ? value.scalar : kind === "scalar" ? written.type : undefined;
    this.packed = this.fieldKind === "list" ? isPacked(written, kind, isProto2) : undefined;
    this.delimitedEncoding = value !== undefined ? false : kind === "message" ? written.type === group : undefined;
    this.longAsString = kind === "scalar" && written.isLongAsString;
    this.#range = range;
    this.#typeName = written.typeName;
    this.#extendee = written.extendee;
    this.#default = written.defaultValue;
    this.#value = value;
  }

  get message(): DescMessage | undefined {
    if (this.#value !== undefined) return this.#value.message;
    if (this.#message === undefined && (this.fieldKind === "message" || this.listKind === "message")) {
      this.#message = messageOf(this.file, this.#typeName);
    }
    return this.#message;
  }

  get enum(): DescEnum | undefined {
    if (this.#value !== undefined) return this.#value.enum;
    if (this.#enum === undefined && (this.fieldKind === "enum" || this.listKind === "enum")) {
      this.#enum = enumOf(this.file, this.#typeName);
    }
    return this.#enum;
  }

  get extendee(): DescMessage | undefined {
    return this.kind === "extension" ? messageOf(this.file, this.#extendee) : undefined;
  }

  get typeName(): string | undefined {
    return this.kind === "extension" ? typeNameOf(this.name, this.parent, this.file) : undefined;
  }

  get proto(): FieldDescriptorProto {
    const proto = fromBinary(FieldDescriptorProtoSchema, this.file.part(this.#range));
    if (this.kind === "field") proto.jsonName = this.jsonName;
    return proto;
  }

  /** Of proto2 alone. */
  getDefaultValue(): unknown {
    if (this.#default === undefined) return undefined;
    if (this.fieldKind === "enum") return parseTextFormatEnumValue(this.enum!, this.#default);
    return this.fieldKind === "scalar" ? parseTextFormatScalarValue(this.scalar!, this.#default) : undefined;
  }

  toString(): string {
    return this.kind === "extension" ? `extension ${this.typeName}` : `field ${this.parent?.typeName}.${this.name}`;
  }
}

export function fieldAt<Oneof extends DescOneof>(
  message: LazyMessage,
  oneofs: readonly Oneof[],
  range: Range,
): { field: DescField; oneof: Oneof | undefined } {
  const written = readField(message.file.shape.bytes, range);
  const oneof = written.oneof === undefined || written.isOptional ? undefined : oneofs[written.oneof];
  return { field: new LazyField(message.file, message, range, written, oneof, false) as unknown as DescField, oneof };
}

/** The library reads options by copies of extensions (createExtensionContainer), which have what is an extension's own. */
export function extensionAt(file: LazyFile, parent: LazyMessage | undefined, range: Range): DescExtension {
  const field = new LazyField(file, parent, range, readField(file.shape.bytes, range), undefined, true);
  const extension = {
    ...field,
    get message() {
      return field.message;
    },
    get enum() {
      return field.enum;
    },
    get extendee() {
      return field.extendee;
    },
    get typeName() {
      return field.typeName;
    },
    get proto() {
      return field.proto;
    },
    getDefaultValue: () => field.getDefaultValue(),
    toString: () => field.toString(),
  };
  return extension as unknown as DescExtension;
}

function readField(bytes: Buffer, range: Range): Written {
  const written: Written = {
    name: "",
    number: 0,
    label: 0,
    type: 0,
    typeName: "",
    extendee: "",
    defaultValue: undefined,
    jsonName: undefined,
    oneof: undefined,
    isOptional: false,
    packed: undefined,
    deprecated: false,
    isLongAsString: false,
  };
  for (const scan = new WireScan(bytes, range); scan.next(); ) {
    if (scan.number === 1) written.name = scan.text();
    else if (scan.number === 2) written.extendee = scan.text();
    else if (scan.number === 3) written.number = scan.value;
    else if (scan.number === 4) written.label = scan.value;
    else if (scan.number === 5) written.type = scan.value;
    else if (scan.number === 6) written.typeName = scan.text();
    else if (scan.number === 7) written.defaultValue = scan.text();
    else if (scan.number === 8) readOptions(scan.within(), written);
    else if (scan.number === 9) written.oneof = scan.value;
    else if (scan.number === 10) written.jsonName = scan.text();
    else if (scan.number === 17) written.isOptional = scan.value !== 0;
  }
  return written;
}

function readOptions(scan: WireScan, written: Written): void {
  while (scan.next()) {
    if (scan.number === 2) written.packed = scan.value !== 0;
    else if (scan.number === 3) written.deprecated = scan.value !== 0;
    else if (scan.number === 6) written.isLongAsString = scan.value === 1;
  }
}

/** Source: protobuf.dev/programming-guides/field_presence. */
function presenceOf(written: Written, kind: Kind, isProto2: boolean, isTracked: boolean): 1 | 2 | 3 {
  if (written.label === required) return legacyRequired;
  if (written.label === repeated) return implicit;
  return isTracked || written.isOptional || isProto2 || kind === "message" ? explicit : implicit;
}

function isPacked({ type, packed }: Written, kind: Kind, isProto2: boolean): boolean {
  if (kind === "message" || type === ScalarType.STRING || type === ScalarType.BYTES) return false;
  return packed ?? !isProto2;
}
