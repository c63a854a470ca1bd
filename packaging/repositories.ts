/**
 * Directories that a web server can hand out as they are: apt/ for Debian and Ubuntu, rpm/ for dnf and zypper, both signed.
 *
 *   deb [signed-by=/etc/apt/keyrings/topsail.asc] https://packages.example.com/apt stable main
 *   baseurl=https://packages.example.com/rpm  gpgcheck=1  repo_gpgcheck=1  gpgkey=https://packages.example.com/rpm/topsail.asc
 */
import { linkSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { gzipSync } from "node:zlib";
import { architectures } from "./project.ts";
import { SigningKey } from "./signing-key.ts";
import { PackagingError, requireTools, runTool } from "./tools.ts";

/** From packages that were just built, in that directory. */
export function makeRepositories(packages: readonly string[], output: string): void {
  if (packages.length === 0) throw new PackagingError("--only repositories: there is nothing to put into them without deb or rpm");
  using key = SigningKey.load();
  makeAptRepository(
    packages.filter((file) => file.endsWith(".deb")),
    join(output, "apt"),
    key,
  );
  makeRpmRepository(
    packages.filter((file) => file.endsWith(".rpm")),
    join(output, "rpm"),
    key,
  );
}

function makeAptRepository(packages: readonly string[], directory: string, key: SigningKey): void {
  if (packages.length === 0) return;
  requireTools(["apt-ftparchive"]);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(join(directory, "pool"), { recursive: true });
  for (const file of packages) linkSync(file, join(directory, "pool", basename(file)));
  for (const architecture of architectures) {
    const index = join(directory, "dists", "stable", "main", `binary-${architecture}`);
    mkdirSync(index, { recursive: true });
    const text = runTool("apt-ftparchive", [`--arch=${architecture}`, "packages", "pool"], { cwd: directory });
    writeFileSync(join(index, "Packages"), text);
    writeFileSync(join(index, "Packages.gz"), gzipSync(text, { level: 9 }));
  }
  const settings = {
    Origin: "Topsail",
    Label: "Topsail",
    Suite: "stable",
    Codename: "stable",
    Architectures: architectures.join(" "),
    Components: "main",
  };
  const options = Object.entries(settings).flatMap(([name, value]) => ["-o", `APT::FTPArchive::Release::${name}=${value}`]);
  const dist = join(directory, "dists", "stable");
  const release = runTool("apt-ftparchive", [...options, "release", dist]);
  writeFileSync(join(dist, "Release"), release);
  key.clearSign(join(dist, "Release"), join(dist, "InRelease"));
  key.detachSign(join(dist, "Release"), join(dist, "Release.gpg"));
  writeFileSync(join(directory, "topsail.asc"), key.publicKey);
}

function makeRpmRepository(packages: readonly string[], directory: string, key: SigningKey): void {
  if (packages.length === 0) return;
  requireTools(["createrepo_c", "rpmsign"]);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  // The packages themselves are signed too, in place: the files beside the repository are the same ones.
  const gpg = runTool("sh", ["-c", "command -v gpg"]).trim();
  const define = (name: string, value: string) => ["--define", `${name} ${value}`];
  runTool("rpmsign", [
    ...define("_gpg_name", key.fingerprint),
    ...define("_gpg_path", key.home),
    ...define("__gpg", gpg),
    "--addsign",
    ...packages,
  ]);
  for (const file of packages) linkSync(file, join(directory, basename(file)));
  runTool("createrepo_c", ["--quiet", "--general-compress-type=gz", directory]);
  const metadata = join(directory, "repodata", "repomd.xml");
  key.detachSign(metadata, `${metadata}.asc`);
  writeFileSync(join(directory, "topsail.asc"), key.publicKey);
}
