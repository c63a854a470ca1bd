import type { ProxyServer } from "../server.ts";
import type { AdminHandler, AdminResponse } from "./admin-handler.ts";

const usage = `usage: /logging?<name>=<level> (change single level)
usage: /logging?paths=name1:level1,name2:level2,... (change multiple levels)
usage: /logging?level=<level> (change all levels)
usage: /logging?group=<group_name>:<level> (change group of loggers)
levels: trace debug info warning error critical off 
`;

export const logging: AdminHandler = {
  path: "/logging",
  help: "query/change logging levels",
  mutates: true,
  params: [
    ["paths", "Change several levels: <logger1>:<level1>,<logger2>:<level2>"],
    ["group", "Change one logger: <logger>:<level>"],
    ["level", "Change the level of all loggers; One of (trace, debug, info, warning, error, critical, off)"],
  ],
  handle(server, { query }) {
    const reason = change(server, [...query]);
    if (reason === undefined) return list(server);
    return { status: 400, body: `error: ${reason}\n\n${usage}${list(server).body}` };
  },
};

function change(server: ProxyServer, parameters: readonly (readonly [string, string])[]): string | undefined {
  const [first, ...more] = parameters;
  if (!first) return undefined;
  if (more.length > 0) return "invalid number of parameters";
  const [name, value] = first;
  switch (name) {
    case "level":
      return value === "" || server.levels.setAll(value) ? undefined : "unknown logger level";
    case "paths":
    case "group": {
      const pairs = value.split(",").map((pair) => pair.split(":"));
      // All or nothing: what is wrong is found before anything is changed.
      const before = new Map(server.levels.list());
      for (const [logger = "", level = ""] of pairs) {
        const reason = server.levels.set(logger, level);
        if (reason === undefined) continue;
        for (const [known, old] of before) server.levels.set(known, old);
        return reason;
      }
      return undefined;
    }
    default:
      return server.levels.set(name, value);
  }
}

function list(server: ProxyServer): AdminResponse {
  const lines = server.levels.list().map(([name, level]) => `  ${name}: ${level}\n`);
  return { body: `active loggers:\n${lines.join("")}\n` };
}
