import { describe, expect, it } from "vitest";
import { parseControlPlane } from "./control-plane.ts";

describe("parseControlPlane", () => {
  it.each([
    ["mesh.example.com", "mesh.example.com", 15012],
    ["mesh.example.com:443", "mesh.example.com", 443],
    ["192.0.2.7", "192.0.2.7", 15012],
    ["2001:db8::7", "2001:db8::7", 15012],
    ["[2001:db8::7]", "2001:db8::7", 15012],
    ["[2001:db8::7]:443", "2001:db8::7", 443],
  ])("takes %s", (text, host, port) => {
    expect(parseControlPlane(text)).toEqual({ host, port });
  });

  it.each(["", "mesh.example.com:", "mesh.example.com:x", "a:b:1", "[2001:db8::7]:0"])("refuses %j", (text) => {
    expect(() => parseControlPlane(text)).toThrow("ADDRESS");
  });
});
