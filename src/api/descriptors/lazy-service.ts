/** A service's descriptor that stays encoded until somebody asks for its methods. */
import { type DescMessage, type DescMethod, type DescService, fromBinary } from "@bufbuild/protobuf";
import { safeObjectProperty } from "@bufbuild/protobuf/reflect";
import {
  type MethodDescriptorProto,
  MethodDescriptorProtoSchema,
  type ServiceDescriptorProto,
  ServiceDescriptorProtoSchema,
} from "@bufbuild/protobuf/wkt";
import type { LazyFile } from "./lazy-file.ts";
import { messageOf, typeNameOf } from "./type-names.ts";
import { flagOf, type Range, WireScan } from "./wire-scan.ts";

interface ServiceShape {
  readonly range: Range;
  readonly name: string;
  readonly deprecated: boolean;
  readonly methods: DescMethod[];
}

export class LazyService implements DescService {
  readonly kind = "service";
  readonly file: LazyFile;
  readonly #find: () => Range;
  #shape: ServiceShape | undefined;

  constructor(file: LazyFile, find: () => Range) {
    this.file = file;
    this.#find = find;
  }

  get name(): string {
    return this.#open().name;
  }

  get typeName(): string {
    return typeNameOf(this.name, undefined, this.file);
  }

  get deprecated(): boolean {
    return this.#open().deprecated;
  }

  get methods(): DescMethod[] {
    return this.#open().methods;
  }

  get method(): Record<string, DescMethod> {
    return Object.fromEntries(this.methods.map((method) => [method.localName, method]));
  }

  get proto(): ServiceDescriptorProto {
    return fromBinary(ServiceDescriptorProtoSchema, this.file.part(this.#open().range));
  }

  toString(): string {
    return `service ${this.typeName}`;
  }

  #open(): ServiceShape {
    this.#shape ??= shapeOf(this, this.#find());
    return this.#shape;
  }
}

class LazyMethod {
  readonly kind = "rpc";
  readonly parent: LazyService;
  readonly #range: Range;
  readonly name: string = "";
  readonly localName: string;
  readonly methodKind: DescMethod["methodKind"];
  readonly deprecated: boolean = false;
  readonly idempotency: number = 0;
  readonly #input: string = "";
  readonly #output: string = "";

  constructor(parent: LazyService, range: Range) {
    this.parent = parent;
    this.#range = range;
    let [isClientStreaming, isServerStreaming] = [false, false];
    for (const scan = new WireScan(parent.file.shape.bytes, range); scan.next(); ) {
      if (scan.number === 1) this.name = scan.text();
      else if (scan.number === 2) this.#input = scan.text();
      else if (scan.number === 3) this.#output = scan.text();
      else if (scan.number === 4) this.deprecated = flagOf(scan, 33);
      else if (scan.number === 5) isClientStreaming = scan.value !== 0;
      else if (scan.number === 6) isServerStreaming = scan.value !== 0;
    }
    this.localName = safeObjectProperty(this.name.charAt(0).toLowerCase() + this.name.substring(1));
    if (isClientStreaming) this.methodKind = isServerStreaming ? "bidi_streaming" : "client_streaming";
    else this.methodKind = isServerStreaming ? "server_streaming" : "unary";
  }

  get input(): DescMessage {
    return messageOf(this.parent.file, this.#input);
  }

  get output(): DescMessage {
    return messageOf(this.parent.file, this.#output);
  }

  get proto(): MethodDescriptorProto {
    return fromBinary(MethodDescriptorProtoSchema, this.parent.file.part(this.#range));
  }

  toString(): string {
    return `rpc ${this.parent.typeName}.${this.name}`;
  }
}

function shapeOf(service: LazyService, range: Range): ServiceShape {
  let [name, deprecated] = ["", false];
  const methods: DescMethod[] = [];
  for (const scan = new WireScan(service.file.shape.bytes, range); scan.next(); ) {
    if (scan.number === 1) name = scan.text();
    else if (scan.number === 2) methods.push(new LazyMethod(service, scan.range()) as unknown as DescMethod);
    else if (scan.number === 3) deprecated = flagOf(scan, 33);
  }
  return { range, name, deprecated, methods };
}
