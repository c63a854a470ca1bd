/** Packages for RHEL, Fedora and SUSE, by rpmbuild, which also finds out which C libraries they need. */
import { globSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Notices } from "./notices.ts";
import { once } from "./once.ts";
import type { PackageDefinition } from "./package-definition.ts";
import { type Architecture, at, homepage, maintainer, sourceDate } from "./project.ts";
import { type Entry, fingerprintOf, stage } from "./stage.ts";
import { requireTools, runTool } from "./tools.ts";

export const rpmLayout = { units: "/usr/lib/systemd/system", programs: "/usr/libexec" };

const machineOf: Readonly<Record<Architecture, string>> = { amd64: "x86_64", arm64: "aarch64" };

/** This file: what it does differently makes another package. */
const recipe = readFileSync(import.meta.filename);

export interface RpmOptions {
  readonly architecture: Architecture;
  readonly version: string;
  readonly notices: Notices;
  readonly output: string;
}

/** Returns the file's path. */
export function buildRpm(definition: PackageDefinition, { architecture, version, notices, output }: RpmOptions): string {
  requireTools(["rpmbuild"]);
  const directory = at("build", "packages", "stage", `${definition.name}-${machineOf[architecture]}`);
  const place = `/usr/share/doc/${definition.name}`;
  const entries: Entry[] = [
    ...definition.entries,
    { path: `${place}/THIRD-PARTY-NOTICES.gz`, kind: "gzip", text: notices.text, mode: 0o644 },
    { path: `${place}/sbom.cdx.json.gz`, kind: "gzip", text: notices.sbom, mode: 0o644 },
  ];
  const file = join(output, `${definition.name}-${version}-1.${machineOf[architecture]}.rpm`);
  once(`${definition.name}-${architecture}.rpm`, [fingerprintOf(entries), JSON.stringify(definition), version, recipe], file, () => {
    const content = join(directory, "content");
    const top = join(directory, "rpmbuild");
    const spec = join(directory, `${definition.name}.spec`);
    stage(entries, content);
    mkdirSync(join(top, "tmp"), { recursive: true });
    writeFileSync(spec, specOf(definition, entries, version, content));
    // The same source, by whomever and whenever it is built, is the same package, but for its signature.
    const always = { clamp_mtime_to_source_date_epoch: "1", use_source_date_epoch_as_buildtime: "1", _buildhost: "localhost" };
    const defines = { _topdir: top, _tmppath: join(top, "tmp"), ...always };
    const args = Object.entries(defines).flatMap(([name, value]) => ["--define", `${name} ${value}`]);
    runTool("rpmbuild", ["-bb", "--quiet", "--target", machineOf[architecture], ...args, spec], {
      env: { SOURCE_DATE_EPOCH: sourceDate() },
    });
    renameSync(join(top, globSync("RPMS/*/*.rpm", { cwd: top })[0]!), file);
    rmSync(directory, { recursive: true });
  });
  return file;
}

function specOf(definition: PackageDefinition, entries: readonly Entry[], version: string, content: string): string {
  const scripts = Object.entries(definition.scripts.rpm).map(([name, body]) => `%${name}\n${body}`);
  const files = entries.map((entry) => {
    const marks = [
      ...(definition.configuration.includes(entry.path) ? ["%config(noreplace)"] : []),
      ...(entry.kind === "directory" ? ["%dir"] : []),
      ...(entry.path.startsWith("/usr/share/doc/") ? ["%doc"] : []),
    ];
    return `${["%attr(-,root,root)", ...marks, entry.path].join(" ")}\n`;
  });
  return `# Put together by packaging/rpm.ts.
%global debug_package %{nil}
%global __strip /bin/true
%global __os_install_post %{nil}
%global _build_id_links none
%global _binary_payload w3.zstdio
# It comes with the package, and is for nobody else.
%global __requires_exclude ^libatomic\\\\.so
%global __provides_exclude ^libatomic\\\\.so

Name: ${definition.name}
Version: ${version}
Release: 1
Summary: ${definition.summary}
License: Apache-2.0 AND MIT AND GPL-3.0-or-later WITH GCC-exception-3.1
Vendor: Topsail
Packager: ${maintainer}
URL: ${homepage}
${definition.dependencies.rpm.map((name) => `Requires: ${name}\nRequires(post): ${name}\n`).join("")}
%description
${definition.description.join("\n")}

%install
mkdir -p %{buildroot}
cp -a ${content}/. %{buildroot}/

%files
${files.join("")}
${scripts.join("\n")}`;
}
