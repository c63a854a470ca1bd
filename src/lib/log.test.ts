import { describe, expect, it } from "vitest";
import { createLog } from "./log.ts";

describe("log", () => {
  const made = () => {
    const lines: string[] = [];
    const log = createLog({ write: (line) => lines.push(line), now: () => new Date(0) });
    return { log, lines };
  };

  it("takes levels of scopes, of those to come as well", () => {
    const { log, lines } = made();
    const early = log.scope("dns");
    expect(log.setLevels("default:warn,dns:debug,ads:error")).toBeUndefined();
    early.debug("one");
    log.scope("other").info("not said");
    log.scope("ads").warn("not said");
    expect(lines).toEqual(["1970-01-01T00:00:00.000Z\tdebug\tdns\tone\n"]);
    expect(log.setLevels("debug")).toBeUndefined();
    log.scope("ads").debug("two");
    expect(lines).toHaveLength(2);
  });

  it("changes nothing for a level that there is not", () => {
    const { log, lines } = made();
    for (const [text, word] of [
      ["loud", "loud"],
      ["dns:debug,ads:loud", "ads:loud"],
      [":debug", ":debug"],
    ] as const)
      expect(log.setLevels(text)).toBe(word);
    log.scope("dns").debug("not said");
    expect(lines).toEqual([]);
  });

  it("can speak JSON", () => {
    const { log, lines } = made();
    const scope = log.scope("dns");
    log.setFormat("json");
    scope.info("hello\nthere", { error: new Error("e") });
    expect(JSON.parse(lines[0]!)).toEqual({
      level: "info",
      time: "1970-01-01T00:00:00.000Z",
      scope: "dns",
      msg: "hello\nthere",
      error: "e",
    });
  });
});
