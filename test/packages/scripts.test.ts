/** The packages' scripts where no systemd runs, on machines that their administrators have arranged otherwise. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { machinesProblem } from "../support/machine.ts";
import { buildPackages, packagesDirectory, packagingProblem } from "../support/packages.ts";
import { RootDirectory } from "../support/root-directory.ts";

const problem = machinesProblem() ?? packagingProblem();
if (problem) process.stderr.write(`scripts of packages: skipped: ${problem}\n`);

describe.skipIf(problem !== undefined)("scripts of packages", { timeout: 120_000 }, () => {
  let machine: RootDirectory;
  const dpkg = (...words: string[]) => machine.sh(`dpkg ${words.join(" ")}`);

  beforeEach(async () => {
    await buildPackages(["--arch", process.arch === "arm64" ? "arm64" : "amd64", "--only", "deb"]);
    machine = await RootDirectory.make();
    machine.show(packagesDirectory, "/packages");
  }, 400_000);
  afterEach(() => machine?.[Symbol.dispose]());

  it("install, and leave nothing behind when they are purged", () => {
    const left = "find / -xdev ! -type d \\( -path '*istio*' -o -path '/etc/certs/*' \\) ! -path '/proc/*' ! -path '/packages/*'";
    const before = machine.sh(left).stdout;
    const files = ["istio-sidecar", "istio-control-plane"].map((name) => `/packages/${name}.deb`);
    expect(dpkg("--install", ...files)).toMatchObject({ code: 0 });
    expect(dpkg("--verify")).toMatchObject({ code: 0, stdout: "" });
    machine.sh("echo key > /etc/certs/key.pem; echo key > /var/lib/istiod/key; echo state > /var/lib/istio-gateway/state");
    expect(dpkg("--purge", "istio-sidecar", "istio-control-plane")).toMatchObject({ code: 0 });
    expect(machine.sh(left).stdout).toBe(before);
  });

  it("purge what is on another file system, or behind a link, and leave these", () => {
    expect(
      machine.sh(`
        mkdir -p /var/lib/istio /var/lib/istiod /srv/gateways
        ln -s /srv/gateways /var/lib/istio-gateway
        for place in /var/lib/istio /var/lib/istiod; do mount -t tmpfs none $place; done
        trap 'umount /var/lib/istio /var/lib/istiod' EXIT
        dpkg --install /packages/istio-sidecar.deb /packages/istio-control-plane.deb >&2
        for place in /var/lib/istio /var/lib/istiod /var/lib/istio-gateway; do mkdir -p $place/deep; echo secret > $place/deep/token; done
        dpkg --purge istio-sidecar istio-control-plane >&2
        readlink /var/lib/istio-gateway
        find /var/lib/istio /var/lib/istiod /srv/gateways`),
    ).toMatchObject({ code: 0, stdout: "/srv/gateways\n/var/lib/istio\n/var/lib/istiod\n/srv/gateways\n" });
  });
});
