import { CliError } from "../cli-error.ts";

/** Reads a flag as Go does: by itself it is true. */
export function parseBoolean(flag: string): (text: string) => boolean {
  return (text) => {
    if (/^(?:true|1|t)$/i.test(text)) return true;
    if (/^(?:false|0|f)$/i.test(text)) return false;
    throw new CliError(`${flag} must be true or false, not ${JSON.stringify(text)}`, { exitCode: 64 });
  };
}
