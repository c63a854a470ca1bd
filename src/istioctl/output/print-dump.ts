import { CliError } from "../cli-error.ts";
import type { CommandContext } from "../command.ts";
import { type Json, jsonText, toJsonNames, yamlText } from "./proto-json.ts";

/** By `--output`: a table, or what the table is made of. Throws CliError for another format, before either is made. */
export function printDump(
  format: string,
  context: CommandContext,
  { table, dump }: { readonly table: () => string; readonly dump: () => Json },
): void {
  switch (format) {
    case "short":
      context.out(table());
      return;
    case "json":
      context.out(jsonText(toJsonNames(dump())));
      return;
    case "yaml":
      context.out(yamlText(toJsonNames(dump())));
      return;
    default:
      throw new CliError(`output format "${format}" not supported`);
  }
}
