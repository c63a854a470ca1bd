/**
 * Throw-away Linux machines with a real systemd: an overlay on a Debian that is made once, booted by systemd-nspawn in a network
 * namespace of its own, all on one bridge. Needs root and Debian's tools; `machinesProblem` says what is missing.
 *
 *     host 10.99.N.1 ──bridge──┬── machine 10.99.N.11
 *                              └── machine 10.99.N.12        N differs between test runs at the same time
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { closeSync, existsSync, globSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";

/** What a small server of today has; nothing that a package under test should bring itself. */
const packages = ["systemd", "systemd-sysv", "dbus", "iproute2", "iptables", "nftables", "procps", "curl", "ca-certificates"];
const suite = "bookworm";
/** Where their file systems are; of a file system that overlays can be made on. */
export const machineHome = "/var/tmp/topsail-machines";

export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface ExecOptions {
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** A command that takes longer is killed. Default one minute. */
  readonly timeoutMs?: number;
}

/** Why there are no machines here; undefined: there are. */
export function machinesProblem(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root";
  const missing = ["mmdebstrap", "systemd-nspawn", "ip", "nsenter", "iptables"].filter(
    (tool) => spawnSync("sh", ["-c", `command -v ${tool}`]).status !== 0,
  );
  if (missing.length > 0) return `${missing.join(", ")} not found: apt-get install mmdebstrap systemd-container iproute2 iptables`;
  return undefined;
}

/** The file system that machines begin with; made by the first who wants it, kept for the next. */
export async function baseFileSystem(): Promise<string> {
  const key = createHash("sha256")
    .update([suite, ...packages].join())
    .digest("hex")
    .slice(0, 12);
  const base = join(machineHome, `base-${key}`);
  mkdirSync(machineHome, { recursive: true, mode: 0o700 });
  // Several test files may want it at once.
  await using _lock = await lock(`${base}.lock`);
  if (existsSync(join(base, "etc/os-release"))) return base;
  const making = `${base}.new`;
  rmSync(making, { recursive: true, force: true });
  await runToEnd("mmdebstrap", ["--quiet", "--variant=minbase", `--include=${packages.join(",")}`, suite, making]);
  prepareBase(making);
  renameSync(making, base);
  return base;
}

function prepareBase(base: string): void {
  const units = join(base, "etc/systemd/system");
  // What waits for devices, clocks and updates that a machine of a test has not.
  for (const unit of ["console-getty.service", "systemd-timesyncd.service", "apt-daily.timer", "apt-daily-upgrade.timer"]) {
    rmSync(join(units, unit), { force: true });
    execFileSync("ln", ["-s", "/dev/null", join(units, unit)]);
  }
  execFileSync("ln", ["-sfn", "/lib/systemd/system/multi-user.target", join(units, "default.target")]);
  const service = `[Unit]
Description=Address of this machine
DefaultDependencies=no
Before=network.target network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
EnvironmentFile=/etc/machine-address
ExecStart=/bin/ip address replace \${ADDRESS}/24 dev host0
ExecStart=/bin/ip link set host0 up
ExecStart=/bin/ip route replace default via \${GATEWAY}
[Install]
WantedBy=multi-user.target network-online.target
`;
  writeFileSync(join(units, "address.service"), service);
  for (const target of ["multi-user.target", "network-online.target"]) {
    mkdirSync(join(units, `${target}.wants`), { recursive: true });
    execFileSync("ln", ["-sfn", "../address.service", join(units, `${target}.wants/address.service`)]);
  }
  rmSync(join(base, "etc/machine-id"), { force: true });
  writeFileSync(join(base, "etc/machine-id"), "");
}

export class MachineNetwork implements AsyncDisposable {
  /** Of the host on the bridge: what machines call to reach a process of the test. */
  readonly hostAddress: string;
  readonly #bridge: string;
  readonly #prefix: string;
  readonly #machines = new Set<Machine>();

  private constructor(number: number) {
    this.#bridge = `tops${number}`;
    this.#prefix = `10.99.${number}`;
    this.hostAddress = `${this.#prefix}.1`;
  }

  static async start(): Promise<MachineNetwork> {
    // The first number that nobody has; making the bridge takes it.
    for (let number = 1; number < 255; number++) {
      if (spawnSync("ip", ["link", "add", `tops${number}`, "type", "bridge"], { stdio: "ignore" }).status !== 0) continue;
      const network = new MachineNetwork(number);
      execFileSync("ip", ["address", "add", `${network.hostAddress}/24`, "dev", network.#bridge]);
      execFileSync("ip", ["link", "set", network.#bridge, "up"]);
      return network;
    }
    throw new Error("no bridge can be made");
  }

  /** Boots a machine; resolves when systemd has. `last` is the last part of its address, from 2 on. */
  async boot(name: string, last: number): Promise<Machine> {
    const machine = new Machine({
      name,
      address: `${this.#prefix}.${last}`,
      gateway: this.hostAddress,
      bridge: this.#bridge,
      directory: join(machineHome, `${this.#bridge}-${name}`),
      base: await baseFileSystem(),
    });
    this.#machines.add(machine);
    await machine.start();
    return machine;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#machines].map((machine) => machine[Symbol.asyncDispose]()));
    spawnSync("ip", ["link", "delete", this.#bridge], { stdio: "ignore" });
  }
}

interface MachineSettings {
  readonly name: string;
  readonly address: string;
  readonly gateway: string;
  readonly bridge: string;
  readonly directory: string;
  readonly base: string;
}

export class Machine implements AsyncDisposable {
  readonly name: string;
  readonly address: string;
  readonly #settings: MachineSettings;
  #container: ChildProcess | undefined;
  #leader: number | undefined;

  constructor(settings: MachineSettings) {
    this.name = settings.name;
    this.address = settings.address;
    this.#settings = settings;
  }

  /** Where its file system is seen from the host. */
  get root(): string {
    return join(this.#settings.directory, "root");
  }

  async start(): Promise<void> {
    const { directory, base, name, gateway } = this.#settings;
    for (const part of ["upper", "work", "root"]) mkdirSync(join(directory, part), { recursive: true });
    execFileSync("mount", [
      "-t",
      "overlay",
      "overlay",
      "-o",
      `lowerdir=${base},upperdir=${directory}/upper,workdir=${directory}/work`,
      this.root,
    ]);
    writeFileSync(join(this.root, "etc/hostname"), `${name}\n`);
    writeFileSync(join(this.root, "etc/hosts"), `127.0.0.1 localhost\n127.0.1.1 ${name}\n`);
    rmSync(join(this.root, "etc/resolv.conf"), { force: true });
    writeFileSync(join(this.root, "etc/resolv.conf"), `nameserver ${gateway}\n`);
    writeFileSync(join(this.root, "etc/machine-address"), `ADDRESS=${this.address}\nGATEWAY=${gateway}\n`);
    await this.#boot();
  }

  async #boot(): Promise<void> {
    const { directory, name, bridge } = this.#settings;
    const console = openSync(join(directory, "console.log"), "a");
    const args = ["--quiet", "-D", this.root, "-M", this.#machine, "--boot", `--network-bridge=${bridge}`];
    const apart = ["--register=no", "--keep-unit", "--link-journal=no", "--resolv-conf=off", "--timezone=off"];
    const words = [this.#cgroup, ...args, ...apart, "--capability=CAP_NET_ADMIN,CAP_NET_RAW"];
    const container = spawn("sh", ["-c", inOwnCgroup, ...words], {
      // Of its own session: a terminal's Ctrl-C is for the test, which then takes it down.
      detached: true,
      stdio: ["ignore", console, console],
    });
    closeSync(console);
    this.#container = container;
    const ended = new Promise<never>((_, reject) => {
      container.once("error", reject);
      container.once("exit", (code) =>
        reject(new Error(`machine ${name} ended with ${code}:\n${readFileSync(join(directory, "console.log"), "utf8").slice(-2000)}`)),
      );
    });
    ended.catch(() => undefined);
    await Promise.race([this.#booted(), ended]);
  }

  async #booted(): Promise<void> {
    for (let left = 600; left > 0; left--) {
      this.#leader = childOf(this.#container!.pid!);
      if (this.#leader !== undefined) {
        const { stdout } = await this.exec(["systemctl", "is-system-running"]);
        if (/running|degraded/.test(stdout)) return;
      }
      await delay(100);
    }
    throw new Error(`machine ${this.name} did not come up: ${(await this.exec(["systemctl", "list-jobs"])).stdout}`);
  }

  /** Runs a command inside, as root with a plain environment. Whatever comes of it is the outcome. */
  exec(command: readonly string[], { input, env, timeoutMs = 60_000 }: ExecOptions = {}): Promise<Outcome> {
    const variables = {
      PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
      HOME: "/root",
      TERM: "dumb",
      LC_ALL: "C",
      ...env,
    };
    const inside = ["--target", String(this.#leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wdns=/"];
    const assignments = Object.entries(variables).map(([name, value]) => `${name}=${value}`);
    return new Promise((resolve, reject) => {
      const child = spawn("nsenter", [...inside, "--", "/usr/bin/env", "-i", ...assignments, ...command], {
        // In a process group of its own: a script's `kill -9 0` would be the end of the test as well.
        detached: true,
        stdio: ["pipe", "pipe", "pipe"],
      });
      const patience = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
      let stdout = "";
      let stderr = "";
      child.stdout.setEncoding("utf8").on("data", (text: string) => {
        stdout += text;
      });
      child.stderr.setEncoding("utf8").on("data", (text: string) => {
        stderr += text;
      });
      child.once("error", reject);
      child.once("close", (code) => {
        clearTimeout(patience);
        resolve({ code: code ?? 137, stdout, stderr });
      });
      child.stdin.on("error", () => undefined);
      child.stdin.end(input);
    });
  }

  /** Resolves to what a script of sh prints; throws when it fails. */
  async sh(script: string, options: ExecOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.exec(["sh", "-ec", script], options);
    if (code !== 0) throw new Error(`${this.name}: ${script}\nended with ${code}:\n${stdout}${stderr}`);
    return stdout;
  }

  /** Copies a file or a directory of the host into it; directories above are made. */
  async push(from: string, to: string): Promise<void> {
    mkdirSync(join(this.root, to, ".."), { recursive: true });
    await runToEnd("cp", ["-a", "--no-preserve=ownership", from, join(this.root, to)]);
  }

  /** Writes a file inside. */
  async write(path: string, text: string, mode = 0o644): Promise<void> {
    const script = 'mkdir -p "$(dirname "$1")"; umask 077; cat > "$1"; chmod "$2" "$1"';
    const { code, stderr } = await this.exec(["sh", "-ec", script, "sh", path, mode.toString(8)], { input: text });
    if (code !== 0) throw new Error(`${this.name}: ${path}: ${stderr}`);
  }

  /** Resolves when the command succeeds. */
  async until(script: string, timeoutMs = 30_000): Promise<string> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const outcome = await this.exec(["sh", "-ec", script]);
      if (outcome.code === 0) return outcome.stdout;
      if (Date.now() > deadline)
        throw new Error(`${this.name}: ${script}\nstill ends with ${outcome.code}:\n${outcome.stdout}${outcome.stderr}`);
      await delay(50);
    }
  }

  /** A property of a unit: ActiveState, MainPID, StatusText ... */
  async property(unit: string, name: string): Promise<string> {
    return (await this.sh(`systemctl show --property=${name} --value ${unit}`)).trim();
  }

  /** Resolves when the unit is in the state: active, inactive, failed, activating ... */
  async unit(unit: string, state: string, timeoutMs = 30_000): Promise<void> {
    try {
      await this.until(`[ "$(systemctl show --property=ActiveState --value ${unit})" = ${state} ]`, timeoutMs);
    } catch (cause) {
      const { stdout } = await this.exec(["sh", "-c", `systemctl status --no-pager -l ${unit}; journalctl --no-pager -n 60 -u ${unit}`]);
      throw new Error(`${this.name}: ${unit} did not become ${state}:\n${stdout}`, { cause });
    }
  }

  /** Lines that the journal has of a unit. */
  async journal(unit: string): Promise<string> {
    return this.sh(`journalctl --no-pager --output=cat --unit=${unit}`);
  }

  /** Network trouble on its only link: `loss 10%`, `delay 100ms`, `rate 1mbit` as tc-netem reads it; "" ends it. */
  async disturb(netem: string): Promise<void> {
    await this.exec(["tc", "qdisc", "delete", "dev", "host0", "root"]);
    if (netem !== "") await this.sh(`tc qdisc add dev host0 root netem ${netem}`);
  }

  /** Takes the cable out, or puts it back. */
  async setLink(state: "up" | "down"): Promise<void> {
    await this.sh(`ip link set host0 ${state}${state === "up" ? " && systemctl restart address.service" : ""}`);
  }

  /** Off and on again: what was in memory and /run is gone, the disk stays. */
  async reboot(): Promise<void> {
    await this.#powerOff();
    await this.#boot();
  }

  /** As when the power fails: nobody is told. */
  async crash(): Promise<void> {
    const exited = this.#exited();
    this.#container?.kill("SIGKILL");
    if (this.#leader !== undefined) killIfThere(this.#leader);
    await exited;
    this.#removeLink();
    await this.#boot();
  }

  async #powerOff(): Promise<void> {
    const container = this.#container;
    if (!container || container.exitCode !== null || container.signalCode !== null) return;
    const exited = this.#exited();
    // systemd-nspawn asks init for an orderly end, SIGRTMIN+4, which Node has no name for.
    if (this.#leader !== undefined) spawnSync("kill", ["-s", String(34 + 4), String(this.#leader)]);
    const patience = setTimeout(() => {
      container.kill("SIGKILL");
      if (this.#leader !== undefined) killIfThere(this.#leader);
    }, 30_000);
    await exited;
    clearTimeout(patience);
    this.#leader = undefined;
    this.#removeLink();
  }

  /** The kernel takes its time to clear a namespace away, and the link out of it would be in the next one's way. */
  #removeLink(): void {
    spawnSync("ip", ["link", "delete", `vb-${this.#machine}`], { stdio: "ignore" });
  }

  get #machine(): string {
    return `${this.#settings.bridge}-${this.name}`;
  }

  get #cgroup(): string {
    return `topsail-${this.#machine}`;
  }

  #exited(): Promise<void> {
    const container = this.#container!;
    if (container.exitCode !== null || container.signalCode !== null) return Promise.resolve();
    return new Promise((resolve) => container.once("exit", () => resolve()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const container = this.#container;
    if (container && container.exitCode === null && container.signalCode === null) {
      // Its disk goes with it: there is nothing to be orderly about.
      const exited = this.#exited();
      if (this.#leader !== undefined) killIfThere(this.#leader);
      const patience = setTimeout(() => container.kill("SIGKILL"), 5_000);
      await exited;
      clearTimeout(patience);
    }
    if (spawnSync("umount", [this.root], { stdio: "ignore" }).status !== 0) spawnSync("umount", ["-l", this.root], { stdio: "ignore" });
    rmSync(this.#settings.directory, { recursive: true, force: true });
    for (const top of globSync(`/sys/fs/cgroup/{,*/}${this.#cgroup}`))
      spawnSync("find", [top, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]);
  }
}

/**
 * Becomes systemd-nspawn in a control group of the name $0. In the same one the units of all machines would have the same groups, and when one
 * machine stops its istio.service, another's could not start.
 */
const inOwnCgroup = `for procs in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs; do
  group=\${procs%/*}/$0
  [ -w "$procs" ] && mkdir -p "$group" && { echo $$ > "$group/cgroup.procs"; } 2> /dev/null || continue
done
exec systemd-nspawn "$@"`;

function killIfThere(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It has ended by itself.
  }
}

/** The machine's init, as the host sees it: the container's only child. */
function childOf(pid: number): number | undefined {
  const children = globSync(`/proc/${pid}/task/*/children`).map((file) => readFileSync(file, "utf8").trim());
  const [child] = children.join(" ").trim().split(" ");
  return child ? Number(child) : undefined;
}

function runToEnd(command: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"] });
    let complaint = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      complaint += text;
    });
    child.once("error", reject);
    child.once("close", (code) => (code === 0 ? resolve() : reject(new Error(`${command} ended with ${code}: ${complaint.trim()}`))));
  });
}

/** Held by one process at a time; goes with the process. */
async function lock(file: string): Promise<AsyncDisposable> {
  const holder = spawn("flock", [file, "sh", "-c", "echo locked; cat"], { stdio: ["pipe", "pipe", "ignore"] });
  await new Promise<void>((resolve, reject) => {
    holder.once("error", reject);
    holder.stdout.once("data", () => resolve());
  });
  return {
    async [Symbol.asyncDispose]() {
      const exited = new Promise((resolve) => holder.once("exit", resolve));
      holder.stdin.end();
      await exited;
    },
  };
}
