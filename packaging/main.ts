/**
 * `npm run package`: what a release consists of, below dist/packages.
 *
 *   --version V      other than package.json's
 *   --arch A[,A]     amd64, arm64; both
 *   --only P[,P]     deb, rpm, repositories, image, sbom; all
 *   --output DIR     dist/packages
 *
 * Run by build.mjs, which has built dist/topsail.
 */
import { linkSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { writeChecksums } from "./checksums.ts";
import { buildDeb, debLayout } from "./deb.ts";
import { type Executable, makeExecutable } from "./executable.ts";
import { buildImage } from "./image.ts";
import { makeNotices } from "./notices.ts";
import { controlPlanePackage, sidecarPackage } from "./package-definition.ts";
import { type Architecture, architectures, at, manifest, ownArchitecture } from "./project.ts";
import { makeRepositories } from "./repositories.ts";
import { buildRpm, rpmLayout } from "./rpm.ts";
import { PackagingError } from "./tools.ts";

const products = ["deb", "rpm", "repositories", "image", "sbom"] as const;
type Product = (typeof products)[number];

async function main(args: string[]): Promise<void> {
  process.umask(0o022);
  const { values } = parseArgs({
    args,
    options: {
      version: { type: "string", default: manifest.version },
      arch: { type: "string", default: architectures.join(",") },
      only: { type: "string", default: products.join(",") },
      output: { type: "string", default: at("dist", "packages") },
    },
  });
  const wanted = listOf<Product>("--only", values.only, products);
  const targets = listOf<Architecture>("--arch", values.arch, architectures);
  const { version } = values;
  if (!/^\d[A-Za-z0-9.~]*$/.test(version))
    throw new PackagingError(`--version "${version}": begins with a digit, then letters, digits, dots and ~`);
  const output = resolve(values.output);
  mkdirSync(output, { recursive: true });

  const notices = makeNotices(version);
  const executables = new Map<Architecture, Executable>();
  const packages: string[] = [];
  for (const architecture of targets) {
    if (!wanted.includes("deb") && !wanted.includes("rpm")) break;
    const executable = makeExecutable(architecture);
    executables.set(architecture, executable);
    const options = { architecture, version, notices, output };
    if (wanted.includes("deb"))
      for (const make of [sidecarPackage, controlPlanePackage]) packages.push(buildDeb(make(executable, debLayout), options));
    if (wanted.includes("rpm"))
      for (const make of [sidecarPackage, controlPlanePackage]) packages.push(buildRpm(make(executable, rpmLayout), options));
  }
  for (const file of packages) alsoAs(file);
  if (wanted.includes("sbom")) writeFileSync(join(output, "topsail.cdx.json"), notices.sbom);
  if (wanted.includes("repositories")) makeRepositories(packages, output);
  if (wanted.includes("image"))
    await buildImage({ executable: executables.get(ownArchitecture) ?? makeExecutable(ownArchitecture), version, output });
  writeChecksums(output);
  console.error(`topsail: ${output}`);
}

/** Istio's names for its files have no version: istio-sidecar.deb, istio-sidecar-arm64.deb. */
function alsoAs(file: string): void {
  const { groups } =
    /^(?<directory>.*\/)(?<name>istio-[a-z-]+?)[_-]\d.*[_.](?<architecture>amd64|arm64|x86_64|aarch64)\.(?<format>deb|rpm)$/.exec(file)!;
  const isArm = groups!.architecture === "arm64" || groups!.architecture === "aarch64";
  const link = `${groups!.directory}${groups!.name}${isArm ? "-arm64" : ""}.${groups!.format}`;
  rmSync(link, { force: true });
  linkSync(file, link);
}

function listOf<T extends string>(flag: string, text: string, known: readonly T[]): T[] {
  return text.split(",").map((part) => {
    const found = known.find((one) => one === part);
    if (!found) throw new PackagingError(`${flag}: "${part}" is none of ${known.join(", ")}`);
    return found;
  });
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  const isUsage = (error as NodeJS.ErrnoException).code?.startsWith("ERR_PARSE_ARGS");
  if (!(error instanceof PackagingError) && !isUsage) throw error;
  console.error(`topsail: ${(error as Error).message}`);
  process.exitCode = 1;
}
