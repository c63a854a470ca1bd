/** What a program of Istio's says of its build, with Istio's names, so that scripts that read them go on working. */
import { revision, version } from "../../lib/version.ts";

export interface BuildInfo {
  readonly version: string;
  readonly revision: string;
  /** Of no use here: names the runtime. */
  readonly golang_version: string;
  readonly status: string;
  readonly tag: string;
}

export const clientBuild: BuildInfo = { version, revision, golang_version: `node ${process.version}`, status: "Clean", tag: version };

/** From `VERSION-REVISION-STATUS`, which /version answers; a version may itself have a dash. */
export function parseBuildInfo(text: string): BuildInfo {
  const {
    version = text.trim(),
    revision = "",
    status = "",
  } = /^(?<version>.+)-(?<revision>[^-]+)-(?<status>[^-]+)$/s.exec(text.trim())?.groups ?? {};
  return { version, revision, golang_version: "", status, tag: version };
}

/** As Go dumps it. */
export function longForm({ version, revision, golang_version, status, tag }: BuildInfo): string {
  const fields = { Version: version, GitRevision: revision, GolangVersion: golang_version, BuildStatus: status, GitTag: tag };
  return `version.BuildInfo{${Object.entries(fields)
    .map(([name, value]) => `${name}:${JSON.stringify(value)}`)
    .join(", ")}}`;
}
