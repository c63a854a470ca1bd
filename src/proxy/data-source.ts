/** envoy.config.core.v3.DataSource: bytes that stand in the configuration, in a file or in the environment. */
import { readFileSync } from "node:fs";
import { ConfigError } from "../api/config-error.ts";
import type { DataSource } from "../api/gen/envoy/config/core/v3/base_pb.js";

/** Reads the source now; null when nothing is specified. Throws ConfigError when a file can't be read, or a variable isn't set. */
export function readDataSource(source: DataSource | undefined): Buffer | null {
  const specifier = source?.specifier;
  switch (specifier?.case) {
    case "inlineString":
      return Buffer.from(specifier.value, "utf8");
    case "inlineBytes":
      // A view: keys of ten thousand certificates lie in memory that all workers share, and stay there.
      return Buffer.from(specifier.value.buffer, specifier.value.byteOffset, specifier.value.byteLength);
    case "filename":
      try {
        return readFileSync(specifier.value);
      } catch (cause) {
        throw new ConfigError(`Invalid path: ${specifier.value}`, { cause });
      }
    case "environmentVariable": {
      const value = process.env[specifier.value];
      if (value === undefined) throw new ConfigError(`Environment variable doesn't exist: ${specifier.value}`);
      return Buffer.from(value, "utf8");
    }
    default:
      return null;
  }
}
