/** Readiness, draining, and the end. */
import { type AdminHandler, isSet, ok } from "./admin-handler.ts";

export const ready: AdminHandler = {
  path: "/ready",
  help: "print server state, return 200 if LIVE, otherwise return 503",
  handle: (server) => ({ status: server.state === "LIVE" ? 200 : 503, body: `${server.state}\n` }),
};

export const drainListeners: AdminHandler = {
  path: "/drain_listeners",
  help: "drain listeners",
  mutates: true,
  params: [
    ["graceful", "Go on accepting for the drain time (--drain-time-s) before the listeners are closed"],
    ["skip_exit", "Drain the connections, but never close the listeners"],
    ["inboundonly", "Only listeners whose traffic_direction is INBOUND"],
  ],
  async handle(server, { query }) {
    const skipExit = isSet(query, "skip_exit");
    await server.drainListeners({ graceful: skipExit || isSet(query, "graceful"), inboundOnly: isSet(query, "inboundonly"), skipExit });
    return ok;
  },
};

export const healthcheckFail: AdminHandler = {
  path: "/healthcheck/fail",
  help: "cause the server to fail health checks",
  mutates: true,
  handle(server) {
    server.setHealthFailed(true);
    return ok;
  },
};

export const healthcheckOk: AdminHandler = {
  path: "/healthcheck/ok",
  help: "cause the server to pass health checks",
  mutates: true,
  handle(server) {
    server.setHealthFailed(false);
    return ok;
  },
};

export const quit: AdminHandler = {
  path: "/quitquitquit",
  help: "exit the server",
  mutates: true,
  handle(server) {
    // After the answer is out.
    setTimeout(() => server.options.onQuit(), 10);
    return ok;
  },
};

export const reopenLogs: AdminHandler = {
  path: "/reopen_logs",
  help: "reopen access logs",
  mutates: true,
  handle(server) {
    server.reopenLogs();
    return ok;
  },
};
