/** How bytes and connections pass; with real connections and filters: test/conformance/bootstrap/rbac-network.yaml. */
import { describe, expect, it } from "vitest";
import type { FirstBytesReader } from "../accepted-socket.ts";
import type { Transport, TransportHandler } from "../transport.ts";
import { type ConnectionSocket, DownstreamConnection } from "./downstream-connection.ts";
import { ListenerDrain } from "./listener-drain.ts";
import type { ConnectionReader, ReadStatus } from "./network-filter.ts";
import { NetworkFilterChain, ReaderGate } from "./network-filter-chain.ts";

/** A handler that writes down what it gets, behind readers that answer one status after the other. */
function gateOf(...answers: ReadStatus[][]) {
  const seen: string[] = [];
  const handler: TransportHandler = {
    onData: (chunk) => seen.push(`handler ${chunk}`),
    onEnd: () => seen.push("handler end"),
    onClose: () => seen.push("handler close"),
    onDrain: () => seen.push("handler drain"),
  };
  const readers = answers.map((statuses, index): ConnectionReader => {
    let next = 0;
    return {
      onData(chunk, endStream) {
        seen.push(`${index} ${endStream ? "end" : chunk}`);
        return statuses[next++] ?? "continue";
      },
    };
  });
  const gate = new ReaderGate(readers, handler);
  const transport = { handler: gate } as unknown as Transport;
  gate.transport = transport;
  const feed = (text: string) => transport.handler.onData(Buffer.from(text));
  return { seen, transport, handler, gate, feed };
}

describe("ReaderGate", () => {
  it("asks readers in order, then the handler", () => {
    const { seen, transport, feed } = gateOf([], []);
    feed("a");
    transport.handler.onEnd();
    expect(seen).toEqual(["0 a", "1 a", "handler a", "0 end", "1 end", "handler end"]);
  });

  it("does not ask a reader again that is done", () => {
    const { seen, feed } = gateOf(["done"], []);
    feed("a");
    feed("b");
    expect(seen).toEqual(["0 a", "1 a", "handler a", "1 b", "handler b"]);
  });

  it("takes itself out when all are done", () => {
    const { seen, transport, handler, gate, feed } = gateOf(["continue", "done"], ["done"]);
    feed("a");
    expect(transport.handler).toBe(gate);
    feed("b");
    expect(transport.handler).toBe(handler);
    feed("c");
    expect(seen).toEqual(["0 a", "1 a", "handler a", "0 b", "handler b", "handler c"]);
  });

  it("passes on what a reader makes of several chunks, and then does without it", () => {
    const { seen, transport, handler, feed } = gateOf(["wait", "wait", Buffer.from("made of it")], ["done"]);
    feed("a");
    feed("b");
    feed("c");
    expect(transport.handler).toBe(handler);
    feed("d");
    expect(seen).toEqual(["0 a", "0 b", "0 c", "1 made of it", "handler made of it", "handler d"]);
  });

  it("asks nobody about nothing that a reader has left", () => {
    const { seen, feed } = gateOf([Buffer.alloc(0)], []);
    feed("a");
    feed("b");
    expect(seen).toEqual(["0 a", "1 b", "handler b"]);
  });

  it("passes on what a reader had kept when the other side ends", () => {
    const { seen, transport, feed } = gateOf(["wait", Buffer.from("kept")], []);
    feed("a");
    transport.handler.onEnd();
    expect(seen).toEqual(["0 a", "0 end", "1 end", "handler kept", "handler end"]);
  });

  it("lets nothing past a reader that stops", () => {
    const { seen, transport, feed } = gateOf(["stop", "stop"], []);
    feed("a");
    transport.handler.onEnd();
    expect(seen).toEqual(["0 a", "0 end"]);
  });

  it("hands on what is no data", () => {
    const { seen, transport } = gateOf(["stop"]);
    transport.handler.onDrain();
    transport.handler.onClose(null);
    expect(seen).toEqual(["handler drain", "handler close"]);
  });
});

describe("NetworkFilterChain", () => {
  function run(closedBy: number | null) {
    const seen: string[] = [];
    const connection = { isClosed: false, readers: null as ConnectionReader[] | null };
    const reader: ConnectionReader = { onData: () => "continue" };
    const filters = [0, 1].map((index) => ({
      name: String(index),
      onConnection() {
        seen.push(`filter ${index}`);
        if (closedBy === index) connection.isClosed = true;
        return index === 0 ? null : reader;
      },
      dispose: () => seen.push(`dispose ${index}`),
    }));
    const terminal = {
      name: "t",
      isTerminal: true,
      onConnection: () => seen.push("terminal"),
      dispose: () => seen.push("dispose terminal"),
    } as const;
    const chain = new NetworkFilterChain(filters, terminal);
    chain.onConnection(connection as unknown as DownstreamConnection);
    return { seen, connection, chain, reader };
  }

  it("shows a connection to the filters in order, and keeps the readers that they return", () => {
    const { seen, connection, reader } = run(null);
    expect(seen).toEqual(["filter 0", "filter 1", "terminal"]);
    expect(connection.readers).toEqual([reader]);
  });

  it("ends with a filter that closes the connection", () => expect(run(0).seen).toEqual(["filter 0"]));

  it("disposes of all", () => {
    const { seen, chain } = run(0);
    chain.dispose();
    expect(seen.slice(1)).toEqual(["dispose 0", "dispose 1", "dispose terminal"]);
  });

  describe("with a filter that lets connections wait", () => {
    function waiting() {
      const seen: string[] = [];
      const filter = (name: string, result: "wait" | null) => ({
        name,
        onConnection(connection: DownstreamConnection) {
          seen.push(name);
          connection.onGoneWaiting = () => seen.push(`${name}: gone`);
          return result;
        },
        dispose() {},
      });
      const terminal = { name: "t", isTerminal: true, onConnection: () => seen.push("terminal"), dispose() {} } as const;
      let reader: FirstBytesReader | null = null;
      const socket = {
        readFirst: (given: FirstBytesReader) => {
          reader = given;
        },
        stopReading() {},
        destroy() {},
      } as unknown as ConnectionSocket;
      const connection = new DownstreamConnection({
        ...{ id: 1, acceptedAtEpochMs: 0, socket, remoteIp: "10.0.0.1", remotePort: 1, localIp: "10.0.0.2", localPort: 2 },
        ...{ remoteAddress: "", directRemoteAddress: "", localAddress: "", directLocalAddress: "" },
        ...{ isRedirected: false, originalSource: null, requestedServerName: "", filterChainName: "", tls: null },
        ...{ drain: new ListenerDrain(), onClosed: () => seen.push("closed") },
      });
      new NetworkFilterChain([filter("a", "wait"), filter("b", "wait")], terminal).onConnection(connection);
      return { seen, connection, reader: () => reader! };
    }

    it("asks those behind when it says so, each once", () => {
      const { seen, connection } = waiting();
      expect(seen).toEqual(["a"]);
      connection.proceed();
      expect(seen).toEqual(["a", "b"]);
      connection.proceed();
      connection.proceed();
      expect(seen).toEqual(["a", "b", "terminal"]);
    });

    it("tells it of a client that is gone, and nobody else", () => {
      const { seen, connection, reader } = waiting();
      reader().onGone();
      expect(seen).toEqual(["a", "a: gone", "closed"]);
      connection.proceed();
      expect(seen).toHaveLength(3);
    });

    it("tells it of a connection that a drain closes", () => {
      const { seen, connection } = waiting();
      connection.shutdown(true);
      expect(seen).toEqual(["a", "a: gone", "closed"]);
    });
  });
});
