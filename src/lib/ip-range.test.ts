import { describe, expect, it } from "vitest";
import { IpRange, parseIp } from "./ip-range.ts";

describe("parseIp", () => {
  it.each([
    ["1.2.3.4", [0x01020304]],
    ["255.255.255.255", [0xffffffff]],
    ["::", [0, 0, 0, 0]],
    ["::1", [0, 0, 0, 1]],
    ["1::", [0x00010000, 0, 0, 0]],
    ["2001:db8::8:800:200c:417a", [0x20010db8, 0, 0x00080800, 0x200c417a]],
    ["1:2:3:4:5:6:7:8", [0x00010002, 0x00030004, 0x00050006, 0x00070008]],
    ["::ffff:10.1.2.3", [0, 0, 0xffff, 0x0a010203]],
    ["fe80::1%eth0", [0xfe800000, 0, 0, 1]],
  ])("reads %s", (text, words) => expect(parseIp(text)).toEqual(words));

  it.each(["", "1.2.3", "1.2.3.4:80", "1.2.3.256", "::g", "host"])("refuses %j", (text) => expect(parseIp(text)).toBeNull());
});

describe("IpRange", () => {
  const contains = (range: string, length: number, address: string) => new IpRange(parseIp(range)!, length).contains(parseIp(address)!);

  it.each([
    ["10.1.255.255", 9, "10.127.0.0", true],
    ["10.1.255.255", 9, "10.128.0.0", false],
    ["0.0.0.0", 0, "255.0.0.1", true],
    ["255.0.0.0", 1, "128.0.0.1", true],
    ["10.0.0.1", 32, "10.0.0.2", false],
    ["10.0.0.1", 33, "10.0.0.1", true],
    ["10.0.0.1", 33, "10.0.0.2", false],
    ["2001:db8::", 33, "2001:db8:7fff::1", true],
    ["2001:db8::", 33, "2001:db8:8000::", false],
    ["::1", 128, "::1", true],
    ["::1", 128, "::2", false],
    ["::", 0, "1.2.3.4", false],
    ["0.0.0.0", 0, "::1", false],
  ])("%s/%i, %s: %s", (range, length, address, expected) => expect(contains(range, length, address)).toBe(expected));
});
