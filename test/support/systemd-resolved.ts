/** A real systemd-resolved from Debian's package, unpacked and not installed. It runs in a namespace whose files it may change. */
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const user = "systemd-resolve";

export interface SystemdResolved {
  /** Shell commands for the namespace: they mount what it needs over the machine's own. */
  readonly prepare: string;
  readonly program: string;
  /** Its resolv.conf, which names the stub 127.0.0.53. */
  readonly resolvConf: string;
}

/** Undefined, with the reason on stderr, where the package can't be had. */
export function unpackSystemdResolved(directory: string, nameserver: string): SystemdResolved | undefined {
  const program = join(directory, "unpacked/lib/systemd/systemd-resolved");
  try {
    execFileSync("apt-get", ["download", "-qq", "systemd-resolved"], { cwd: directory, stdio: "ignore" });
    execFileSync("sh", ["-c", "dpkg -x systemd-resolved_*.deb unpacked"], { cwd: directory, stdio: "ignore" });
    execFileSync("sh", ["-c", `ldd ${program} | grep -q 'not found' && exit 1 || exit 0`], { stdio: "ignore" });
  } catch (error) {
    process.stderr.write(`skipped: systemd-resolved: ${(error as Error).message}\n`);
    return undefined;
  }
  if (!existsSync(program)) return undefined;
  // It gives up root for a user of its own, which a machine without the package does not have.
  for (const [file, line] of [
    ["passwd", `${user}:x:64997:64997::/:/usr/sbin/nologin`],
    ["group", `${user}:x:64997:`],
  ] as const) {
    writeFileSync(join(directory, file), `${readFileSync(`/etc/${file}`, "utf8")}${line}\n`);
  }
  writeFileSync(join(directory, "resolved.conf"), `[Resolve]\nDNS=${nameserver}\nLLMNR=no\nMulticastDNS=no\nDNSSEC=no\n`);
  chmodSync(directory, 0o755);
  return {
    prepare: [
      ...["passwd", "group"].map((file) => `mount --bind ${join(directory, file)} /etc/${file}`),
      `mkdir -p /run/systemd/resolved.conf.d && cp ${join(directory, "resolved.conf")} /run/systemd/resolved.conf.d/test.conf`,
    ].join(" && "),
    program,
    resolvConf: "/run/systemd/resolve/stub-resolv.conf",
  };
}
