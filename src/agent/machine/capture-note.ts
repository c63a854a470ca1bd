/** That it was this machine's service that captured traffic, and not its user by hand. Goes with a reboot, as the rules do. */
import { existsSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname } from "node:path";

const file = "/run/istio/captured-by-service";

export async function noteCapture(): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o755 });
  await writeFile(file, "");
}

export async function forgetCapture(): Promise<void> {
  await rm(file, { force: true });
}

export function isCaptureNoted(): boolean {
  return existsSync(file);
}
