/** How this executable is called once more, as a process of its own; its program and arguments follow. */
import { isSea } from "node:sea";
import { fileURLToPath } from "node:url";

export function ownCommand(): string[] {
  // What Node was started with is part of the executable; as arguments, the words would be Topsail's.
  if (isSea()) return [process.execPath];
  return [process.execPath, "--disable-warning=ExperimentalWarning", fileURLToPath(new URL("../main.ts", import.meta.url))];
}
