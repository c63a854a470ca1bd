/**
 * The packages on machines with a real systemd: the commands of Istio's guide for virtual machines, and what befalls a service in its life.
 *
 *   control   istio-control-plane.deb, and istio-sidecar.deb for a gateway         ratings   istio-sidecar.deb
 */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createToken, readKubeconfig } from "../support/kube-api.ts";
import { type Machine, MachineNetwork, machinesProblem } from "../support/machine.ts";
import { anotherVersion, buildPackages, debOf, install, packagingProblem } from "../support/packages.ts";

const problem = machinesProblem() ?? packagingProblem();
if (problem) process.stderr.write(`packages on machines: skipped: ${problem}\n`);

const mesh = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: web, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
  - {port: {number: 443, name: tls, protocol: TLS}, hosts: ["*"], tls: {mode: PASSTHROUGH}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: istio-system}
spec:
  hosts: ["*"]
  gateways: [web]
  http: [{directResponse: {status: 200, body: {string: "by the gateway"}}}]
  tls: [{match: [{port: 443, sniHosts: ["*"]}], route: [{destination: {host: istiod.istio-system.svc.cluster.local, port: {number: 443}}}]}]
`;

/** As \`istioctl x workload entry configure\` writes it. */
const clusterEnv = `CANONICAL_REVISION='latest'
CANONICAL_SERVICE='ratings'
ISTIO_INBOUND_PORTS='*'
ISTIO_LOCAL_EXCLUDE_PORTS='8999'
ISTIO_METAJSON_LABELS='{"app":"ratings","note":"it'"'"'s"}'
ISTIO_META_MESH_ID=''
ISTIO_META_WORKLOAD_NAME='ratings'
ISTIO_NAMESPACE='default'
ISTIO_SERVICE='ratings.default'
ISTIO_SERVICE_CIDR='*'
POD_NAMESPACE='default'
SERVICE_ACCOUNT='default'
TRUST_DOMAIN=''
`;

/** Shorter than a person would have it, so that a test need not wait. */
const impatience = "[Service]\nWatchdogSec=6s\nTimeoutStartSec=10s\n";

/** The last step of Istio's guide. */
const asTheirs = "chown -R istio-proxy /etc/certs /var/run/secrets /var/lib/istio /etc/istio/config /etc/istio/proxy";
const rulesInForce = "iptables-save | grep -q -- '-A ISTIO_OUTPUT'";
const noRules = "! iptables-save | grep -q ISTIO_";

describe.skipIf(problem !== undefined)("packages on machines", { timeout: 120_000 }, () => {
  let network: MachineNetwork;
  let control: Machine;
  let ratings: Machine;

  beforeAll(async () => {
    await buildPackages(["--arch", process.arch === "arm64" ? "arm64" : "amd64", "--only", "deb"]);
    network = await MachineNetwork.start();
    [control, ratings] = await Promise.all([network.boot("control", 10), network.boot("ratings", 11)]);
  }, 400_000);

  afterAll(() => network?.[Symbol.asyncDispose]());

  it("install by dpkg alone, and neither start nor enable anything", async () => {
    // Somebody was here before.
    await control.sh("groupadd --gid 4000 team; useradd --uid 4001 --gid team istio-proxy");
    await Promise.all([install(control, "istio-control-plane"), install(ratings, "istio-sidecar")]);
    for (const [machine, unit] of [
      [control, "istio-control-plane"],
      [ratings, "istio"],
    ] as const) {
      expect((await machine.exec(["systemctl", "is-enabled", unit])).stdout.trim()).toBe("disabled");
      expect(await machine.property(unit, "ActiveState")).toBe("inactive");
    }
    const places = await ratings.sh(`
      readlink /etc/istio
      stat -c '%n %U %a' /etc/istio/config/mesh /var/lib/istio /var/lib/istio/envoy /etc/istio/proxy /etc/certs /var/log/istio
      getent passwd istio-proxy | cut -d: -f6,7
      command -v pilot-agent`);
    expect(places.trim().split("\n")).toEqual([
      "/var/lib/istio",
      "/etc/istio/config/mesh istio-proxy 644",
      "/var/lib/istio root 755",
      "/var/lib/istio/envoy istio-proxy 755",
      "/etc/istio/proxy istio-proxy 755",
      "/etc/certs istio-proxy 755",
      "/var/log/istio istio-proxy 750",
      "/var/lib/istio:/usr/sbin/nologin",
      "/usr/local/bin/pilot-agent",
    ]);
  });

  it("verify, and are sandboxed", async () => {
    await install(control, "istio-sidecar");
    const units = ["istio.service", "istio-capture.service", "istio-gateway@ingress.service", "istio-control-plane.service"];
    const { code, stderr } = await control.exec(["systemd-analyze", "verify", ...units]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
    for (const unit of ["istio-gateway@ingress", "istio-control-plane", "istio"]) {
      const exposure = /exposure level for .*: (\d+\.\d)/.exec(
        await control.sh(`systemd-analyze security --no-pager ${unit}.service | tail -1`),
      )![1];
      expect(Number(exposure), unit).toBeLessThanOrEqual(3);
    }
  });

  it("let past the proxy its user and the unit's group, and not the group that the user was in before", async () => {
    const group = (await control.sh("getent group istio-proxy | cut -d: -f3")).trim();
    await control.write("/root/capture.env", "ISTIO_SERVICE_CIDR=*\n");
    const owners = await control.sh(
      "cd /; ISTIO_CLUSTER_CONFIG=/root/capture.env pilot-agent machine init; iptables-save | grep -o '[ug]id-owner [0-9]* -j RETURN' | sort -u; pilot-agent machine clean",
    );
    expect(owners).toBe(`gid-owner ${group} -j RETURN\nuid-owner 4001 -j RETURN\n`);
    await control.sh(noRules);
  });

  it("leave a start waiting while there is no control plane, and do not restart what waits", async () => {
    await ratings.sh(`
      mkdir -p /etc/certs /var/run/secrets/tokens
      echo '${control.address} istiod.istio-system.svc' >> /etc/hosts`);
    await ratings.write("/var/lib/istio/envoy/cluster.env", clusterEnv);
    await ratings.write("/etc/istio/config/mesh", "defaultConfig: {concurrency: 1, terminationDrainDuration: 1s}\n");
    await ratings.write("/etc/systemd/system/istio.service.d/test.conf", impatience);
    await ratings.sh(asTheirs);
    await ratings.sh("systemctl daemon-reload; systemctl start --no-block istio");
    await ratings.until('systemctl show -P StatusText istio | grep -q "Waiting for configuration from istiod.istio-system.svc:15012"');
    const pid = await ratings.property("istio", "MainPID");
    await new Promise((resolve) => setTimeout(resolve, 11_000)); // more than the time that systemd would give a silent one
    expect(await ratings.property("istio", "ActiveState")).toBe("activating");
    expect(await ratings.property("istio", "MainPID")).toBe(pid);
    await ratings.sh(rulesInForce);
  });

  it("are ready when the control plane serves, and the sidecar when it has its configuration", async () => {
    await control.write("/etc/istiod/config/mesh.yaml", mesh);
    await control.write("/etc/istiod/istiod.env", `ISTIOD_FLAGS="--kubeAPIAddr 0.0.0.0:6443 --serverName ${control.address}"\n`);
    await control.sh("systemctl start istio-control-plane");
    expect(await control.property("istio-control-plane", "ActiveState")).toBe("active");
    const config = { ...readKubeconfig(join(control.root, "var/lib/istiod/kubeconfig")), server: `https://${control.address}:6443` };
    const token = await createToken(config, "default", "default");
    // As people copy files: for all to read.
    await ratings.push(join(control.root, "var/lib/istiod/ca/root-cert.pem"), "/etc/certs/root-cert.pem");
    await ratings.write("/var/run/secrets/tokens/istio-token", token, 0o744);
    await ratings.sh(asTheirs);
    await ratings.unit("istio", "active", 60_000);
    expect(await ratings.property("istio", "StatusText")).toBe("Serving, configured by istiod.istio-system.svc:15012");
    await ratings.sh("curl -sf http://localhost:15021/healthz/ready");
  });

  it("run the sidecar as its user, without capabilities, and keep the token to it", async () => {
    const status = await ratings.sh("cat /proc/$(systemctl show -P MainPID istio)/status");
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(/^CapEff:\t0+$/m);
    expect(status).toMatch(/^CapBnd:\t0+$/m);
    await ratings.sh("systemctl restart istio");
    expect((await ratings.sh("stat -c '%U %a' /run/secrets/tokens/istio-token /etc/certs/key.pem")).trim().split("\n")).toEqual([
      "istio-proxy 600",
      "istio-proxy 600",
    ]);
    expect((await ratings.sh("stat -c %U /proc/$(systemctl show -P MainPID istio)")).trim()).toBe("istio-proxy");
  });

  it("capture what cluster.env says, and never ssh or the agent's own ports", async () => {
    const rules = await ratings.sh("iptables-save");
    for (const port of [22, 8999, 15020, 15021, 15090]) expect(rules).toMatch(new RegExp(`-A ISTIO_INBOUND .*--dport ${port} -j RETURN`));
    expect(rules).toMatch(/-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT/);
  });

  it("take new settings by a reload, in a new process", async () => {
    const pid = await ratings.property("istio", "MainPID");
    await ratings.sh("echo ISTIO_INBOUND_EXCLUDE_PORTS=7777 >> /var/lib/istio/envoy/sidecar.env; systemctl reload istio");
    expect(await ratings.sh("iptables-save")).toMatch(/--dport 7777 -j RETURN/);
    expect(await ratings.property("istio", "MainPID")).not.toBe(pid);
  });

  it("are of both families on a machine that has addresses of both, unless the settings say otherwise", async () => {
    const [own, theirs] = ["fd99::11", "fd99::10"];
    await ratings.sh(`
      systemd-run --unit httpbin $(readlink -f /usr/local/bin/pilot-agent) sample httpbin --listen [::]:8000
      ip -6 address add ${own}/64 dev host0 nodad`);
    const passesBy = 'systemctl show -P StatusText istio | grep -q "passes by the proxy: .*systemctl reload istio"';
    await ratings.until(passesBy);
    await ratings.sh(`systemctl reload istio; ! ${passesBy}`);
    await control.sh(`ip -6 address add ${theirs}/64 dev host0 nodad`);
    const serverOf = async (url: string) =>
      (await control.sh(`curl -sS -o /dev/null -D - --retry 5 --retry-connrefused ${url} | grep -i ^server: || true`)).trim();
    const own4 = `http://${ratings.address}:8000/get`;
    const own6 = `http://[${own}]:8000/get`;
    expect([await serverOf(own4), await serverOf(own6)]).toEqual(["server: istio-envoy", "server: istio-envoy"]);
    await control.sh(`curl -sf http://[${own}]:15021/healthz/ready`);
    const agentsPort = await control.sh("ss -Htln 'sport = :15012' | awk '{print $4}' | sort");
    expect(agentsPort.trim().split("\n")).toEqual(["0.0.0.0:15012", "[::]:15012"]);
    // What goes out is captured too: nobody listens there, and the proxy is the one to find out.
    expect(await ratings.sh(`curl -s -o /dev/null -w '%{http_code} %{errormsg}' http://[${theirs}]:9/ || true`)).toMatch(
      /reset|Empty reply/i,
    );
    await ratings.sh("echo ISTIO_DUAL_STACK=false >> /var/lib/istio/envoy/cluster.env; systemctl reload istio");
    expect([await serverOf(own4), await serverOf(own6)]).toEqual(["server: istio-envoy", ""]);
    expect(await ratings.journal("istio")).toContain("IPv6 passes by the proxy");
    await ratings.sh(`
      sed -i /ISTIO_DUAL_STACK/d /var/lib/istio/envoy/cluster.env
      systemctl stop httpbin
      ip -6 address delete ${own}/64 dev host0
      systemctl reload istio`);
  });

  it("restart the sidecar when it was killed, and let no traffic past it meanwhile", async () => {
    const watch = `while [ ! -e /tmp/enough ]; do { ${rulesInForce}; } || echo missing; done; rm /tmp/enough`;
    const misses = ratings.sh(watch);
    const pid = await ratings.property("istio", "MainPID");
    await ratings.sh(`kill -9 ${pid}`);
    await ratings.until(`[ "$(systemctl show -P MainPID istio)" != ${pid} ] && [ "$(systemctl show -P ActiveState istio)" = active ]`);
    await ratings.sh("systemctl restart istio; touch /tmp/enough");
    expect(await misses).toBe("");
    expect(await ratings.journal("istio")).toContain("code=killed, status=9/KILL");
  });

  it("restart the sidecar when it hangs", async () => {
    const pid = await ratings.property("istio", "MainPID");
    await ratings.sh(`kill -STOP ${pid}`);
    await ratings.until(`[ "$(systemctl show -P MainPID istio)" != ${pid} ] && [ "$(systemctl show -P ActiveState istio)" = active ]`);
    expect(await ratings.journal("istio")).toContain("Watchdog timeout");
    await ratings.sh(rulesInForce);
  });

  it("keep the rules while the sidecar fails to start, and give them up when it is told to stop", async () => {
    const file = "/var/lib/istio/envoy/sidecar.env";
    await ratings.sh(`cp ${file} /root/; echo 'A=$(hostname)' >> ${file}; kill -9 $(systemctl show -P MainPID istio)`);
    await ratings.until('[ $(systemctl show -P NRestarts istio) -ge 3 ] && [ "$(systemctl show -P SubState istio)" = auto-restart ]');
    expect(await ratings.journal("istio")).toMatch(/sidecar\.env:\d+: what begins with \$ is for a shell/);
    // By their priority what matters is found: errors, and warnings of the days without a control plane.
    const errors = await ratings.sh("journalctl --no-pager -o cat -u istio -p err -t pilot-agent");
    expect(errors).toMatch(/^error: .*sidecar\.env:\d+: what begins with \$ is for a shell/m);
    expect(errors).not.toMatch(/\t(info|warn)\t/);
    expect(await ratings.sh("journalctl --no-pager -o cat -u istio -p warning..warning -t pilot-agent")).toMatch(/\twarn\txdsproxy\t/);
    await ratings.sh(rulesInForce);
    await ratings.sh("systemctl stop istio");
    await ratings.until(noRules);
    await ratings.sh(`cp /root/sidecar.env ${file}; systemctl start istio; ${rulesInForce}`);
  });

  it("let traffic go when the sidecar is stopped, which ends well", async () => {
    await ratings.sh(`systemctl stop istio; ${noRules}`);
    expect(await ratings.property("istio", "Result")).toBe("success");
    await ratings.unit("istio-capture", "inactive");
  });

  it("start anew without what an earlier mesh gave", async () => {
    await ratings.sh("cp -a /etc/certs /root/; rm -r /etc/certs; systemctl start --no-block istio");
    await ratings.until('systemctl show -P StatusText istio | grep -q "Waiting for configuration"');
    expect(await ratings.sh("stat -c '%U %a' /etc/certs")).toBe("istio-proxy 755\n");
    await ratings.until('journalctl -u istio | grep -q "no root certificate to know the control plane by"');
    await ratings.sh("cp -a /root/certs/. /etc/certs");
    await ratings.unit("istio", "active", 60_000);
    await ratings.sh("systemctl stop istio");
  });

  it("let traffic go when the settings leave it to others from now on", async () => {
    const file = "/var/lib/istio/envoy/sidecar.env";
    await ratings.sh(`systemctl start istio; ${rulesInForce}; echo DISABLE_ENVOY=true >> ${file}; systemctl restart istio; ${noRules}`);
    await ratings.sh(`cp /root/sidecar.env ${file}; systemctl restart istio; ${rulesInForce}`);
    await ratings.sh(`echo ISTIO_CUSTOM_IP_TABLES=true >> ${file}; systemctl stop istio; ${noRules}; cp /root/sidecar.env ${file}`);
  });

  it("leave rules alone that the administrator sets", async () => {
    await ratings.sh(
      "iptables -t nat -N ISTIO_MINE; echo ISTIO_CUSTOM_IP_TABLES=true >> /var/lib/istio/envoy/sidecar.env; systemctl start istio",
    );
    expect(await ratings.sh("iptables-save -t nat")).not.toContain("ISTIO_OUTPUT");
    await ratings.sh("systemctl stop istio; iptables -t nat -X ISTIO_MINE; cp /root/sidecar.env /var/lib/istio/envoy/sidecar.env");
  });

  it("come back after a reboot without token and control plane, by what was kept", async () => {
    await control.sh("systemctl stop istio-control-plane");
    await ratings.sh("systemctl enable istio");
    await ratings.reboot();
    await ratings.sh("[ ! -e /run/secrets/tokens/istio-token ]");
    // As Istio's unit makes it: for others' secrets too.
    await ratings.until('[ "$(stat -c "%U %a" /run/secrets)" = "istio-proxy 755" ]');
    await ratings.unit("istio", "active", 60_000);
    expect(await ratings.property("istio", "StatusText")).toContain("Serving the last good configuration");
    await ratings.sh(rulesInForce);
    await control.sh("systemctl start istio-control-plane");
    await ratings.until('systemctl show -P StatusText istio | grep -q "Serving, configured by"', 60_000);
  });

  it("keep settings at an upgrade, and go on with the new program", async () => {
    const pid = await ratings.property("istio", "MainPID");
    using newer = anotherVersion(debOf("istio-sidecar"), "99.0");
    await ratings.push(newer.file, "/root/new.deb");
    await ratings.sh("dpkg -i /root/new.deb");
    await ratings.until(`[ "$(systemctl show -P MainPID istio)" != ${pid} ] && [ "$(systemctl show -P ActiveState istio)" = active ]`);
    expect(await ratings.sh("cat /var/lib/istio/envoy/sidecar.env")).toContain("ISTIO_INBOUND_EXCLUDE_PORTS=7777");
    await ratings.sh(`${rulesInForce}; dpkg -s istio-sidecar | grep -q '^Version: 99.0'`);
  });

  it("end what runs when they are removed, and keep what is the administrator's", async () => {
    await ratings.sh("dpkg -r istio-sidecar");
    await ratings.unit("istio", "inactive", 0);
    await ratings.sh(
      `${noRules}; [ ! -e /usr/local/bin/pilot-agent ]; [ -d /usr/local/bin ]; [ -s /var/lib/istio/envoy/sidecar.env ]; [ -s /etc/certs/key.pem ]`,
    );
  });

  it("leave nothing but the user when they are purged", async () => {
    await ratings.sh("dpkg -P istio-sidecar");
    const left = await ratings.sh(
      "find /etc /var /usr /run -xdev \\( -name 'istio*' -o -name certs -path '/etc/certs*' \\) -not -path '/etc/systemd/system/istio*.d' -not -path '/var/log/journal/*'",
    );
    expect(left).toBe("");
    await ratings.sh("getent passwd istio-proxy");
  });

  it("start a gateway that has no settings yet, and whose files come later", async () => {
    const at = "/var/lib/istio-gateway/early";
    await control.sh("systemctl start --no-block istio-gateway@early");
    await control.until('systemctl show -P StatusText istio-gateway@early | grep -q "Waiting for configuration"');
    expect(await control.sh(`cd ${at}; stat -c '%n %U %a' var var/run var/run/secrets var/run/secrets/tokens`)).toBe(
      ["var", "var/run", "var/run/secrets", "var/run/secrets/tokens"].map((path) => `${path} istio-proxy 755\n`).join(""),
    );
    await control.sh(`systemctl stop istio-gateway@early; rm -r ${at}`);
  });

  it("run a gateway on the ports of the web, beside the control plane, without root", async () => {
    const at = "/var/lib/istio-gateway/ingress";
    const config = { ...readKubeconfig(join(control.root, "var/lib/istiod/kubeconfig")), server: `https://${control.address}:6443` };
    await control.write(`${at}/var/run/secrets/tokens/istio-token`, await createToken(config, "istio-system", "default"), 0o644);
    await control.write(`${at}/var/lib/istio/envoy/cluster.env`, "SERVICE_ACCOUNT='default'\n");
    await control.sh(`
      mkdir -p ${at}/etc/certs
      cp /var/lib/istiod/ca/root-cert.pem ${at}/etc/certs/
      echo '127.0.0.1 istiod.istio-system.svc' >> /etc/hosts
      systemctl enable --now istio-gateway@ingress`);
    const answer = await fetch(`http://${control.address}/`);
    expect({ status: answer.status, body: await answer.text() }).toEqual({ status: 200, body: "by the gateway" });
    // Where the Service of the control plane, at the same address, has another port behind it.
    const api = `https://istiod.istio-system.svc:443/version`;
    await control.sh(`curl -sS --cacert /var/lib/istiod/ca/root-cert.pem --resolve istiod.istio-system.svc:443:${control.address} ${api}`);
    const status = await control.sh("cat /proc/$(systemctl show -P MainPID istio-gateway@ingress)/status");
    expect(status).toMatch(/^CapEff:\t0*400$/m); // CAP_NET_BIND_SERVICE
    expect(status).not.toMatch(/^Uid:\t0\t/m);
    await control.sh(noRules);
    await control.sh("systemctl stop istio-gateway@ingress");
  });

  it("keep the control plane's key over a restart, and its configuration over a removal", async () => {
    const key = "sha256sum /var/lib/istiod/ca/ca-key.pem";
    const before = await control.sh(key);
    await control.sh("kill -9 $(systemctl show -P MainPID istio-control-plane)");
    await control.until("[ $(systemctl show -P NRestarts istio-control-plane) -ge 1 ]");
    await control.unit("istio-control-plane", "active");
    expect(await control.sh(key)).toBe(before);
    await control.sh("dpkg -r istio-control-plane");
    await control.sh(
      `[ -e /etc/istiod/config/mesh.yaml ]; ${key}; dpkg -P istio-control-plane; [ ! -e /var/lib/istiod ]; [ -e /etc/istiod/config/mesh.yaml ]`,
    );
  });
});
