/**
 * A workload on a virtual machine joins a mesh, on machines with a real systemd and the packages that users get, by the steps of Istio's
 * guide. Bookinfo without its ratings runs on machines that joined by one command each; ratings comes by hand.
 *
 *   browser ──> control: ingress gateway ──> productpage ──> details
 *                        east-west gateway        └──> reviews ──> ratings
 *                        control plane <── by the east-west gateway alone ── all machines
 */
import { execFile, spawn } from "node:child_process";
import { createPrivateKey, X509Certificate } from "node:crypto";
import { chmodSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fakeClockLibrary } from "../support/fake-clock.ts";
import { type Machine, MachineNetwork, machinesProblem } from "../support/machine.ts";
import { buildPackages, install, packagingProblem } from "../support/packages.ts";
import { binary } from "../support/topsail.ts";

const run = promisify(execFile);
const kubectlProblem = await run("kubectl", ["version", "--client"]).then(
  () => undefined,
  () => "no kubectl",
);
const problem = machinesProblem() ?? packagingProblem() ?? kubectlProblem;
if (problem) process.stderr.write(`lab of virtual machines: skipped: ${problem}\n`);

const applications = [
  { name: "details", version: "v1", last: 21 },
  { name: "reviews", version: "v2", last: 22 },
  { name: "productpage", version: "v1", last: 23 },
] as const;
const ratingsLast = 24;
const movedLast = 34;
const clock = problem === undefined ? fakeClockLibrary() : undefined;

const bookinfo = ["details", "reviews", "productpage", "ratings"]
  .map(
    (name) => `
apiVersion: v1
kind: ServiceAccount
metadata: {name: bookinfo-${name}}
---
apiVersion: v1
kind: Service
metadata: {name: ${name}, labels: {app: ${name}}}
spec: {selector: {app: ${name}}, ports: [{name: http, port: 9080}]}
---`,
  )
  .join("");

const groupOf = (name: string, version?: string) => `
apiVersion: networking.istio.io/v1
kind: WorkloadGroup
metadata: {name: ${name}, namespace: default}
spec:
  metadata: {labels: {app: ${name}${version ? `, version: ${version}` : ""}}}
  template: {serviceAccount: bookinfo-${name}}
---`;

const ingress = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: bookinfo, namespace: default}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bookinfo, namespace: default}
spec:
  hosts: ["*"]
  gateways: [bookinfo]
  http: [{match: [{uri: {exact: /productpage}}], route: [{destination: {host: productpage, port: {number: 9080}}}]}]
`;

/** The course's; on a machine with the package they are in /usr/share/istio-control-plane. */
const samples = "/usr/share/istio-control-plane/samples/multicluster";

describe.skipIf(problem !== undefined)("a workload on a virtual machine", { timeout: 180_000 }, () => {
  let directory: string;
  let network: MachineNetwork;
  let control: Machine;
  let ratings: Machine;
  const machines = new Map<string, Machine>();

  const kubectl = async (args: readonly string[], input = "") => {
    const call = run("kubectl", ["--kubeconfig", join(control.root, "var/lib/istiod/kubeconfig"), ...args], { encoding: "utf8" });
    call.child.stdin?.end(input);
    return (await call).stdout;
  };
  const istioctl = async (...args: string[]) =>
    (await run(binary, ["istioctl", "--kubeconfig", join(control.root, "var/lib/istiod/kubeconfig"), ...args], { encoding: "utf8" }))
      .stdout;
  /** An application of the machine's, which knows nothing of a mesh. */
  const serve = async (machine: Machine, name: string, version: string) => {
    const topsail = "$(readlink -f /usr/local/bin/pilot-agent)";
    await machine.sh(
      `ln -sf ${topsail} /root/topsail; systemd-run --quiet --unit=app --property=Restart=always /root/topsail sample bookinfo --service ${name} --version ${version} --listen 0.0.0.0:9080 --domain default.svc.cluster.local`,
    );
  };
  const page = async () => (await fetch(`http://${control.address}/productpage`, { signal: AbortSignal.timeout(10_000) })).text();
  const stars = async () => {
    const text = await page().catch((error: Error) => error.message);
    return /currently unavailable/.test(text) ? "unavailable" : /★/.test(text) ? "stars" : text.slice(0, 200);
  };
  const entries = async () => (await kubectl(["get", "workloadentry", "-o", "name"])).trim().split("\n").filter(Boolean).sort();

  beforeAll(async () => {
    directory = mkdtempSync(join(tmpdir(), "topsail-lab-"));
    await buildPackages(["--arch", process.arch === "arm64" ? "arm64" : "amd64", "--only", "deb"]);
    network = await MachineNetwork.start();
    control = await network.boot("control", 20);
    for (const { name, last } of applications) machines.set(name, await network.boot(name, last));
    ratings = await network.boot("ratings", ratingsLast);
    // Several at once: to unpack is mostly to wait.
    await Promise.all(
      [control, ratings, ...machines.values()].map(async (machine) => {
        if (machine === control) await install(machine, "istio-control-plane");
        await install(machine, "istio-sidecar");
      }),
    );
  }, 600_000);

  afterAll(async () => {
    await network?.[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  }, 60_000);

  it("needs a control plane, which kubectl talks to", async () => {
    const flags = `--secureGRPCAddr 127.0.0.1:15012 --kubeAPIAddr ${control.address}:6443 --serverName ${control.address}`;
    await control.write("/etc/istiod/istiod.env", `ISTIOD_FLAGS="${flags}"\n`);
    await control.sh("systemctl start istio-control-plane");
    expect(await kubectl(["apply", "-f", "-"], bookinfo)).toContain("service/ratings created");
    await kubectl(["apply", "-f", "-"], ingress);
    expect(await kubectl(["get", "service", "-n", "istio-system", "istiod", "-o", "jsonpath={.spec.ports[0].port}"])).toBe("15012");
  });

  it("needs gateways, which are services of systemd", async () => {
    // The control plane listens on loopback; whoever is not on its machine comes by the gateway, which reads no more than the server name.
    await control.sh("echo '127.0.0.1 istiod.istio-system.svc' >> /etc/hosts");
    const gateway = await control.sh(
      `${samples}/gen-eastwest-gateway.sh --single-cluster --address ${control.address} --bind ${control.address}`,
    );
    expect(await kubectl(["apply", "-f", "-"], gateway)).toContain("service/istio-eastwestgateway created");
    await kubectl(["apply", "-n", "istio-system", "-f", join(control.root, samples, "expose-istiod.yaml")]);
    const invitation = await istioctl("x", "workload", "invite", "istio-eastwestgateway", "-n", "istio-system");
    const code = /--token (?<code>\S+)/.exec(invitation)!.groups!.code!;
    const said = await control.sh(`topsail join 127.0.0.1 --token ${code} --gateway eastwest`, { timeoutMs: 120_000 });
    expect(said).toBe("joining workload group istio-system/istio-eastwestgateway\njoined\n");
    const at = "/var/lib/istio-gateway/ingress";
    const token = await kubectl(["create", "token", "default", "-n", "istio-system", "--audience", "istio-ca"]);
    await control.write(`${at}/var/run/secrets/tokens/istio-token`, token, 0o600);
    await control.write(`${at}/var/lib/istio/envoy/cluster.env`, "SERVICE_ACCOUNT='default'\n");
    await control.sh(`mkdir -p ${at}/etc/certs; cp /var/lib/istiod/ca/root-cert.pem ${at}/etc/certs/`);
    await control.sh("systemctl start istio-gateway@ingress", { timeoutMs: 90_000 });
    await control.until(`ss -tlnH | grep -q '${control.address}:15012 ' && ss -tlnH | grep -q ':80 '`);
  });

  it("may join by one command", async () => {
    const joinMesh = async ({ name, version }: (typeof applications)[number]) => {
      await kubectl(["apply", "-f", "-"], groupOf(name, version));
      const machine = machines.get(name)!;
      await serve(machine, name, version);
      const invitation = await istioctl("x", "workload", "invite", name, "-n", "default", "--address", control.address);
      const code = /--token (?<code>\S+)/.exec(invitation)!.groups!.code!;
      const said = await machine.sh(`/root/topsail join ${control.address} --token ${code}`, { timeoutMs: 120_000 });
      expect(said).toMatch(/joining workload group default\/.*\njoined\n|joined/s);
    };
    await Promise.all(applications.map(joinMesh));
    expect(await entries()).toHaveLength(applications.length);
    await expect.poll(stars, { timeout: 60_000, interval: 500 }).toBe("unavailable");
  });

  it("joins by five files, as the guide says", async () => {
    await serve(ratings, "ratings", "v1");
    expect(await ratings.until("curl -sf http://localhost:9080/ratings/123")).toContain('"id":123');
    const group = join(directory, "ratings-workloadgroup.yaml");
    writeFileSync(group, groupOf("ratings"));
    await kubectl(["apply", "-f", group]);
    const files = join(directory, "vm_files");
    const said = await istioctl("x", "workload", "entry", "configure", "--file", group, "--output", files, "--autoregister");
    expect(said).toBe(`Configuration generation into directory ${files} was successful\n`);
    expect(readdirSync(files).sort()).toEqual(["cluster.env", "hosts", "istio-token", "mesh.yaml", "root-cert.pem"]);
    chmodSync(join(files, "istio-token"), 0o644);
    await ratings.push(`${files}/.`, "/root/");
    await ratings.sh(`
      mkdir -p /etc/certs
      cp /root/root-cert.pem /etc/certs/root-cert.pem
      mkdir -p /var/run/secrets/tokens
      cp /root/istio-token /var/run/secrets/tokens/istio-token
      cp /root/cluster.env /var/lib/istio/envoy/cluster.env
      cp /root/mesh.yaml /etc/istio/config/mesh
      cat /root/hosts >> /etc/hosts
      mkdir -p /etc/istio/proxy
      chown -R istio-proxy /etc/certs /var/run/secrets /var/lib/istio /etc/istio/config /etc/istio/proxy`);
    const watch = spawn("kubectl", ["--kubeconfig", join(control.root, "var/lib/istiod/kubeconfig"), "get", "workloadentry", "--watch"]);
    let seen = "";
    watch.stdout.on("data", (chunk) => {
      seen += chunk;
    });
    try {
      await expect.poll(() => seen, { timeout: 15_000 }).toContain("NAME");
      await ratings.sh("systemctl start istio", { timeoutMs: 90_000 });
      const row = new RegExp(`^ratings-${ratings.address.replaceAll(".", "\\.")} +\\d+s +${ratings.address.replaceAll(".", "\\.")}$`, "m");
      await expect.poll(() => seen, { timeout: 15_000 }).toMatch(row);
    } finally {
      watch.kill();
    }
  });

  it("calls the mesh by name", async () => {
    const answer = JSON.parse(await ratings.until("curl -sf details.default.svc:9080/details/123"));
    expect(answer).toMatchObject({ id: 123 });
  });

  it("is called by the mesh: the product page has its stars again", async () => {
    await expect.poll(stars, { timeout: 30_000, interval: 500 }).toBe("stars");
  });

  it("is what the caller's proxy knows as an endpoint", async () => {
    const clusters = await machines.get("reviews")!.sh("curl -sf http://localhost:15000/clusters");
    expect(clusters).toContain(`outbound|9080||ratings.default.svc.cluster.local::${ratings.address}:9080::health_flags::healthy`);
  });

  it("goes when its sidecar is stopped, and comes back with it", async () => {
    await ratings.sh("systemctl stop istio");
    await expect.poll(entries, { timeout: 30_000, interval: 500 }).toHaveLength(applications.length);
    await expect.poll(stars, { timeout: 30_000, interval: 500 }).toBe("unavailable");
    await ratings.sh("systemctl enable --now istio", { timeoutMs: 90_000 });
    await expect.poll(stars, { timeout: 30_000, interval: 500 }).toBe("stars");
  });

  it("serves after a reboot while nobody controls the mesh, and says so", async () => {
    await control.sh("systemctl stop istio-control-plane");
    expect(await stars()).toBe("stars");
    await ratings.reboot();
    await serve(ratings, "ratings", "v1");
    await ratings.unit("istio", "active", 60_000);
    await expect.poll(stars, { timeout: 60_000, interval: 500 }).toBe("stars");
    expect(await ratings.sh("curl -sf http://localhost:15020/metrics")).toContain('istio_agent_config_source{source="last good"} 1');
    await control.sh("systemctl start istio-control-plane || { journalctl --no-pager -n 40 -u istio-control-plane; exit 1; }");
    await expect.poll(entries, { timeout: 60_000, interval: 500 }).toHaveLength(applications.length + 1);
    await ratings.until(`curl -sf http://localhost:15020/metrics | grep -q 'source="control plane"} 1'`, 60_000);
    expect(await stars()).toBe("stars");
  });

  it("goes on while packets are lost", async () => {
    // Not netem, which not every kernel has.
    const loss = "INPUT -i host0 -m statistic --mode random --probability 0.2 -j DROP";
    await ratings.sh(`iptables -A ${loss}`);
    for (let round = 0; round < 5; round++) await expect.poll(stars, { timeout: 30_000, interval: 200 }).toBe("stars");
    await ratings.sh(`iptables -D ${loss}`);
  });

  const status = () => ratings.property("istio", "StatusText");
  /** What is on the machine's disk for the next start; the pair must be one. */
  const keptState = async () => {
    const [chain, key] = await Promise.all(["cert-chain", "key"].map((name) => ratings.sh(`cat /etc/certs/${name}.pem`)));
    const certificate = new X509Certificate(chain!);
    expect(certificate.checkPrivateKey(createPrivateKey(key!))).toBe(true);
    const lastGood = await ratings.sh("sha256sum < /etc/istio/proxy/last-good");
    const leftovers = await ratings.sh("ls /etc/certs /etc/istio/proxy | grep new || true");
    return { serial: certificate.serialNumber, lastGood, leftovers };
  };
  const servedSerial = async () => {
    const { certificates } = JSON.parse(await ratings.sh("curl -sf http://localhost:15000/certs")) as {
      certificates: { cert_chain: { serial_number: string }[] }[];
    };
    return certificates.flatMap(({ cert_chain }) => cert_chain.map(({ serial_number }) => serial_number.toUpperCase()))[0];
  };

  it("serves while its disk is full: certificates go on in memory, what is on disk stays whole, until there is room again", async () => {
    const kept = ["/etc/certs", "/etc/istio/proxy"];
    const restart = kept.map((directory) => `mount -t tmpfs -o size=2m,mode=0700 tmpfs ${directory}; chown istio-proxy: ${directory}`);
    await ratings.sh(`
      systemctl stop istio
      cp /etc/certs/root-cert.pem /root/
      ${restart.join("\n")}
      install -o istio-proxy /root/root-cert.pem /etc/certs/
      echo 'SECRET_TTL=20s' >> /var/lib/istio/envoy/cluster.env`);
    const token = await kubectl(["create", "token", "bookinfo-ratings", "--audience", "istio-ca"]);
    await ratings.write("/var/run/secrets/tokens/istio-token", token, 0o600);
    await ratings.sh("systemctl start istio", { timeoutMs: 90_000 });
    await expect.poll(stars, { timeout: 30_000, interval: 500 }).toBe("stars");
    await ratings.until("test -s /etc/istio/proxy/last-good && test -s /etc/certs/cert-chain.pem");
    await ratings.sh(kept.map((directory) => `cat /dev/zero > ${directory}/filler || true`).join("\n"));
    const before = await keptState();

    await kubectl(["apply", "-f", "-"], "apiVersion: v1\nkind: Service\nmetadata: {name: more}\nspec: {ports: [{name: http, port: 7070}]}");
    await expect
      .poll(status, { timeout: 30_000 })
      .toMatch(/^Serving, configured by .*; the last good configuration can't be kept .*ENOSPC/);
    await expect.poll(status, { timeout: 30_000 }).toMatch(/the workload's certificate can't be kept on disk: ENOSPC: no space left/);
    expect(await ratings.journal("istio")).toContain("the workload's certificate can't be kept on disk");
    expect(await ratings.sh("curl -sf http://localhost:15020/metrics")).toContain("istio_agent_trouble{what=");
    await expect.poll(servedSerial, { timeout: 30_000 }).not.toBe(before.serial);
    expect(await keptState()).toEqual(before);
    await expect.poll(stars, { timeout: 15_000, interval: 500 }).toBe("stars");

    await ratings.sh(`rm ${kept.map((directory) => `${directory}/filler`).join(" ")}`);
    await expect.poll(status, { timeout: 70_000, interval: 500 }).not.toContain("can't be kept");
    const after = await keptState();
    expect([after.serial === before.serial, after.lastGood === before.lastGood]).toEqual([false, false]);
    expect(await ratings.journal("istio")).toContain("no longer: the last good configuration can't be kept on disk");
  });

  it.skipIf(!clock)("goes on when its clock is an hour ahead or behind, and says so until it is right", async () => {
    await ratings.push(clock!, "/root/libfaketime.so.1");
    const file = "/run/fake-clock";
    const environment = [`LD_PRELOAD=/usr/local/lib/libfaketime.so.1`, `FAKETIME_TIMESTAMP_FILE=${file}`, "FAKETIME_CACHE_DURATION=1"];
    const own = ["FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1"];
    const lines = [...environment, ...own].map((line) => `Environment=${line}`).join("\n");
    await ratings.write("/etc/systemd/system/istio.service.d/clock.conf", `[Service]\n${lines}\n`);
    const setClock = (offset: string) => ratings.sh(`echo '${offset}' > ${file}.new; mv ${file}.new ${file}`);
    await setClock("+0");
    await ratings.sh(`
      install -m 0644 /root/libfaketime.so.1 /usr/local/lib/
      sed -i 's/^SECRET_TTL=.*/SECRET_TTL=40m/' /var/lib/istio/envoy/cluster.env
      systemctl daemon-reload`);
    await ratings.sh("rm -f /etc/certs/cert-chain.pem; systemctl restart istio", { timeoutMs: 90_000 });
    await expect.poll(stars, { timeout: 30_000, interval: 500 }).toBe("stars");
    const first = await servedSerial();

    await setClock("+3600");
    await expect.poll(servedSerial, { timeout: 20_000 }).not.toBe(first);
    await expect.poll(status, { timeout: 10_000 }).toMatch(/certificate does not hold by this machine's clock: expired: it ended at /);
    await expect.poll(stars, { timeout: 15_000, interval: 500 }).toBe("stars");

    await setClock("-3600");
    await expect
      .poll(status, { timeout: 10_000 })
      .toMatch(/certificate does not hold by this machine's clock: not yet valid: it begins at /);
    await expect.poll(stars, { timeout: 15_000, interval: 500 }).toBe("stars");

    await setClock("+0");
    await expect.poll(status, { timeout: 10_000 }).not.toContain("this machine's clock");
    const steps = async () => (await ratings.journal("istio")).match(/the clock of this machine has been set/g);
    await expect.poll(steps, { timeout: 10_000 }).toHaveLength(3);
    await expect.poll(stars, { timeout: 15_000, interval: 500 }).toBe("stars");
    await ratings.sh("rm /etc/systemd/system/istio.service.d/clock.conf; systemctl daemon-reload");
  });

  it("stays in the mesh when its address changes, without a restart", async () => {
    const agent = await ratings.property("istio", "MainPID");
    const moved = ratings.address.replace(/\d+$/, String(movedLast));
    await ratings.sh(`
      ip address flush dev host0
      ip address add ${moved}/24 dev host0
      ip route replace default via ${network.hostAddress}`);
    const ofRatings = async () => (await entries()).filter((name) => name.includes("/ratings-"));
    await expect.poll(ofRatings, { timeout: 30_000 }).toEqual([`workloadentry.networking.istio.io/ratings-${moved}`]);
    await expect.poll(stars, { timeout: 30_000, interval: 500 }).toBe("stars");
    const clusters = await machines.get("reviews")!.sh("curl -sf http://localhost:15000/clusters");
    expect(clusters).toContain(`ratings.default.svc.cluster.local::${moved}:9080::health_flags::healthy`);
    expect(clusters).not.toContain(`${ratings.address}:`);
    expect(await ratings.property("istio", "MainPID")).toBe(agent);
  });
});
