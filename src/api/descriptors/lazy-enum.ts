/** An enumeration that stays encoded until somebody asks for its values. */
import { type DescEnum, type DescEnumValue, fromBinary } from "@bufbuild/protobuf";
import { safeObjectProperty } from "@bufbuild/protobuf/reflect";
import {
  type EnumDescriptorProto,
  EnumDescriptorProtoSchema,
  type EnumValueDescriptorProto,
  EnumValueDescriptorProtoSchema,
} from "@bufbuild/protobuf/wkt";
import { type LazyFile, proto2 } from "./lazy-file.ts";
import type { LazyMessage } from "./lazy-message.ts";
import { typeNameOf } from "./type-names.ts";
import { flagOf, type Range, WireScan } from "./wire-scan.ts";

interface EnumShape {
  readonly range: Range;
  readonly name: string;
  readonly deprecated: boolean;
  readonly values: readonly Range[];
}

interface EnumValues {
  readonly list: DescEnumValue[];
  readonly byNumber: Record<number, DescEnumValue>;
  readonly sharedPrefix: string | undefined;
}

export class LazyEnum implements DescEnum {
  readonly kind = "enum";
  readonly file: LazyFile;
  readonly parent: LazyMessage | undefined;
  readonly #find: () => Range;
  #shape: EnumShape | undefined;
  #values: EnumValues | undefined;

  constructor(file: LazyFile, parent: LazyMessage | undefined, find: () => Range) {
    this.file = file;
    this.parent = parent;
    this.#find = find;
  }

  get name(): string {
    return this.#open().name;
  }

  get typeName(): string {
    return typeNameOf(this.name, this.parent, this.file);
  }

  get deprecated(): boolean {
    return this.#open().deprecated;
  }

  get open(): boolean {
    return this.file.edition !== proto2;
  }

  get values(): DescEnumValue[] {
    return this.#read().list;
  }

  get value(): Record<number, DescEnumValue> {
    return this.#read().byNumber;
  }

  get sharedPrefix(): string | undefined {
    return this.#read().sharedPrefix;
  }

  get proto(): EnumDescriptorProto {
    return fromBinary(EnumDescriptorProtoSchema, this.file.part(this.#open().range));
  }

  toString(): string {
    return `enum ${this.typeName}`;
  }

  #open(): EnumShape {
    this.#shape ??= shapeOf(this.file.shape.bytes, this.#find());
    return this.#shape;
  }

  #read(): EnumValues {
    this.#values ??= valuesOf(this, this.#open());
    return this.#values;
  }
}

class LazyEnumValue implements DescEnumValue {
  readonly kind = "enum_value";
  readonly parent: LazyEnum;
  readonly name: string;
  readonly localName: string;
  readonly number: number;
  readonly deprecated: boolean;
  readonly #range: Range;

  constructor(parent: LazyEnum, value: EnumValue, sharedPrefix: string) {
    this.parent = parent;
    this.name = value.name;
    this.localName = safeObjectProperty(value.name.substring(sharedPrefix.length));
    this.number = value.number;
    this.deprecated = value.deprecated;
    this.#range = value.range;
  }

  get jsonName(): string {
    return this.name;
  }

  get proto(): EnumValueDescriptorProto {
    return fromBinary(EnumValueDescriptorProtoSchema, this.parent.file.part(this.#range));
  }

  toString(): string {
    return `enum value ${this.parent.typeName}.${this.name}`;
  }
}

function shapeOf(bytes: Buffer, range: Range): EnumShape {
  let [name, deprecated] = ["", false];
  const values: Range[] = [];
  for (const scan = new WireScan(bytes, range); scan.next(); ) {
    if (scan.number === 1) name = scan.text();
    else if (scan.number === 2) values.push(scan.range());
    else if (scan.number === 3) deprecated = flagOf(scan, 3);
  }
  return { range, name, deprecated, values };
}

interface EnumValue {
  readonly range: Range;
  readonly name: string;
  readonly number: number;
  readonly deprecated: boolean;
}

function valueAt(bytes: Buffer, range: Range): EnumValue {
  let [name, number, deprecated] = ["", 0, false];
  for (const scan = new WireScan(bytes, range); scan.next(); ) {
    if (scan.number === 1) name = scan.text();
    else if (scan.number === 2) number = scan.value | 0;
    else if (scan.number === 3) deprecated = flagOf(scan, 1);
  }
  return { range, name, number, deprecated };
}

function valuesOf(parent: LazyEnum, { name, values }: EnumShape): EnumValues {
  const found = values.map((range) => valueAt(parent.file.shape.bytes, range));
  const sharedPrefix = sharedPrefixOf(name, found);
  const list = found.map((value) => new LazyEnumValue(parent, value, sharedPrefix ?? ""));
  const byNumber: Record<number, DescEnumValue> = {};
  // Of several names for one number the first counts.
  for (const value of list) byNumber[value.number] ??= value;
  return { list, byNumber, sharedPrefix };
}

/** `my_enum_` of `enum MyEnum { MY_ENUM_A = 0; MY_ENUM_B = 1; }`: what names in TypeScript go without. */
function sharedPrefixOf(enumName: string, values: readonly EnumValue[]): string | undefined {
  const prefix = `${enumName.replaceAll(/(?!^)[A-Z]/g, "_$&").toLowerCase()}_`;
  const isShared = values.every(({ name }) => name.toLowerCase().startsWith(prefix) && /^\D/.test(name.substring(prefix.length)));
  return isShared ? prefix : undefined;
}
