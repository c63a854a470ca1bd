/**
 * What generated code makes its descriptors with, in place of @bufbuild/protobuf/codegenv2 (build.mjs, generate). The library decodes every
 * file of descriptors when it is loaded, some thousand messages of which a process needs a tenth: 5 to 7 MB in each thread, and half of the
 * time to load. Here all stays encoded until it is asked for. What is asked for is the same, message by message: descriptors.test.ts.
 */
import type { DescEnum, DescExtension, DescFile, DescService } from "@bufbuild/protobuf";
import { LazyFile } from "./lazy-file.ts";
import type { LazyMessage } from "./lazy-message.ts";

/** `encoded`: FileDescriptorProto in base64, without the names of its imports. */
export function fileDesc(encoded: string, imports: DescFile[] = []): LazyFile {
  return new LazyFile(encoded, imports);
}

/** Paths are places in the lists of a file and of messages within messages. */
export function messageDesc(file: LazyFile, index: number, ...within: number[]): LazyMessage {
  return within.reduce((message, next) => message.nestedMessage(next), file.message(index));
}

export function enumDesc(file: LazyFile, index: number, ...within: number[]): DescEnum {
  const last = within.pop();
  return last === undefined ? file.enum(index) : messageDesc(file, index, ...within).nestedEnum(last);
}

/** None of ours is within a message. */
export function extDesc(file: LazyFile, index: number): DescExtension {
  return file.extensions[index]!;
}

export function serviceDesc(file: LazyFile, index: number): DescService {
  return file.service(index);
}
