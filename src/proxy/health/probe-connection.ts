/** A connection for health checks: TCP, and TLS as the cluster's requests have it. */
import type * as net from "node:net";
import { openSocket } from "../upstream/open-socket.ts";
import type { ProbeTarget } from "./health-probe.ts";

/** `done` hears once: of a connection that is ready for use, or why there is none. The result of the call ends the attempt. */
export function openProbeConnection(
  target: ProbeTarget,
  speaks: "http1" | "http2",
  done: (error: Error | null, socket: net.Socket | null) => void,
): () => void {
  let isOver = false;
  const { address, port, announcement } = target;
  const destination = { description: { address, port, otherAddresses: [], announcedTlvs: [] }, transportSocket: { announcement } };
  const raw = openSocket(destination, { config: target.socket, client: null });
  const finish = (error: Error | null, socket: net.Socket | null) => {
    if (isOver) return;
    isOver = true;
    if (error !== null) raw.destroy();
    done(error, socket);
  };
  const fail = (error: Error) => finish(error, null);
  const closed = () => fail(new Error("connection closed"));
  raw.on("error", fail);
  raw.once("close", closed);
  const abandon = () => {
    isOver = true;
    raw.on("error", () => {});
    raw.destroy();
  };
  const ready = (socket: net.Socket) => {
    for (const each of new Set([raw, socket])) {
      each.off("error", fail);
      each.off("close", closed);
    }
    if (raw !== socket) raw.on("error", () => {});
    finish(null, socket);
  };
  const { tls } = target;
  if (tls === null) {
    raw.once("connect", () => ready(raw));
    return abandon;
  }
  const speaksHttp2 = speaks === "http2";
  const alpn = speaksHttp2 ? ["h2"] : [];
  const secured = tls.connect(raw, { peer: target.key, serverName: tls.sni, alpn, speaksHttp2, offer: target.alpn });
  if (secured === null) {
    process.nextTick(() => fail(new Error("a secret is missing")));
    return abandon;
  }
  secured.on("error", fail);
  secured.once("close", closed);
  secured.once("secureConnect", () => {
    const problem = tls.verify(secured, "");
    if (problem === null) ready(secured);
    else fail(new Error(problem));
  });
  return () => {
    secured.on("error", () => {});
    secured.destroy();
    abandon();
  };
}
