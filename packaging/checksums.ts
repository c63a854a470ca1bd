/** SHA256SUMS over all that is handed out, as `sha256sum --check` reads it. */
import { createHash } from "node:crypto";
import { globSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export function writeChecksums(directory: string): void {
  const files = globSync("**/*", { cwd: directory })
    .filter((file) => file !== "SHA256SUMS" && statSync(join(directory, file)).isFile())
    .sort();
  const seen = new Map<number, string>();
  const lines = files.map((file) => {
    const { ino } = statSync(join(directory, file));
    const sum =
      seen.get(ino) ??
      createHash("sha256")
        .update(readFileSync(join(directory, file)))
        .digest("hex");
    seen.set(ino, sum);
    return `${sum}  ${file}\n`;
  });
  writeFileSync(join(directory, "SHA256SUMS"), lines.join(""));
}
