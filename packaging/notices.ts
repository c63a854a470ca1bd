/** What is inside the executable: its bill of materials (CycloneDX 1.5), and the licences of all of it. */
import { createHash } from "node:crypto";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { libatomicVersion } from "./executable.ts";
import { at, manifest, ownArchitecture, sourceDate } from "./project.ts";

export interface Notices {
  /** CycloneDX as JSON. */
  readonly sbom: string;
  readonly text: string;
}

/** An npm package of which code is in the bundle. */
interface Component {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly integrity: string | undefined;
  readonly licenseText: string;
}

export const copyrightText = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: Topsail

Files: *
Copyright: 2026 Topsail contributors
License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.
Comment:
 The executable holds Node.js, its libraries, and packages from npm: their licences are in THIRD-PARTY-NOTICES.gz, their names and versions
 in sbom.cdx.json.gz.

Files: usr/lib/*/libatomic.so.1
Copyright: 2012-2022 Free Software Foundation, Inc.
License: GPL-3+ with GCC-Runtime-Library-exception-3.1
 The library is unchanged from Debian's package libatomic1, source package gcc-12.
 On Debian systems the text of the GPL is in /usr/share/common-licenses/GPL-3.
`;

export function makeNotices(version: string): Notices {
  const components = bundledPackages();
  return { sbom: sbomOf(components, version), text: noticesOf(components) };
}

/** esbuild says which files it took; types and generators are not among them. */
function bundledPackages(): Component[] {
  const { inputs } = JSON.parse(readFileSync(at("build", "bundle", "meta.json"), "utf8")) as { inputs: object };
  const folders = new Set(
    Object.keys(inputs)
      .map((input) => /^(.*node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(input)?.[1])
      .filter((folder) => folder !== undefined),
  );
  const lock = JSON.parse(readFileSync(at("package-lock.json"), "utf8")) as { packages: Record<string, { integrity?: string }> };
  return [...folders].sort().map((folder) => {
    const own = JSON.parse(readFileSync(at(folder, "package.json"), "utf8")) as { name: string; version: string; license?: string };
    const texts = globSync("{LICENSE,LICENCE,License,license,COPYING}*", { cwd: at(folder) }).sort();
    return {
      name: own.name,
      version: own.version,
      license: own.license ?? "NOASSERTION",
      integrity: lock.packages[folder]?.integrity,
      licenseText: texts.map((file) => readFileSync(join(at(folder), file), "utf8")).join("\n"),
    };
  });
}

const nodeVersion = manifest.optionalDependencies[`node-linux-${ownArchitecture === "arm64" ? "arm64" : "x64"}`]!;

function sbomOf(components: readonly Component[], version: string): string {
  const own = `pkg:generic/topsail@${version}`;
  const node = `pkg:generic/nodejs@${nodeVersion}`;
  const libatomic = `pkg:deb/debian/libatomic1@${encodeURIComponent(libatomicVersion())}`;
  const parts = [
    { type: "platform", "bom-ref": node, name: "nodejs", version: nodeVersion, licenses: [{ license: { id: "MIT" } }], purl: node },
    ...Object.entries(process.versions)
      // Empty: of a library that this Node was made without.
      .filter(([name, value]) => !["node", "modules", "napi"].includes(name) && value)
      .map(([name, value]) => ({ type: "library", "bom-ref": `${node}#${name}`, name, version: value!, description: "inside of Node.js" })),
    {
      type: "library",
      "bom-ref": libatomic,
      name: "libatomic1",
      version: libatomicVersion(),
      purl: libatomic,
      description: "beside the executable, from Debian",
      licenses: [{ expression: "GPL-3.0-or-later WITH GCC-exception-3.1" }],
    },
    ...components.map(({ name, version: own, license, integrity }) => {
      const purl = `pkg:npm/${name.replace("@", "%40")}@${own}`;
      const hash = integrity?.startsWith("sha512-") ? Buffer.from(integrity.slice(7), "base64").toString("hex") : undefined;
      return {
        type: "library",
        "bom-ref": purl,
        name,
        version: own,
        purl,
        licenses: [license.includes(" ") ? { expression: license } : { license: { id: license } }],
        ...(hash ? { hashes: [{ alg: "SHA-512", content: hash }] } : {}),
      };
    }),
  ];
  const sbom = {
    bomFormat: "CycloneDX",
    specVersion: "1.5",
    serialNumber: `urn:uuid:${uuidOf(JSON.stringify(parts))}`,
    version: 1,
    metadata: {
      timestamp: new Date(Number(sourceDate()) * 1000).toISOString(),
      component: {
        type: "application",
        "bom-ref": own,
        name: "topsail",
        version,
        purl: own,
        licenses: [{ license: { id: "Apache-2.0" } }],
      },
    },
    components: parts,
    dependencies: [{ ref: own, dependsOn: parts.map((part) => part["bom-ref"]) }],
  };
  return `${JSON.stringify(sbom, null, 2)}\n`;
}

/** The same content has the same number. */
function uuidOf(text: string): string {
  const hex = createHash("sha256").update(text).digest("hex");
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-5${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

function noticesOf(components: readonly Component[]): string {
  const node = readFileSync(globSync("node_modules/node-linux-*/LICENSE", { cwd: at() }).map((file) => at(file))[0]!, "utf8");
  const rule = "=".repeat(80);
  const each = components.map(
    ({ name, version, license, licenseText }) => `${rule}\n${name} ${version} (${license})\n${rule}\n${licenseText.trim()}\n`,
  );
  return `${rule}\nNode.js ${nodeVersion} and its libraries\n${rule}\n${node.trim()}\n${each.join("")}`;
}
