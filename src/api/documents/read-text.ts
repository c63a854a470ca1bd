import { ConfigError } from "../config-error.ts";

/** A file of configuration larger than this is refused. Parsing takes about a second per 5 MB, and the syntax tree some 30 times its size. */
export const maxFileBytes = 16 * 1024 * 1024;

/** The text of a configuration file. Throws ConfigError when it is too large or no UTF-8 text. */
export function readText(bytes: Uint8Array, file: string): string {
  if (bytes.length > maxFileBytes) throw tooLarge(file, bytes.length);
  const zero = bytes.indexOf(0);
  if (zero >= 0) throw new ConfigError(`is not a text file: byte ${zero} is zero`, { position: { file, line: 1 } });
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new ConfigError("is not a text file: it isn't UTF-8", { position: { file, line: 1 }, cause });
  }
}

export function tooLarge(file: string, size: number): ConfigError {
  const megabytes = (size / 1024 / 1024).toFixed(1);
  return new ConfigError(`is too large: ${megabytes} MiB, at most ${maxFileBytes / 1024 / 1024} MiB are read`, {
    position: { file, line: 1 },
  });
}
