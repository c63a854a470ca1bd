import { describe, expect, it } from "vitest";
import { ConfigError } from "../../api/config-error.ts";
import { compileUriTemplate } from "./uri-template.ts";

describe("compileUriTemplate", () => {
  it.each([
    ["/a/*/b", "/a/x/b", true],
    ["/a/*/b", "/a/x/b?q=/c", true],
    ["/a/*/b", "/a//b", false],
    ["/a/*/b", "/a/x/y/b", false],
    ["/a/*/b", "/a/x/b/", false],
    ["/a/**", "/a/", true],
    ["/a/**", "/a", false],
    ["/a/**", "/a/b//c", true],
    ["/**/a/b", "/x/y/a/b", true],
    ["/**/a/b", "/a/b", false],
    ["/**.m3u8", "/.m3u8", true],
    ["/*.js", "/a/b.js", false],
    ["/{x}/{y=c/*}", "/1/c/2", true],
    ["/{x}/{y=c/*}", "/1/d/2", false],
    ["/{x=**}/end", "/p/q/end", true],
    ["/a{x}b/c", "/aqb/c", true],
    ["/{x}.js/z", "/a.js/z", true],
    ["/", "/", true],
    ["/", "/a", false],
    ["/a/", "/a/", true],
    ["/a.$(b)+", "/a.$(b)+", true],
    ["/a.b", "/axb", false],
  ])("%s, %s: %s", (template, path, expected) => expect(compileUriTemplate(template).test(path)).toBe(expected));

  it("names what variables stand for", () => {
    expect({ ...compileUriTemplate("/{kind}/{rest=**}").exec("/a/b/c?d")!.groups }).toEqual({ kind: "a", rest: "b/c" });
  });

  // Envoy ends itself over these; over the last ones it doesn't, and takes `*` for a repetition.
  it.each(
    "a /{*} /**/** /**/* /**/{x} /{x}/{x} /{x /{1x} /{aaaaaaaaaaaaaaaaa} /{a}/{b}/{c}/{d}/{e}/{f} /{x=} /{x=a/} /a|b /*.js/a //a /a?b /é /a{x}{y} /**{x} /{x=*b} /{x=/a} /{} /a// /a*b /*** /{x=a*}".split(
      " ",
    ),
  )("refuses %s", (template) => expect(() => compileUriTemplate(template)).toThrow(ConfigError));
});
