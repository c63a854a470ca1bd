/** What capture has to know of the machine it runs on. */
import { readFile } from "node:fs/promises";
import { isIP } from "node:net";
import { machineAddresses } from "../machine-addresses.ts";
import type { MachineFacts } from "./capture-settings.ts";
import { CommandError, type CommandRunner } from "./command-runner.ts";

export async function loadMachineFacts(run: CommandRunner, proxyUser: string): Promise<MachineFacts> {
  const addresses = machineAddresses().map(({ address }) => address);
  return { proxyUser: await findUser(run, proxyUser), addresses, nameServers: await loadNameServers() };
}

export async function findUser(run: CommandRunner, name: string): Promise<MachineFacts["proxyUser"]> {
  try {
    const [, , uid, gid] = (await run("getent", ["passwd", name])).split(":");
    return uid && gid ? { uid, gid } : undefined;
  } catch (error) {
    if (error instanceof CommandError) return undefined;
    throw error;
  }
}

async function loadNameServers(): Promise<string[]> {
  const lines = (await readFile("/etc/resolv.conf", "utf8").catch(() => "")).split("\n");
  return lines
    .map((line) => /^\s*nameserver\s+(?<address>[^\s#;%]+)/.exec(line)?.groups?.address ?? "")
    .filter((address) => isIP(address) !== 0);
}

/**
 * Whether programs look names up at systemd-resolved by its own interface (nss-resolve) and not by queries to a nameserver, which could be
 * captured. `text`: of /etc/nsswitch.conf.
 */
export function passesByNameServers(text: string): boolean {
  const services =
    /^[ \t]*hosts:(?<services>[^#\n]*)/m
      .exec(text)
      ?.groups?.services?.replace(/\[[^\]]*\]/g, "")
      .trim()
      .split(/\s+/) ?? [];
  const [resolve, dns] = [services.indexOf("resolve"), services.indexOf("dns")];
  return resolve >= 0 && (dns < 0 || resolve < dns);
}

export async function loadNameServices(): Promise<string> {
  return await readFile("/etc/nsswitch.conf", "utf8").catch(() => "");
}
