/** All of `npm run package`: what comes out is taken apart, checked by the tools of those who will use it, and run. */
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type DnfOptions, dnf, dnfProblem } from "../support/dnf.ts";
import { machinesProblem } from "../support/machine.ts";
import { OciImage } from "../support/oci-image.ts";
import { buildPackages, packagesDirectory, packagingProblem } from "../support/packages.ts";
import { freePortRow } from "../support/ports.ts";
import { RootDirectory } from "../support/root-directory.ts";

const root = join(import.meta.dirname, "..", "..");
const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
const problem = machinesProblem() ?? packagingProblem() ?? (process.arch === "x64" ? undefined : "makes what runs here on x64 alone");
if (problem) process.stderr.write(`packages of a release: skipped: ${problem}\n`);
const noDnf = problem ?? dnfProblem();
if (noDnf && !problem) process.stderr.write(`packages by dnf: skipped: ${noDnf}\n`);

const has = (tool: string) => spawnSync("sh", ["-c", `command -v ${tool}`]).status === 0;
const file = (name: string) => join(packagesDirectory, name);
const output = (command: string, ...args: string[]) =>
  execFileSync(command, args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], maxBuffer: 1 << 28 });

describe.skipIf(problem !== undefined)("packages of a release", { timeout: 300_000 }, () => {
  let directory: string;

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "release-"));
    await buildPackages([]);
  }, 900_000);

  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  it("are there for both architectures, by Istio's names too, none larger than 60 MB, and all sums are right", () => {
    const names = ["istio-sidecar", "istio-control-plane"].flatMap((name) => [
      ...[`${name}.deb`, `${name}-arm64.deb`, `${name}.rpm`, `${name}-arm64.rpm`],
      ...[
        `${name}_${version}_amd64.deb`,
        `${name}_${version}_arm64.deb`,
        `${name}-${version}-1.x86_64.rpm`,
        `${name}-${version}-1.aarch64.rpm`,
      ],
    ]);
    for (const name of names) expect(statSync(file(name)).size, name).toBeLessThan(60_000_000);
    execFileSync("sha256sum", ["--check", "--quiet", "--strict", "SHA256SUMS"], { cwd: packagesDirectory });
  });

  it.runIf(has("lintian"))("have no error that lintian knows", () => {
    const { stdout, status } = spawnSync("lintian", ["--fail-on", "error", file("istio-sidecar.deb"), file("istio-control-plane.deb")], {
      encoding: "utf8",
    });
    expect(stdout.split("\n").filter((line) => /^[EW]:/.test(line))).toEqual([]);
    expect(status).toBe(0);
  });

  it("have an executable for arm64 that starts", () => {
    expect(output("dpkg-deb", "--field", file("istio-sidecar-arm64.deb"), "Architecture").trim()).toBe("arm64");
    output("dpkg-deb", "--extract", file("istio-sidecar-arm64.deb"), join(directory, "arm64"));
    const program = join(directory, "arm64/usr/lib/istio-sidecar/topsail");
    expect(output("file", "--brief", program)).toContain("ARM aarch64");
    const sysroot = join(root, "build", "packages", "sysroot-arm64");
    expect(output("qemu-aarch64-static", "-L", sysroot, program, "version")).toMatch(new RegExp(`^topsail ${version} `));
  });

  describe("for rpm", () => {
    let into: RootDirectory;
    const rpm = (...args: string[]) => output("rpm", "--root", into.path, ...args);

    beforeAll(async () => {
      into = await RootDirectory.make();
    });
    afterAll(() => into?.[Symbol.dispose]());

    it("are signed by the repository's key", () => {
      rpm("--import", file("rpm/topsail.asc"));
      for (const name of ["istio-sidecar.rpm", "istio-control-plane-arm64.rpm"])
        expect(rpm("--checksig", file(name))).toContain("digests signatures OK");
    });

    it("say nothing of when and where they were built but the time of their source", () => {
      const built = output("rpm", "--query", "--queryformat", "%{BUILDTIME} %{BUILDHOST}", "--package", file("istio-sidecar.rpm"));
      expect(built).toBe(`${output("git", "-C", root, "log", "-1", "--format=%ct").trim()} localhost`);
    });

    it("need what RHEL 8 has, and no library that it has not", () => {
      const requirements = output("rpm", "--query", "--requires", "--package", file("istio-sidecar.rpm"));
      expect(requirements).toContain("libc.so.6(GLIBC_2.28)(64bit)");
      expect(requirements).not.toMatch(/GLIBC_2\.(29|3\d)|libatomic/);
    });

    it("install, and their scripts make user and places", () => {
      // The database knows nothing of what Debian's own packages brought.
      rpm("--install", "--nodeps", file("istio-sidecar.rpm"), file("istio-control-plane.rpm"));
      const { stdout } = into.sh(`
        readlink /etc/istio; stat -c '%U %a' /etc/certs /var/lib/istiod; stat -c '%U:%G %a' /etc/istiod/config
        pilot-agent version; istioctl --help | grep -c Usage; istiod --help | head -1`);
      expect(stdout.trim().split("\n")).toEqual([
        "/var/lib/istio",
        "istio-proxy 755",
        "istiod 700",
        "root:istiod 750",
        version,
        "1",
        expect.stringContaining("Usage: topsail istiod"),
      ]);
    });

    it("keep settings when they are removed, and are enabled no longer", () => {
      into.sh("echo A=1 >> /var/lib/istio/envoy/sidecar.env; systemctl enable istio istio-gateway@ingress istio-control-plane");
      rpm("--erase", "istio-sidecar", "istio-control-plane");
      // Installed again, they would start at the next boot.
      expect(into.sh("find /etc/systemd/system -name 'istio*'").stdout).toBe("");
      expect(
        into.sh("[ ! -e /usr/local/bin/pilot-agent ]; [ ! -L /etc/istio ]; grep -h A=1 /var/lib/istio/envoy/sidecar.env*").stdout,
      ).toContain("A=1");
    });

    it("are in a repository whose metadata is signed", () => {
      const keyring = join(directory, "keyring.gpg");
      output("gpg", "--batch", "--yes", "--dearmor", "--output", keyring, file("rpm/topsail.asc"));
      const metadata = file("rpm/repodata/repomd.xml");
      const verified = spawnSync("gpgv", ["--keyring", keyring, `${metadata}.asc`, metadata], { encoding: "utf8" });
      expect(verified.stderr).toContain("Good signature");
      expect(readFileSync(metadata, "utf8")).toContain('<data type="primary">');
    });
  });

  describe.skipIf(noDnf !== undefined)("for dnf", () => {
    const sidecar = `istio-sidecar-${version}-1.x86_64.rpm`;
    const inside = (name: string) => join(directory, "dnf", name);
    /** The repository with the sidecar alone, to be tampered with. */
    const copied = (name: string) => {
      const copy = inside(name);
      mkdirSync(copy, { recursive: true });
      cpSync(file("rpm/repodata"), join(copy, "repodata"), { recursive: true });
      for (const one of [sidecar, "topsail.asc"]) cpSync(file(`rpm/${one}`), join(copy, one));
      return copy;
    };
    const damage = (rpm: string) => {
      const bytes = readFileSync(rpm);
      bytes[bytes.length - 1000]! ^= 1;
      writeFileSync(rpm, bytes);
    };
    /** What dnf says when it installs nothing. */
    const refusal = async (repository: string, options: Partial<DnfOptions> = {}) => {
      using into = await RootDirectory.make();
      // It keeps what it has seen of a repository.
      rmSync(`${repository}.dnf`, { recursive: true, force: true });
      const { code, stdout, stderr } = dnf(
        { directory: `${repository}.dnf`, root: into.path, repository, ...options },
        "install",
        "istio-sidecar",
      );
      expect(code).not.toBe(0);
      expect(spawnSync("rpm", ["--root", into.path, "--query", "istio-sidecar"]).status).not.toBe(0);
      expect(into.sh("[ ! -e /usr/local/bin/pilot-agent ]").code).toBe(0);
      return stdout + stderr;
    };

    it("are in a repository from which it installs, checking metadata and packages by the key that lies beside them", async () => {
      using into = await RootDirectory.make();
      const options = { directory: inside("good"), root: into.path, repository: file("rpm") };
      expect(dnf(options, "install", "istio-sidecar", "istio-control-plane")).toMatchObject({ code: 0 });
      expect(into.sh("pilot-agent version; readlink /etc/istio; stat -c %U /etc/certs").stdout).toBe(
        `${version}\n/var/lib/istio\nistio-proxy\n`,
      );
      const query = output("rpm", "--root", into.path, "--query", "istio-sidecar", "gpg-pubkey");
      expect(query).toMatch(new RegExp(`^istio-sidecar-${version}-1\\.x86_64\ngpg-pubkey-`));
      expect(dnf(options, "remove", "istio-sidecar")).toMatchObject({ code: 0 });
      expect(into.sh("[ ! -e /usr/local/bin/pilot-agent ]").code).toBe(0);
    });

    it("are refused when a package is not what the metadata says", async () => {
      const repository = copied("other-package");
      damage(join(repository, sidecar));
      expect(await refusal(repository)).toContain("has incorrect checksum");
    });

    it("are refused when the metadata is another's", async () => {
      const repository = copied("other-metadata");
      damage(join(repository, sidecar));
      const signature = readFileSync(join(repository, "repodata/repomd.xml.asc"));
      output("createrepo_c", "--quiet", "--general-compress-type=gz", repository);
      writeFileSync(join(repository, "repodata/repomd.xml.asc"), signature);
      expect(await refusal(repository)).toMatch(/GPG verification|repomd\.xml GPG signature verification error/);
      rmSync(join(repository, "repodata/repomd.xml.asc"));
      expect(await refusal(repository)).toContain("repomd.xml.asc");
    });

    it("are refused by their own signature where nobody asks for the metadata's", async () => {
      const repository = copied("unsigned");
      damage(join(repository, sidecar));
      output("createrepo_c", "--quiet", "--general-compress-type=gz", repository);
      expect(await refusal(repository, { checksMetadata: false })).toMatch(/GPG check FAILED|digest/i);
      cpSync(file(`rpm/${sidecar}`), join(repository, sidecar));
      output("rpmsign", "--delsign", join(repository, sidecar));
      output("createrepo_c", "--quiet", "--general-compress-type=gz", repository);
      expect(await refusal(repository, { checksMetadata: false })).toContain("is not signed");
    });
  });

  it("are in a repository from which apt installs what is signed, and nothing else", async () => {
    using machine = await RootDirectory.make();
    machine.show(file("apt"), "/repository");
    const source = "deb [signed-by=/repository/topsail.asc] file:/repository stable main";
    const only = "-o Dir::Etc::SourceList=/etc/apt/topsail.list -o Dir::Etc::SourceParts=-";
    const installed = machine.sh(`
      echo '${source}' > /etc/apt/topsail.list
      apt-get -qq ${only} update
      apt-get -qq ${only} install -y istio-sidecar istio-control-plane >&2
      pilot-agent version`);
    expect(installed).toMatchObject({ code: 0, stdout: `${version}\n` });
    const foreign = machine.sh(`
      echo '${source.replace("/repository/topsail.asc", "/usr/share/keyrings/debian-archive-keyring.gpg")}' > /etc/apt/topsail.list
      rm -rf /var/lib/apt/lists/*
      apt-get -qq ${only} update`);
    expect(foreign.code).not.toBe(0);
    expect(foreign.stderr).toContain("signature");
  });

  it.each([
    ["the image's user", undefined],
    ["a user whom it does not know, of root's group", "1000650000:0"],
  ])("are images too, which run as %s with a root that can't be written", async (_, user) => {
    const archive = file(`topsail-images_${version}_amd64.tar`);
    const port = await freePortRow(3);
    using image = OciImage.unpack(archive, `topsail/control-plane:${version}`);
    expect(image.config.config).toMatchObject({ User: "1337:1337", Entrypoint: ["/usr/local/bin/istiod"] });
    const addresses = [
      "--grpcAddr",
      `127.0.0.1:${port}`,
      "--monitoringAddr",
      `127.0.0.1:${port + 1}`,
      "--secureGRPCAddr",
      `127.0.0.1:${port + 2}`,
    ];
    const container = image.run([...image.config.config.Cmd, ...addresses], user);
    let said = "";
    for (const stream of [container.stdout!, container.stderr!]) stream.on("data", (chunk) => (said += chunk));
    const ended = new Promise<number | null>((resolve) => container.once("exit", resolve));
    const ready = () =>
      fetch(`http://127.0.0.1:${port + 1}/ready`).then(
        ({ status }) => status,
        () => said,
      );
    await expect.poll(ready, { timeout: 30_000 }).toBe(200);
    container.kill("SIGTERM");
    expect(await ended, said).toBe(0);

    using gateway = OciImage.unpack(archive, `topsail/gateway:${version}`);
    expect(gateway.config.config.Cmd).toEqual(["proxy", "router"]);
    const agent = gateway.run(undefined, user);
    let text = "";
    for (const stream of [agent.stdout!, agent.stderr!]) stream.on("data", (chunk) => (text += chunk));
    // It has made its sockets, and has nobody to call.
    await expect.poll(() => text, { timeout: 30_000 }).toContain("no root certificate to know the control plane by");
    const gone = new Promise<number | null>((resolve) => agent.once("exit", resolve));
    agent.kill("SIGTERM");
    expect(await gone, text).toBe(0);
  });

  it("say what is inside of the executable", () => {
    const sbom = JSON.parse(readFileSync(file("topsail.cdx.json"), "utf8")) as {
      components: { name: string; version: string; licenses?: unknown[]; purl?: string }[];
    };
    const { dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { dependencies: Record<string, string> };
    const packages = sbom.components.filter(({ purl }) => purl?.startsWith("pkg:npm/"));
    for (const [name, wanted] of Object.entries(dependencies))
      expect(packages).toContainEqual(expect.objectContaining({ name, version: wanted }));
    expect(packages.map(({ name }) => name)).not.toContain("typescript");
    expect(packages.every(({ licenses }) => licenses?.length === 1)).toBe(true);
    expect(sbom.components.filter(({ version: known }) => !known)).toEqual([]);
    expect(sbom.components.map(({ name }) => name)).toEqual(expect.arrayContaining(["nodejs", "openssl", "v8", "libatomic1"]));
    expect(globSync("**/THIRD-PARTY-NOTICES.gz", { cwd: join(directory, "arm64") })).toHaveLength(1);
  });
});
