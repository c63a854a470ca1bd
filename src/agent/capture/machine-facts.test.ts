import { describe, expect, it } from "vitest";
import { passesByNameServers } from "./machine-facts.ts";

describe("passesByNameServers", () => {
  it.each([
    ["Debian's", "passwd: files\nhosts:          files dns\n", false],
    ["Ubuntu's", "hosts: files mdns4_minimal [NOTFOUND=return] dns\n", false],
    ["Fedora's", "hosts:      files myhostname resolve [!UNAVAIL=return] dns\n", true],
    ["one without DNS", "hosts: files resolve # dns\n", true],
    ["one that asks nameservers first", "hosts: files dns resolve\n", false],
    ["one that does so for something else", "# hosts: files resolve\nnetworks: resolve\nhosts: files dns\n", false],
    ["none", "", false],
  ])("reads nsswitch.conf: %s", (_, text, expected) => {
    expect(passesByNameServers(text)).toBe(expected);
  });
});
