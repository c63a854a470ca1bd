import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Command } from "commander";
import { describe, expect, it } from "vitest";
import { RequestError, requestCommands } from "./request-command.ts";

const run = (...args: string[]) => {
  const program = new Command().exitOverride();
  for (const command of requestCommands()) program.addCommand(command);
  return program.parseAsync(args, { from: "user" });
};

describe("pilot-agent wait", () => {
  it("ends when the answer is 200, and not with another one", async () => {
    let asked = 0;
    const server = createServer((_, response) => response.writeHead(++asked < 3 ? 503 : 200).end());
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    await run("wait", "--url", url, "--periodMillis", "10");
    expect(asked).toBe(3);
    server.close();
  });

  it("gives up in time and says why", async () => {
    await expect(run("wait", "--url", "http://127.0.0.1:1/", "--periodMillis", "10", "--timeoutSeconds", "1")).rejects.toThrow(
      /not ready after 1 s: http:\/\/127\.0\.0\.1:1\/: /,
    );
  });

  it.each([
    [["--periodMillis", "0"], '--periodMillis: "0" is no number from 1'],
    [["--timeoutSeconds", "1m"], '--timeoutSeconds: "1m" is no number from 1'],
    [["--url", "ready"], '--url: "ready" is no URL'],
  ])("refuses %j", async (flags, message) => {
    await expect(run("wait", ...flags)).rejects.toThrow(new RequestError(message));
  });
});

describe("pilot-agent request", () => {
  it("asks its own ports alone", async () => {
    await expect(run("request", "GET", "/", "--debug-port", "22")).rejects.toThrow(
      "--debug-port: 22 is none of 15000, 15004, 15020, 15021, 15100, 15120, 15121, 15200, 15220, 15221",
    );
    // Of an east-west gateway, which is hardly here.
    await expect(run("request", "GET", "/", "--debug-port", "15200").catch((error: Error) => error.message)).resolves.not.toContain(
      "none of",
    );
  });
});
