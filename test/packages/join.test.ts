/**
 * `topsail join` on a machine with a real systemd, and what it does when the machine can no longer be reached or look names up afterwards:
 * a control plane and a nameserver in this process, the machine beside it, and a session like sshd's through which the command runs.
 *
 *   this process: istiod, DNS ──bridge── machine: istio-sidecar.deb; port 2222 = a shell whose standard output is the connection
 */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { decodeObject } from "../../src/api/documents/decode-object.ts";
import { formatCode, invitationSecret, newCode } from "../../src/api/machine/invitation.ts";
import type { WritableConfigStore } from "../../src/config/store.ts";
import { Istiod } from "../../src/istiod/istiod.ts";
import { DnsUpstream, reply } from "../support/dns-upstream.ts";
import { type Machine, MachineNetwork, machinesProblem } from "../support/machine.ts";
import { buildPackages, debOf, packagingProblem } from "../support/packages.ts";

const problem = machinesProblem() ?? packagingProblem();
if (problem) process.stderr.write(`join on a machine: skipped: ${problem}\n`);

const rules = "iptables-save | grep -q -- '-A ISTIO_OUTPUT'";
/** What joining touches: files with owner, mode and content, the service, the rules, what is left to undo it. */
const state = `
places='/etc/certs /etc/istio/ /run/secrets /var/lib/istio /var/lib/istio-gateway /etc/hosts'
find $places -printf '%p %U %m %y\\n' 2> /dev/null | sort
find $places -type f -exec sha256sum {} + 2> /dev/null | sort
for unit in istio istio-gateway@edge; do systemctl is-enabled $unit; systemctl is-active $unit; done || true
iptables-save | grep ISTIO_ || true
systemctl list-units --all --no-legend 'istio-join-guard*'
`;
/** As sshd starts a login shell. */
const shell = `
set -- $(ss -tnH state established sport = :2222)
SSH_CONNECTION="10.0.0.1 \${4##*:} 10.0.0.2 2222" exec sh /root/login
`;
/** Through sudo, which drops the variable. */
const login = `
env -u SSH_CONNECTION topsail join $(cat /root/flags) "$(cat /root/address)" --token - < /root/code 2> /root/stderr
echo $? > /root/code-of-exit
`;

describe.skipIf(problem !== undefined)("topsail join", { timeout: 90_000 }, () => {
  let network: MachineNetwork;
  let machine: Machine;
  let istiod: Istiod;
  let names: DnsUpstream | undefined;
  let before: string;
  const sessions: Socket[] = [];

  const put = async (raw: unknown) => {
    const { object, errors } = decodeObject(raw);
    if (!object) throw errors[0];
    await (istiod.discovery.store as WritableConfigStore).put(object);
  };
  const answerNames = async () => {
    names = await DnsUpstream.start((asked) => [reply(asked, {})], network.hostAddress, 53);
  };
  /** Starts the command in a session. */
  const joinInSession = async ({ group = "ratings", flags = "" } = {}): Promise<Socket> => {
    const code = newCode();
    const to = { namespace: "shop", group, expiresAt: new Date(Date.now() + 60_000) };
    await put(invitationSecret(code, to, "istio-system"));
    await machine.write("/root/flags", flags);
    await machine.write("/root/code", formatCode(code), 0o600);
    await machine.sh("rm -f /root/stderr /root/code-of-exit");
    const socket = connect(2222, machine.address).on("error", () => undefined);
    sessions.push(socket);
    await once(socket, "connect");
    return socket;
  };
  const textOf = (socket: Socket) => {
    const heard = { text: "" };
    socket.setEncoding("utf8").on("data", (text: string) => {
      heard.text += text;
    });
    return heard;
  };
  const outcome = async () => {
    await machine.until("[ -s /root/code-of-exit ]", 60_000);
    return { code: Number(await machine.sh("cat /root/code-of-exit")), stderr: await machine.sh("cat /root/stderr") };
  };
  const inConfirmation = () => machine.until(`${rules} && [ "$(systemctl show -P ActiveState istio)" = active ]`);
  const journal = () => machine.sh("journalctl --no-pager --output=cat -t topsail-join -n 1");

  beforeAll(async () => {
    await buildPackages(["--arch", process.arch === "arm64" ? "arm64" : "amd64", "--only", "deb"]);
    network = await MachineNetwork.start();
    machine = await network.boot("joining", 12);
    const at = { host: network.hostAddress, port: 0 };
    const loopback = { host: "127.0.0.1", port: 0 };
    istiod = await Istiod.start({ grpc: loopback, secureGrpc: at, monitoring: loopback, domain: "cluster.local" });
    for (const name of ["ratings", "edge"]) {
      await put({ apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace: "shop" } });
      await put({
        apiVersion: "networking.istio.io/v1",
        kind: "WorkloadGroup",
        metadata: { name, namespace: "shop" },
        spec: { template: { serviceAccount: name } },
      });
    }
    await answerNames();
    await machine.push(debOf("istio-sidecar"), "/root/istio-sidecar.deb");
    await machine.write("/root/address", `${network.hostAddress}:${istiod.secure!.port}`);
    await machine.write("/root/shell", shell);
    await machine.write("/root/login", login);
    await machine.sh(`
      dpkg -i /root/istio-sidecar.deb
      echo ISTIO_PILOT_PORT=${istiod.secure!.port} >> /var/lib/istio/envoy/sidecar.env
      mkdir -p /etc/systemd/system/istio-gateway@.service.d
      printf '[Service]\nEnvironment=ISTIO_PILOT_PORT=${istiod.secure!.port}\n' > /etc/systemd/system/istio-gateway@.service.d/port.conf
      systemctl daemon-reload
      systemd-run --unit=session systemd-socket-activate --listen=2222 --accept --inetd sh /root/shell`);
  }, 400_000);
  afterAll(async () => {
    await names?.[Symbol.asyncDispose]();
    await istiod?.[Symbol.asyncDispose]();
    await network?.[Symbol.asyncDispose]();
  });
  beforeEach(async () => {
    before = await machine.sh(state);
  });
  afterEach(async () => {
    for (const session of sessions.splice(0)) session.destroy();
    await machine.exec(["topsail", "join", "--roll-back"]);
    await machine.exec(["topsail", "join", "--roll-back", "--gateway", "edge"]);
  });

  it("takes everything back when names can no longer be looked up, and says why", async () => {
    const heard = textOf(await joinInSession());
    await machine.until(rules);
    await names![Symbol.asyncDispose]();
    const { code, stderr } = await outcome();
    await answerNames();
    expect(stderr).toBe("error: names can no longer be looked up\n");
    expect(code).toBe(1);
    expect(heard.text).toContain("rolled back: the machine is as it was\n");
    expect(await machine.sh(state)).toBe(before);
  });

  it("takes everything back when its user's session no longer gets through, and says why where one looks then", async () => {
    const session = await joinInSession();
    await machine.until(rules);
    await machine.sh("iptables -I INPUT -p tcp --dport 2222 -j DROP");
    const { code, stderr } = await outcome();
    await machine.sh("iptables -D INPUT -p tcp --dport 2222 -j DROP");
    session.destroy();
    expect(stderr).toBe("error: your session no longer gets through\n");
    expect(code).toBe(1);
    expect(await machine.sh(state)).toBe(before);
    expect(await journal()).toBe("rolled back: the machine is as it was: your session no longer gets through\n");
  });

  it("is undone by its guard when it is killed", async () => {
    await joinInSession();
    await inConfirmation();
    await machine.sh("kill -9 $(pgrep -f '^topsail join')");
    expect((await outcome()).code).toBe(137);
    await machine.sh(rules);
    // As the timer would, two minutes later.
    expect(await machine.sh("systemctl is-active istio-join-guard-istio.timer")).toBe("active\n");
    await machine.sh("systemctl start --wait istio-join-guard-istio.service");
    await machine.sh("systemctl stop istio-join-guard-istio.timer");
    expect(await machine.sh(state)).toBe(before);
    expect(await journal()).toBe("rolled back: the machine is as it was before it joined, which nobody confirmed\n");
  });

  it("has not joined when its guard was quicker", async () => {
    const heard = textOf(await joinInSession());
    await inConfirmation();
    await machine.sh("systemctl start --wait istio-join-guard-istio.service");
    const { code, stderr } = await outcome();
    expect({ code, stderr }).toEqual({ code: 1, stderr: "error: not done within 120 s\nhint: journalctl -u istio.service\n" });
    expect(heard.text).not.toMatch(/^joined$/m);
    expect(await machine.sh(state)).toBe(before);
  });

  it("restores what was there before, when the session is cut", async () => {
    await machine.sh(`
      mkdir -p /run/secrets/tokens; echo former > /run/secrets/tokens/istio-token; chmod 640 /run/secrets/tokens/istio-token
      echo former > /etc/certs/key.pem; chmod 400 /etc/certs/key.pem; chown root /run/secrets
      echo '# former' >> /var/lib/istio/envoy/cluster.env; echo '10.0.0.9 istiod.istio-system.svc' >> /etc/hosts
      systemctl enable istio`);
    const former = await machine.sh(state);
    const session = await joinInSession();
    await inConfirmation();
    session.resetAndDestroy();
    expect(await outcome()).toEqual({ code: 1, stderr: "error: your session no longer gets through\n" });
    expect(await machine.sh(state)).toBe(former);
    await machine.sh(`
      systemctl disable istio; rm -r /run/secrets; rm /etc/certs/key.pem /var/lib/istio/envoy/cluster.env
      sed -i '/istiod/d' /etc/hosts`);
    expect(await machine.sh(state)).toBe(before);
  });

  it("is undone when it is told to end", async () => {
    await joinInSession();
    await inConfirmation();
    await machine.sh("kill -TERM $(pgrep -f '^topsail join')");
    expect(await outcome()).toEqual({ code: 1, stderr: "error: ended by SIGTERM\n" });
    expect(await machine.sh(state)).toBe(before);
  });

  describe("as a gateway", () => {
    const asGateway = { group: "edge", flags: "--gateway edge" };
    const guard = "istio-join-guard-istio-gateway-edge";
    /** A control plane that does not answer any more once the code has been redeemed: the unit goes on waiting. */
    const silencing = (how: "-I" | "-D") => `iptables ${how} OUTPUT -m owner --uid-owner istio-proxy -d ${network.hostAddress} -j DROP`;
    afterEach(() => machine.exec(["sh", "-c", silencing("-D")]));
    /** While the unit starts: the files are there, and it waits for its configuration. */
    const starting = () => machine.until("systemctl show -P StatusText istio-gateway@edge | grep -q '^Waiting for configuration'");

    it("is undone when its service does not start, and says where one reads why", async () => {
      // The port that its proxy answers readiness on is another's.
      await machine.sh("systemd-run --unit=squatter $(readlink -f /usr/local/bin/pilot-agent) sample httpbin --listen 0.0.0.0:15021");
      await machine.until("ss -tnlH sport = :15021 | grep -q LISTEN");
      const session = await joinInSession(asGateway);
      const heard = textOf(session);
      const { code, stderr } = await outcome();
      await machine.sh("systemctl stop squatter");
      expect(code).toBe(1);
      expect(stderr).toMatch(/^error: the service does not start: [\s\S]*\nhint: journalctl -u istio-gateway@edge\.service\n$/);
      expect(heard.text).toContain("rolled back: the machine is as it was\n");
      expect(await machine.sh(state)).toBe(before);
    });

    it("is undone by its guard when it is killed, and by nobody else's", async () => {
      await machine.sh(silencing("-I"));
      await joinInSession(asGateway);
      await starting();
      await machine.sh("kill -9 $(pgrep -f '^topsail join')");
      expect((await outcome()).code).toBe(137);
      expect(await machine.sh("topsail join --roll-back")).toBe("nothing to roll back\n");
      await machine.sh("[ -s /var/lib/istio-gateway/edge/etc/certs/root-cert.pem ]");
      expect(await machine.sh(`systemctl is-active ${guard}.timer`)).toBe("active\n");
      await machine.sh(`systemctl start --wait ${guard}.service; systemctl stop ${guard}.timer`);
      await machine.sh(silencing("-D"));
      expect(await machine.sh(state)).toBe(before);
      expect(await journal()).toBe("rolled back: the machine is as it was before it joined, which nobody confirmed\n");
    });

    it("is undone when it is told to end, or its guard was quicker", async () => {
      await machine.sh(silencing("-I"));
      for (const [how, stderr] of [
        ["kill -TERM $(pgrep -f '^topsail join')", "error: ended by SIGTERM\n"],
        [
          `systemctl start --wait ${guard}.service`,
          "error: undone by the guard, before the service had its configuration\nhint: journalctl -u istio-gateway@edge.service\n",
        ],
      ] as const) {
        await joinInSession(asGateway);
        await starting();
        await machine.sh(how);
        expect(await outcome()).toEqual({ code: 1, stderr });
        expect(await machine.sh(state)).toBe(before);
      }
      await machine.sh(silencing("-D"));
    });

    it("joins, and what it replaced comes back when another join of it fails", async () => {
      const heard = textOf(await joinInSession(asGateway));
      expect(await outcome()).toEqual({ code: 0, stderr: "" });
      expect(heard.text).toBe("joining workload group shop/edge\njoined\n");
      await machine.sh("systemctl is-active istio-gateway@edge; systemctl is-enabled istio-gateway@edge; ! systemctl is-active istio");
      expect((await machine.exec(["systemctl", "is-active", `${guard}.timer`])).stdout).toBe("inactive\n");
      expect(await machine.sh("topsail join --roll-back --gateway edge")).toBe("nothing to roll back\n");
      const entry = { kind: "WorkloadEntry", namespace: "shop", name: `edge-${machine.address}` } as const;
      await expect.poll(() => istiod.discovery.store.get(entry)).toBeDefined();
      // What the running agent itself writes is not the join's to keep.
      const own =
        "cd /var/lib/istio-gateway/edge; find . -path ./etc/istio/proxy -prune -o -type f -printf '%p %U %m ' -exec sha256sum {} + | sort";
      const former = await machine.sh(own);
      await machine.sh(silencing("-I"));
      await joinInSession({ ...asGateway, group: "ratings" });
      await starting();
      await machine.sh("kill -TERM $(pgrep -f '^topsail join')");
      expect(await outcome()).toEqual({ code: 1, stderr: "error: ended by SIGTERM\n" });
      await machine.sh(silencing("-D"));
      await machine.until('[ "$(systemctl show -P ActiveState istio-gateway@edge)" = active ]');
      expect(await machine.sh(own)).toBe(former);
      expect(await machine.sh("systemctl is-enabled istio-gateway@edge")).toBe("enabled\n");
      await machine.sh("systemctl disable --now istio-gateway@edge; rm -r /var/lib/istio-gateway/edge");
    });
  });

  it("joins, and neither its session nor names suffer", async () => {
    const session = await joinInSession();
    const heard = textOf(session);
    await once(session, "end");
    expect(heard.text).toMatch(/^joining workload group shop\/ratings\n\.{10}\njoined\n$/);
    expect(await outcome()).toEqual({ code: 0, stderr: "" });
    await machine.sh(`${rules}; systemctl is-active istio; systemctl is-enabled istio; [ ! -e /var/lib/istio/join-journal.json ]`);
    expect(await machine.sh("iptables-save")).toMatch(/-A ISTIO_INBOUND .*--dport 2222 -j RETURN/);
    expect((await machine.exec(["systemctl", "is-active", "istio-join-guard-istio.timer"])).stdout).toBe("inactive\n");
    expect(await machine.sh("topsail join --roll-back")).toBe("nothing to roll back\n");
  });
});
