import { X509Certificate } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { beforeAll, describe, expect, it } from "vitest";
import { makeCertificate, type TestCertificate } from "../../../test/support/certificate.ts";
import { run } from "../main.ts";

async function istioctl(args: readonly string[], stdin = ""): Promise<{ code: number; out: string; err: string }> {
  const out: string[] = [];
  const err: string[] = [];
  const streams = { out: (text: string) => void out.push(text), err: (text: string) => void err.push(text) };
  const code = await run(args, { ...streams, readStdin: async () => new TextEncoder().encode(stdin) });
  return { code, out: out.join(""), err: err.join("") };
}

describe("istioctl proxy-config secret", () => {
  let made: TestCertificate;
  let dump: string;
  beforeAll(() => {
    made = makeCertificate("web.example");
    const inline = (text: string) => ({ inline_bytes: Buffer.from(text).toString("base64") });
    dump = JSON.stringify({
      configs: [
        { "@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump" },
        {
          "@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump",
          dynamic_active_secrets: [
            {
              name: "default",
              secret: { tls_certificate: { certificate_chain: inline(made.certificate), private_key: inline("[redacted]") } },
            },
            { name: "ROOTCA", secret: { validation_context: { trusted_ca: inline(made.certificate) } } },
          ],
          dynamic_warming_secrets: [{ name: "kubernetes://late", secret: { name: "kubernetes://late" } }],
        },
      ],
    });
  });

  it("shows what a proxy has and what it waits for, in Istio's columns", async () => {
    const { serialNumber, validFromDate, validToDate } = new X509Certificate(made.certificate);
    const at = (date: Date) => date.toISOString().replace(".000Z", "Z");
    const { code, out } = await istioctl(["proxy-config", "secret", "-f", "-"], dump);
    expect(code).toBe(0);
    const rows = out
      .trimEnd()
      .split("\n")
      .map((line) => line.split(/ {2,}/));
    expect(rows).toEqual([
      ["RESOURCE NAME", "TYPE", "STATUS", "VALID CERT", "SERIAL NUMBER", "NOT AFTER", "NOT BEFORE"],
      ["kubernetes://late", "WARMING", "false", ""],
      ["default", "CA", "ACTIVE", "true", serialNumber.toLowerCase(), at(validToDate), at(validFromDate)],
      ["ROOTCA", "CA", "ACTIVE", "true", serialNumber.toLowerCase(), at(validToDate), at(validFromDate)],
    ]);
  });

  it("asks the proxy of this machine, and prints its dump as JSON", async () => {
    const admin = createServer((_, response) => response.end(dump));
    await new Promise<void>((resolve) => admin.listen(0, "127.0.0.1", resolve));
    const port = String((admin.address() as AddressInfo).port);
    const { out } = await istioctl(["pc", "s", "--proxy-admin-port", port, "-o", "json"]);
    expect(JSON.parse(out)).toMatchObject({ dynamicActiveSecrets: [{ name: "default" }, { name: "ROOTCA" }] });
    admin.close();
  });

  it.each([
    ["no JSON", ["-f", "-"], "{", "Error: the config dump is no JSON"],
    ["a dump without secrets", ["-f", "-"], '{"configs":[]}', "Error: the config dump has no SecretsConfigDump"],
    ["a file that is not there", ["-f", "/nonexistent"], "", "Error: /nonexistent can't be read"],
    ["nobody at the port", ["--proxy-admin-port", "1"], "", "Error: no proxy can be asked at http://127.0.0.1:1/config_dump"],
    ["a port that is none", ["--proxy-admin-port", "x"], "", "Error: --proxy-admin-port x is no port"],
    ["a workload's name and a file", ["web-1", "-f", "-"], "", "Error: either a name or --file, not both"],
    ["a workload's name and no API", ["web-1", "--kubeconfig", "/nonexistent"], "", "Error: kubeconfig /nonexistent can't be read"],
    [
      "another format",
      ["-f", "-", "-o", "xml"],
      '{"configs":[{"@type":"x.SecretsConfigDump"}]}',
      'Error: output format "xml" not supported',
    ],
  ])("says so when there is %s", async (_, args, stdin, message) => {
    const { code, err } = await istioctl(["proxy-config", "secret", ...args], stdin);
    expect(code).not.toBe(0);
    expect(err).toContain(message);
  });

  it("says so when the proxy has none", async () => {
    const { out } = await istioctl(["pc", "s", "-f", "-"], '{"configs":[{"@type":"x.SecretsConfigDump"}]}');
    expect(out).toBe("No active or warming secrets found.\n");
  });
});
