/** Packages for Debian and Ubuntu, by dpkg-deb. */
import { createHash } from "node:crypto";
import { readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { copyrightText, type Notices } from "./notices.ts";
import { once } from "./once.ts";
import type { PackageDefinition } from "./package-definition.ts";
import { type Architecture, at, homepage, maintainer, sourceDate } from "./project.ts";
import { type Entry, fingerprintOf, stage } from "./stage.ts";
import { requireTools, runTool } from "./tools.ts";

export const debLayout = { units: "/lib/systemd/system", programs: "/usr/lib" };

/** This file: what it does differently makes another package. */
const recipe = readFileSync(import.meta.filename);

export interface DebOptions {
  readonly architecture: Architecture;
  readonly version: string;
  readonly notices: Notices;
  readonly output: string;
}

/** Returns the file's path. */
export function buildDeb(definition: PackageDefinition, { architecture, version, notices, output }: DebOptions): string {
  requireTools(["dpkg-deb"]);
  const directory = at("build", "packages", "stage", `${definition.name}-${architecture}`);
  const file = join(output, `${definition.name}_${version}_${architecture}.deb`);
  const content = [...definition.entries, ...documents(definition, version, notices)];
  const from = [fingerprintOf(content), JSON.stringify(definition), recipe];
  once(`${definition.name}-${architecture}.deb`, from, file, () => {
    stage([...content, ...control(definition, content, { architecture, version })], directory);
    // Debian takes gzip or xz. xz would make 33 MB of the 48, in four times the time, and in more at every installation.
    const args = ["--root-owner-group", "-Zgzip", "-z1", "--build", directory, file];
    runTool("dpkg-deb", args, { env: { SOURCE_DATE_EPOCH: sourceDate() } });
    rmSync(directory, { recursive: true });
  });
  return file;
}

function documents(definition: PackageDefinition, version: string, notices: Notices): Entry[] {
  const place = `/usr/share/doc/${definition.name}`;
  const date = new Date(Number(sourceDate()) * 1000).toUTCString().replace("GMT", "+0000");
  const changelog = `${definition.name} (${version}) stable; urgency=medium\n\n  * Release ${version}.\n\n -- ${maintainer}  ${date}\n`;
  const overrides = definition.lintianOverrides.map(({ tag, reason }) => `# ${reason}.\n${definition.name}: ${tag}\n`).join("\n");
  return [
    { path: `${place}/copyright`, kind: "text", text: copyrightText, mode: 0o644 },
    { path: `${place}/changelog.gz`, kind: "gzip", text: changelog, mode: 0o644 },
    { path: `${place}/THIRD-PARTY-NOTICES.gz`, kind: "gzip", text: notices.text, mode: 0o644 },
    { path: `${place}/sbom.cdx.json.gz`, kind: "gzip", text: notices.sbom, mode: 0o644 },
    { path: `/usr/share/lintian/overrides/${definition.name}`, kind: "text", text: overrides, mode: 0o644 },
  ];
}

function control(
  definition: PackageDefinition,
  content: readonly Entry[],
  { architecture, version }: { architecture: Architecture; version: string },
): Entry[] {
  const kilobytes = Math.ceil(content.reduce((sum, entry) => sum + contentOf(entry).length, 0) / 1024);
  const fields = [
    `Package: ${definition.name}`,
    `Version: ${version}`,
    `Architecture: ${architecture}`,
    `Maintainer: ${maintainer}`,
    `Installed-Size: ${kilobytes}`,
    `Depends: ${definition.dependencies.deb.join(", ")}`,
    "Section: net",
    "Priority: optional",
    `Homepage: ${homepage}`,
    `Description: ${definition.summary}`,
    ...definition.description.map((line) => ` ${line}`),
  ];
  const sums = content
    .filter(({ path, kind }) => kind !== "link" && kind !== "directory" && !definition.configuration.includes(path))
    .map((entry) => `${createHash("md5").update(contentOf(entry)).digest("hex")}  ${entry.path.slice(1)}`);
  const text = (name: string, body: string, mode = 0o644): Entry => ({ path: `/DEBIAN/${name}`, kind: "text", text: body, mode });
  return [
    text("control", `${fields.join("\n")}\n`),
    text("conffiles", definition.configuration.map((path) => `${path}\n`).join("")),
    text("md5sums", `${sums.join("\n")}\n`),
    ...Object.entries(definition.scripts.deb).map(([name, body]) => text(name, body, 0o755)),
  ];
}

function contentOf(entry: Entry): Uint8Array {
  switch (entry.kind) {
    case "file":
      return statSync(entry.from).isFile() ? readFileSync(entry.from) : Buffer.alloc(0);
    case "text":
      return Buffer.from(entry.text);
    case "gzip":
      return gzipSync(entry.text, { level: 9 });
    default:
      return Buffer.alloc(0);
  }
}
