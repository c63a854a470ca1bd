import { describe, expect, it } from "vitest";
import { formatHostPort, HostPortError, parseHostPort } from "./host-port.ts";

describe("parseHostPort", () => {
  it.each([
    ["127.0.0.1:80", { host: "127.0.0.1", port: 80 }],
    ["istiod.svc:15012", { host: "istiod.svc", port: 15012 }],
    ["[::1]:80", { host: "::1", port: 80 }],
    [":0", { host: "", port: 0 }],
  ])("takes %s to listen on", (text, wanted) => {
    expect(parseHostPort(text, "--addr", "listen")).toEqual(wanted);
    expect(formatHostPort(wanted)).toBe(text);
  });

  it.each([
    ["nowhere", '"nowhere" is not host:port'],
    ["", '"" is not host:port'],
    ["[::1]80", '"[::1]80" is not host:port'],
    ["::1:80", '"::1:80" is not host:port: an IPv6 address stands in brackets, [::1]:80'],
    ["a:", '"a:" is not host:port: the port must be from 1 to 65535'],
    ["a:http", '"a:http" is not host:port: the port must be from 1 to 65535'],
    ["a:65536", '"a:65536" is not host:port: the port must be from 1 to 65535'],
    ["a:0", '"a:0" is not host:port: the port must be from 1 to 65535'],
    [":80", '":80" is not host:port: the host is missing'],
    ["[]:80", '"[]:80" is not host:port: the host is missing'],
  ])("says what is wrong with %s to connect to, and in which field", (text, reason) => {
    const error = (() => {
      try {
        return parseHostPort(text, "discoveryAddress", "connect");
      } catch (error) {
        return error;
      }
    })();
    expect(error).toBeInstanceOf(HostPortError);
    expect(error).toMatchObject({ reason, message: `discoveryAddress: ${reason}` });
  });
});
