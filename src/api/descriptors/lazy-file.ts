/** A file of descriptors that stays encoded until somebody asks for what is in it. */
import { type DescExtension, type DescFile, fromBinary } from "@bufbuild/protobuf";
import { type FileDescriptorProto, FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { LazyEnum } from "./lazy-enum.ts";
import { extensionAt } from "./lazy-field.ts";
import { LazyMessage } from "./lazy-message.ts";
import { LazyService } from "./lazy-service.ts";
import { flagOf, type Range, WireScan } from "./wire-scan.ts";

/** Edition.EDITION_PROTO2, EDITION_PROTO3. */
export const proto2 = 998;
const proto3 = 999;

/** FileDescriptorProto as far as its parts have places. */
interface FileShape {
  readonly bytes: Buffer;
  readonly path: string;
  readonly package: string;
  readonly edition: typeof proto2 | typeof proto3;
  readonly deprecated: boolean;
  readonly messages: readonly Range[];
  readonly enums: readonly Range[];
  readonly services: readonly Range[];
  readonly extensions: readonly Range[];
}

export class LazyFile implements DescFile {
  readonly kind = "file";
  readonly dependencies: DescFile[];
  #encoded: string;
  #shape: FileShape | undefined;
  readonly #messages: LazyMessage[] = [];
  readonly #enums: LazyEnum[] = [];
  readonly #services: LazyService[] = [];
  #extensions: DescExtension[] | undefined;

  /** `encoded`: FileDescriptorProto in base64, without the names of its dependencies. */
  constructor(encoded: string, dependencies: DescFile[]) {
    this.#encoded = encoded;
    this.dependencies = dependencies;
  }

  /** Nothing of these three is decoded for them. */
  message(index: number): LazyMessage {
    this.#messages[index] ??= new LazyMessage(this, undefined, () => this.shape.messages[index]!);
    return this.#messages[index];
  }

  enum(index: number): LazyEnum {
    this.#enums[index] ??= new LazyEnum(this, undefined, () => this.shape.enums[index]!);
    return this.#enums[index];
  }

  service(index: number): LazyService {
    this.#services[index] ??= new LazyService(this, () => this.shape.services[index]!);
    return this.#services[index];
  }

  get messages(): LazyMessage[] {
    return this.shape.messages.map((_, index) => this.message(index));
  }

  get enums(): LazyEnum[] {
    return this.shape.enums.map((_, index) => this.enum(index));
  }

  get services(): LazyService[] {
    return this.shape.services.map((_, index) => this.service(index));
  }

  get extensions(): DescExtension[] {
    this.#extensions ??= this.shape.extensions.map((range) => extensionAt(this, undefined, range));
    return this.#extensions;
  }

  get name(): string {
    return this.shape.path.replace(/\.proto$/, "");
  }

  get edition(): typeof proto2 | typeof proto3 {
    return this.shape.edition;
  }

  get deprecated(): boolean {
    return this.shape.deprecated;
  }

  /** Decoded anew for each who asks, as every `proto` here: few do. */
  get proto(): FileDescriptorProto {
    const proto = fromBinary(FileDescriptorProtoSchema, this.part({ from: 0, to: this.shape.bytes.length }));
    proto.dependency = this.dependencies.map((file) => file.proto.name);
    return proto;
  }

  toString(): string {
    return `file ${this.shape.path}`;
  }

  /** The bytes of one of its messages. No Buffer: decoded options would have Buffers in them. */
  part({ from, to }: Range): Uint8Array {
    const { buffer, byteOffset } = this.shape.bytes;
    return new Uint8Array(buffer, byteOffset + from, to - from);
  }

  get shape(): FileShape {
    if (this.#shape === undefined) {
      this.#shape = shapeOf(Buffer.from(this.#encoded, "base64"));
      this.#encoded = "";
    }
    return this.#shape;
  }
}

function shapeOf(bytes: Buffer): FileShape {
  let [path, packageName, syntax, deprecated] = ["", "", "", false];
  const [messages, enums, services, extensions]: Range[][] = [[], [], [], []];
  for (const scan = new WireScan(bytes, { from: 0, to: bytes.length }); scan.next(); ) {
    if (scan.number === 1) path = scan.text();
    else if (scan.number === 2) packageName = scan.text();
    else if (scan.number === 4) messages!.push(scan.range());
    else if (scan.number === 5) enums!.push(scan.range());
    else if (scan.number === 6) services!.push(scan.range());
    else if (scan.number === 7) extensions!.push(scan.range());
    else if (scan.number === 8) deprecated = flagOf(scan, 23);
    else if (scan.number === 12) syntax = scan.text();
  }
  if (syntax !== "" && syntax !== "proto2" && syntax !== "proto3") throw new Error(`${path}: syntax "${syntax}" is not supported`);
  const edition = syntax === "proto3" ? proto3 : proto2;
  return {
    bytes,
    path,
    package: packageName,
    edition,
    deprecated,
    messages: messages!,
    enums: enums!,
    services: services!,
    extensions: extensions!,
  };
}
