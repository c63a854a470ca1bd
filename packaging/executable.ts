/**
 * The executable for each architecture, with a place of its own for the one library that a small machine lacks.
 *
 * Node needs libatomic.so.1, which neither Debian nor RHEL installs by itself; a package that depended on it could not be installed by
 * `dpkg -i` alone, as Istio's can. So the library lies beside the executable, which looks there first.
 */
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  existsSync,
  globSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { once } from "./once.ts";
import { type Architecture, at, manifest, ownArchitecture } from "./project.ts";
import { PackagingError, requireTools, runTool } from "./tools.ts";

export interface Executable {
  readonly path: string;
  readonly libatomic: string;
  /** Root directory with the C and C++ libraries of the architecture. */
  readonly sysroot: string;
}

/** Debian's oldest release that we test on: its libraries need no newer C library than Node does. */
const suite = "bookworm";
const libraries = ["libatomic1", "libstdc++6"];

export function makeExecutable(architecture: Architecture): Executable {
  const sysroot = makeSysroot(architecture);
  const library = globSync("usr/lib/*/libatomic.so.1", { cwd: sysroot })[0];
  if (!library) throw new PackagingError(`no libatomic.so.1 in ${sysroot}`);
  const source = architecture === ownArchitecture ? at("dist", "topsail") : crossBuild(architecture);
  const path = at("build", "packages", `topsail-${architecture}`);
  requireTools(["patchelf"]);
  once(`topsail-${architecture}`, [fingerprint(source)], path, () => {
    const working = `${path}.new`;
    copyFileSync(source, working);
    runTool("patchelf", ["--set-rpath", "$ORIGIN", working]);
    checkStarts(architecture, working, sysroot);
    renameSync(working, path);
  });
  return { path, libatomic: join(sysroot, library), sysroot };
}

/** Debian's, of the library beside the executable. */
export function libatomicVersion(): string {
  const changelog = join(makeSysroot(ownArchitecture), "usr/share/doc/gcc-12-base/changelog.Debian.gz");
  return /^gcc-12 \((?<version>[^)]+)\)/.exec(gunzipSync(readFileSync(changelog)).toString())!.groups!.version!;
}

/** An executable that does not start is no package's content. Another architecture's runs under qemu. */
function checkStarts(architecture: Architecture, path: string, sysroot: string): void {
  const version = architecture === ownArchitecture ? runTool(path, ["version"]) : runEmulated(architecture, path, ["version"], sysroot);
  if (!version.startsWith(`topsail ${manifest.version}`)) throw new PackagingError(`${path} says "${version.trim()}"`);
}

export function runEmulated(architecture: Architecture, path: string, args: readonly string[], sysroot: string): string {
  const emulator = `qemu-${architecture === "arm64" ? "aarch64" : "x86_64"}-static`;
  requireTools([emulator]);
  return runTool(emulator, ["-L", sysroot, path, ...args]);
}

function makeSysroot(architecture: Architecture): string {
  const path = at("build", "packages", `sysroot-${architecture}`);
  once(`sysroot-${architecture}`, [suite, ...libraries], path, () => {
    requireTools(["mmdebstrap"]);
    // Unpacked, not installed: nothing of it is run, so any machine can do it for any architecture.
    const packages = `--include=${libraries.join(",")}`;
    runTool("mmdebstrap", ["--quiet", "--variant=extract", `--architectures=${architecture}`, packages, suite, path]);
  });
  return path;
}

/** Injects the same bundles into the other architecture's Node. Cached code is of the machine that made it, so there is none. */
function crossBuild(architecture: Architecture): string {
  const cpu = architecture === "arm64" ? "arm64" : "x64";
  const output = at("build", "packages", `cross-${architecture}`);
  const own = JSON.parse(readFileSync(at("build", "sea.json"), "utf8")) as { main: string; assets: Record<string, string> };
  const texts = Object.entries(own.assets).filter(([name]) => !name.endsWith(".cache"));
  once(
    `cross-${architecture}`,
    [
      manifest.optionalDependencies[`node-linux-${cpu}`]!,
      ...[own.main, ...texts.map(([, file]) => file)].map((file) => readFileSync(file)),
    ],
    output,
    () => {
      const settings = `${output}.json`;
      const sea = { ...own, executable: fetchNode(cpu), output, useCodeCache: false, assets: Object.fromEntries(texts) };
      writeFileSync(settings, JSON.stringify(sea));
      runTool(process.execPath, ["--build-sea", settings]);
      chmodSync(output, 0o755);
    },
  );
  return output;
}

/** npm installs only the Node of its own machine; the other comes by name, and must be what package-lock.json says. */
function fetchNode(cpu: "arm64" | "x64"): string {
  const name = `node-linux-${cpu}`;
  const installed = at("node_modules", name, "bin", "node");
  const directory = at("build", "packages", name);
  const node = join(directory, "package", "bin", "node");
  if (existsSync(installed)) {
    mkdirSync(join(directory, "package", "bin"), { recursive: true });
    copyFileSync(installed, node);
  } else {
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(directory, { recursive: true });
    const lock = JSON.parse(readFileSync(at("package-lock.json"), "utf8")) as {
      packages: Record<string, { version: string; integrity: string }>;
    };
    const { version, integrity } = lock.packages[`node_modules/${name}`]!;
    runTool("npm", ["pack", `${name}@${version}`, "--silent", "--pack-destination", directory]);
    const archive = join(directory, `${name}-${version}.tgz`);
    const actual = `sha512-${createHash("sha512").update(readFileSync(archive)).digest("base64")}`;
    if (actual !== integrity) throw new PackagingError(`${name}@${version} is not what package-lock.json says: ${actual}`);
    runTool("tar", ["-xzf", archive, "-C", directory, "package/bin/node"]);
    rmSync(archive);
  }
  const strip = cpu === "arm64" ? "aarch64-linux-gnu-strip" : "strip";
  requireTools([strip]);
  runTool(strip, [node]);
  return node;
}

/** Of a large file: it is replaced as a whole or not at all. */
function fingerprint(file: string): string {
  const { size, mtimeMs, ino } = statSync(file);
  return `${size} ${mtimeMs} ${ino}`;
}
