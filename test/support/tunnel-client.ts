/** A client of a listener whose connections go through a tunnel: what it says and hears, and the line in the proxy's access log. */
import { readFileSync } from "node:fs";
import { eventually, type RunningProxy } from "./proxies.ts";
import { RawConnection } from "./raw-client.ts";

export interface TunnelTalk {
  /** Listener, and what its lines in the log begin with. */
  readonly name: string;
  readonly said: string;
  /** What comes back; "": the connection's end is waited for. */
  readonly wanted: string;
  /** Default: end. */
  readonly leave?: "end" | "reset";
}

export interface TunnelTalkSeen {
  readonly answer: string;
  /** Whether the proxy closed the connection; undefined where it was reset from here. */
  readonly isClosed: boolean | undefined;
  readonly line: string;
}

/** `separator` stands behind the name in the log. */
export async function talkThrough(
  proxy: RunningProxy,
  logFile: string,
  separator: string,
  { name, said, wanted, leave = "end" }: TunnelTalk,
): Promise<TunnelTalkSeen> {
  const log = () => readFileSync(logFile, { encoding: "utf8", flag: "a+" }).trimEnd().split("\n");
  const before = log().length;
  using connection = await RawConnection.open(await proxy.listenerPort(name));
  if (said !== "") connection.write(said);
  if (wanted === "") await connection.closes();
  else await connection.until((received) => received.toString("latin1").endsWith(wanted));
  if (leave === "reset") connection.socket.resetAndDestroy();
  else connection.socket.end();
  const isClosed = leave === "reset" ? undefined : await connection.closes();
  const line = await eventually(
    () =>
      log()
        .slice(before - 1)
        .find((one) => one.startsWith(name + separator)),
    () => `${proxy.name}: ${log().join("\n")}`,
  );
  return { answer: connection.received.toString("latin1"), isClosed, line };
}
