import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { parseResolvConf, ResolvConf } from "./resolv-conf.ts";

describe("parseResolvConf", () => {
  it("reads what resolvers read", () => {
    expect(
      parseResolvConf(`# made by hand
; also a comment
domain old.test
nameserver 127.0.0.53
  nameserver	fe80::1%eth0   # the router
nameserver 0.0.0.0
search default.svc.cluster.local. corp.test
options edns0 trust-ad rotate
`),
    ).toEqual({
      nameservers: [
        { host: "127.0.0.53", port: 53 },
        { host: "fe80::1%eth0", port: 53 },
        { host: "127.0.0.1", port: 53 },
      ],
      search: ["default.svc.cluster.local", "corp.test"],
      rotates: true,
    });
  });

  it("takes a port", () => {
    expect(parseResolvConf("nameserver 127.0.0.1:5353\nnameserver [::1]:5353").nameservers).toEqual([
      { host: "127.0.0.1", port: 5353 },
      { host: "::1", port: 5353 },
    ]);
  });

  it.each([
    "",
    "nameserver",
    "nameserver dns.test",
    "nameserver 10.0.0.300",
    "nameserver 10.0.0.1:0",
    "nameserver 10.0.0.1:70000",
    "nameserver :53",
    "search",
  ])("passes over %j", (text) => {
    expect(parseResolvConf(text)).toEqual({ nameservers: [], search: [], rotates: false });
  });
});

describe("ResolvConf", () => {
  let directory: string;
  let path: string;
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "topsail-resolv-"));
    path = join(directory, "resolv.conf");
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  const serversOf = (conf: ResolvConf) => conf.config.nameservers.map(({ host }) => host);
  const start = () => {
    const changes: string[][] = [];
    const conf: ResolvConf = new ResolvConf({ path, intervalMs: 20, onChange: () => changes.push(serversOf(conf)) });
    return { conf, changes, [Symbol.dispose]: () => conf[Symbol.dispose]() };
  };

  it("follows the file, whoever makes it anew and wherever it is a link to", async () => {
    const target = join(directory, "stub-resolv.conf");
    writeFileSync(target, "nameserver 10.0.0.1\n");
    symlinkSync(target, path);
    using running = start();
    expect(serversOf(running.conf)).toEqual(["10.0.0.1"]);
    writeFileSync(target, "nameserver 10.0.0.2\n");
    await expect.poll(() => running.changes).toEqual([["10.0.0.2"]]);
    rmSync(path);
    writeFileSync(path, "nameserver 10.0.0.3\n");
    await expect.poll(() => running.changes.at(-1)).toEqual(["10.0.0.3"]);
  });

  it("keeps the last good state while the file is gone or names nobody, and finds one that comes late", async () => {
    using running = start();
    expect(serversOf(running.conf)).toEqual([]);
    writeFileSync(path, "nameserver 10.0.0.1\n");
    await expect.poll(() => running.changes).toEqual([["10.0.0.1"]]);
    writeFileSync(path, "# nobody\n");
    rmSync(path);
    writeFileSync(path, "# still nobody\n");
    writeFileSync(`${path}.new`, "nameserver 10.0.0.2\n");
    rmSync(path);
    symlinkSync(`${path}.new`, path);
    await expect.poll(() => running.changes.at(-1)).toEqual(["10.0.0.2"]);
    expect(running.changes).toEqual([["10.0.0.1"], ["10.0.0.2"]]);
  });
});
