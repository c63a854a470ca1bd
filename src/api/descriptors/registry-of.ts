/** The library's registry of files asks each for its whole descriptor, to know its path. Nobody asks for files here. */
import { createRegistry, type DescFile, type Registry } from "@bufbuild/protobuf";
import { nestedTypes } from "@bufbuild/protobuf/reflect";

/** All types of the files, with those that `base` has. */
export function registryOf(files: readonly DescFile[], base: Registry = createRegistry()): Registry {
  return createRegistry(base, ...files.flatMap((file) => [...nestedTypes(file)]));
}
