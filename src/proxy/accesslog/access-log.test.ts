import { existsSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";
import { create, type JsonObject, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { AnySchema } from "@bufbuild/protobuf/wkt";
import { afterEach, describe, expect, it } from "vitest";
import { type AccessLogFilterSchema, AccessLogSchema, ComparisonFilter_Op } from "../../api/gen/envoy/config/accesslog/v3/accesslog_pb.js";
import { FileAccessLogSchema } from "../../api/gen/envoy/extensions/access_loggers/file/v3/file_pb.js";
import { responseFlags, type StreamInfo } from "../stream-info.ts";
import { compileAccessLog } from "./access-log.ts";
import { compileFormat, compileJsonFormat, defaultTextFormat } from "./format.ts";
import { AccessLogSinks } from "./sinks.ts";

/** A request that was answered; what a test is about is changed. */
function streamInfo(changes: Partial<StreamInfo> = {}): StreamInfo {
  return {
    connection: {
      id: 7,
      remoteAddress: "10.0.0.1:1234",
      directRemoteAddress: "10.0.0.1:1234",
      localAddress: "10.0.0.2:80",
      directLocalAddress: "10.0.0.2:80",
      requestedServerName: "",
      filterChainName: "",
      tls: null,
      localCloseReason: "",
      transportFailureReason: "",
      terminationDetails: "",
      filterState: null,
    },
    protocol: "HTTP/1.1",
    startTimeEpochMs: Date.UTC(2026, 10, 24, 15, 4, 5, 67),
    startTime: 1000,
    requestEndTime: 1000.5,
    upstreamFirstRequestByteTime: 1001,
    upstreamLastRequestByteTime: 1002,
    upstreamFirstResponseByteTime: 1020.9,
    upstreamLastResponseByteTime: 1021,
    downstreamFirstResponseByteTime: 1021,
    endTime: 1021.8,
    requestHeaders: ["user-agent", "curl/8", "x-forwarded-for", "10.0.0.1", "x-request-id", "id-1"],
    responseHeaders: ["x-envoy-upstream-service-time", "19"],
    responseTrailers: [],
    method: "GET",
    path: "/a?q=1",
    authority: "host",
    scheme: "http",
    responseCode: 200,
    responseCodeDetails: "via_upstream",
    flags: 0,
    bytesReceived: 3,
    bytesSent: 5,
    requestHeaderBytes: 100,
    responseHeaderBytes: 90,
    upstreamWireBytesSent: 0,
    upstreamWireBytesReceived: 0,
    downstreamWireBytesReceived: 0,
    downstreamWireBytesSent: 0,
    downstreamRemoteAddress: "10.0.0.1:1234",
    routeName: "",
    virtualClusterName: "",
    upstreamCluster: "seen",
    upstreamClusterRaw: "raw",
    upstreamHost: "10.0.0.3:8080",
    upstreamHostName: "",
    upstreamLocalAddress: "10.0.0.2:40000",
    upstreamProtocol: "HTTP/1.1",
    upstreamTransportFailureReason: "",
    upstreamAttempts: 1,
    upstreamConnectionId: 3,
    upstreamTls: null,
    upstreamEndpoint: null,
    downstreamPeer: undefined,
    upstreamPeer: undefined,
    localReplyBody: "",
    isHealthCheck: false,
    dynamicMetadata: null,
    filterState: null,
    ...changes,
  };
}

const text = (format: string, changes: Partial<StreamInfo> = {}, options = {}) => compileFormat(format, options)(streamInfo(changes));

describe("compileFormat", () => {
  it("writes Envoy's default line", () => {
    expect(text(defaultTextFormat)).toBe(
      '[2026-11-24T15:04:05.067Z] "GET /a?q=1 HTTP/1.1" 200 - 3 5 21 19 "10.0.0.1" "curl/8" "id-1" "host" "10.0.0.3:8080"\n',
    );
  });

  it.each([
    ["%REQ(X-MISSING?USER-AGENT)%", "curl/8"],
    ["%REQ(USER-AGENT):4%", "curl"],
    ["%REQ(USER-AGENT):0%", ""],
    ["%REQ(X-MISSING)%", "-"],
    ["100%% of %PROTOCOL%", "100% of HTTP/1.1"],
    ["%START_TIME(%Y/%m/%d %H:%M:%S.%3f %s %a %b %e %j)%", "2026/11/24 15:04:05.067 1795532645 Tue Nov 24 328"],
    ["%START_TIME(%E3S|%E*S|%Ez|%f|%1f)%", "05.067|05.067|+00:00|067000000|0"],
    ["%REQUEST_DURATION%|%REQUEST_TX_DURATION%|%RESPONSE_DURATION%|%RESPONSE_TX_DURATION%", "0|2|20|0"],
    ["%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%", "21799"],
    ["%UPSTREAM_CLUSTER%|%UPSTREAM_CLUSTER_RAW%|%UPSTREAM_HOST_NAME%", "seen|raw|10.0.0.3:8080"],
    ["%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%|%DOWNSTREAM_REMOTE_PORT%|%UPSTREAM_LOCAL_PORT%", "10.0.0.1|1234|40000"],
    ["%PATH(NQ)%|%QUERY_PARAM(q)%|%QUERY_PARAM(z)%|%QUERY_PARAMS%", "/a|1|-|q=1"],
    ["%ENVIRONMENT(NO_SUCH_VARIABLE_HERE)%", "-"],
    ["%ACCESS_LOG_TYPE%|%CONNECTION_ID%|%LOCAL_REPLY_BODY%", "NotSet|7|"],
  ])("prints %s as %s", (format, expected) => {
    expect(text(format)).toBe(expected);
  });

  it("prints flags by their short and long names, joined", () => {
    const flags = responseFlags.UpstreamConnectionFailure | responseFlags.UpstreamRetryLimitExceeded;
    expect(text("%RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%", { flags })).toBe("URX,UF UpstreamRetryLimitExceeded,UpstreamConnectionFailure");
    expect(text("%RESPONSE_FLAGS%", { flags, protocol: null })).toBe("UF,URX");
  });

  it("shows an address without a port, as X-Forwarded-For gives it, with port 0", () => {
    expect(text("%DOWNSTREAM_REMOTE_ADDRESS%", { downstreamRemoteAddress: "1.2.3.4" })).toBe("1.2.3.4:0");
    expect(text("%DOWNSTREAM_REMOTE_ADDRESS%", { downstreamRemoteAddress: "2001:db8::1" })).toBe("[2001:db8::1]:0");
  });

  it("shows the gRPC status of gRPC calls only", () => {
    const grpc = { requestHeaders: ["content-type", "application/grpc"], responseTrailers: ["grpc-status", "5"] };
    expect(text("%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%", grpc)).toBe("NotFound NOT_FOUND 5");
    expect(text("%GRPC_STATUS%", { responseTrailers: ["grpc-status", "5"] })).toBe("-");
    expect(text("%GRPC_STATUS_NUMBER%", { ...grpc, responseTrailers: [], responseCode: 503 })).toBe("14");
  });

  it("prints nothing for what is missing when asked to omit it", () => {
    expect(text("[%REQ(X-MISSING)%]", {}, { omitEmpty: true })).toBe("[]");
  });

  it("reads dynamic metadata by path", () => {
    const dynamicMetadata = new Map([["ns", { a: { b: 1 }, s: "x" }]]);
    expect(text("%DYNAMIC_METADATA(ns:a:b)% %DYNAMIC_METADATA(ns:a)% %DYNAMIC_METADATA(ns:no)%", { dynamicMetadata })).toBe('1 {"b":1} -');
  });

  it.each([
    ["%NOPE%", "Not supported field in StreamInfo: NOPE"],
    ["%REQ%", "REQ requires parameters"],
    ["%REQ(a?b?c)%", "More than 1 alternative header specified in token: a?b?c"],
    ["%PROTOCOL:3%", "PROTOCOL does not take any parameters or length"],
    ["50% off", "Incorrect configuration: 50% off. Couldn't find valid command at position 2"],
    ["%REQ_WITHOUT_QUERY(:PATH)%", "Not supported field in StreamInfo: REQ_WITHOUT_QUERY"],
    ["%CEL(request.path)%", "CEL is not supported by this proxy"],
  ])("refuses %s: %s", (format, message) => {
    expect(() => compileFormat(format)).toThrow(message);
  });
});

describe("compileJsonFormat", () => {
  const json = (format: JsonObject, options = {}) => compileJsonFormat(format, options)(streamInfo());

  it("sorts keys, keeps numbers, and joins what is more than one operator", () => {
    expect(json({ b: "%RESPONSE_CODE%", a: { d: "%DURATION% ms", c: "%REQ(X-MISSING)%" }, l: ["%PROTOCOL%", true] })).toBe(
      '{"a":{"c":null,"d":"21 ms"},"b":200,"l":["HTTP/1.1",true]}\n',
    );
  });

  it("leaves out what is missing when asked to", () => {
    expect(json({ a: "%REQ(X-MISSING)%", b: { c: "%REQ(X-MISSING)%" }, d: "x%REQ(X-MISSING)%y" }, { omitEmpty: true })).toBe(
      '{"d":"xy"}\n',
    );
  });

  it("stays JSON whatever bytes a header holds", () => {
    const format = compileJsonFormat({ agent: "%REQ(USER-AGENT)%" });
    const line = (agent: string) => Buffer.from(format(streamInfo({ requestHeaders: ["user-agent", agent] })), "latin1").toString("utf8");
    expect(JSON.parse(line('"quote"\\'))).toEqual({ agent: '"quote"\\' });
    expect(JSON.parse(line(Buffer.from("grün").toString("latin1")))).toEqual({ agent: "grün" });
    expect(JSON.parse(line("\xff\xfe"))).toEqual({ agent: "\u00ff\u00fe" });
  });
});

describe("compileAccessLog", () => {
  const stacks: AsyncDisposableStack[] = [];
  afterEach(async () => {
    for (const stack of stacks.splice(0)) await stack.disposeAsync();
  });

  function scratch() {
    const stack = new AsyncDisposableStack();
    stacks.push(stack);
    const directory = mkdtempSync(path.join(tmpdir(), "topsail-log-"));
    stack.defer(() => rmSync(directory, { recursive: true }));
    const sinks = stack.use(new AccessLogSinks({ flushIntervalMs: 60_000 }));
    return { file: path.join(directory, "access.log"), sinks };
  }

  const config = (file: string, filter?: MessageInitShape<typeof AccessLogFilterSchema>) =>
    create(AccessLogSchema, {
      name: "file",
      configType: {
        case: "typedConfig",
        value: create(AnySchema, {
          typeUrl: `type.googleapis.com/${FileAccessLogSchema.typeName}`,
          value: toBinary(
            FileAccessLogSchema,
            create(FileAccessLogSchema, { path: file, accessLogFormat: { case: "format", value: "%RESPONSE_CODE%\n" } }),
          ),
        }),
      },
      ...(filter !== undefined && { filter }),
    });

  it("collects lines and writes them when flushed", async () => {
    const { file, sinks } = scratch();
    const log = compileAccessLog(config(file), { sinks });
    log.write(streamInfo());
    log.write(streamInfo({ responseCode: 404 }));
    expect(readFileSync(file, "utf8")).toBe("");
    await sinks.flush();
    expect(readFileSync(file, "utf8")).toBe("200\n404\n");
  });

  it("writes to a new file after a rotation, and loses nothing", async () => {
    const { file, sinks } = scratch();
    const log = compileAccessLog(config(file), { sinks });
    log.write(streamInfo());
    renameSync(file, `${file}.1`);
    sinks.reopen();
    await sinks.flush();
    log.write(streamInfo({ responseCode: 503 }));
    await sinks.flush();
    expect([readFileSync(`${file}.1`, "utf8"), readFileSync(file, "utf8")]).toEqual(["200\n", "503\n"]);
  });

  it("shares a file among loggers, and writes what is left when the last one closes", async () => {
    const { file, sinks } = scratch();
    const [first, second] = [compileAccessLog(config(file), { sinks }), compileAccessLog(config(file), { sinks })];
    first.write(streamInfo());
    first.close();
    second.write(streamInfo({ responseCode: 201 }));
    second.close();
    await sinks[Symbol.asyncDispose]();
    expect(readFileSync(file, "utf8")).toBe("200\n201\n");
  });

  it("only looks whether the file can be opened when it validates", () => {
    const { file } = scratch();
    const sinks = new AccessLogSinks({ flushIntervalMs: 1, validateOnly: true });
    compileAccessLog(config(file), { sinks }).write(streamInfo());
    expect(existsSync(file)).toBe(true);
    expect(() => compileAccessLog(config("/no/such/directory/log"), { sinks })).toThrow(
      "unable to open file '/no/such/directory/log': No such file or directory",
    );
  });

  it("filters by status, flags and their combinations", async () => {
    const { file, sinks } = scratch();
    const atLeast = (status: number) => ({
      filterSpecifier: {
        case: "statusCodeFilter" as const,
        value: { comparison: { op: ComparisonFilter_Op.GE, value: { defaultValue: status, runtimeKey: "k" } } },
      },
    });
    const anyFlag = { filterSpecifier: { case: "responseFlagFilter" as const, value: { flags: ["UF"] } } };
    const either = { filterSpecifier: { case: "orFilter" as const, value: { filters: [atLeast(500), anyFlag] } } };
    const log = compileAccessLog(config(file, either), { sinks });
    log.write(streamInfo({ responseCode: 200 }));
    log.write(streamInfo({ responseCode: 404 }));
    log.write(streamInfo({ responseCode: 418, flags: responseFlags.UpstreamConnectionFailure }));
    log.write(streamInfo({ responseCode: 500 }));
    await sinks.flush();
    expect(readFileSync(file, "utf8")).toBe("418\n500\n");
  });

  it("refuses a logger that it does not have", () => {
    const { file, sinks } = scratch();
    const other = config(file);
    if (other.configType.case === "typedConfig") other.configType.value.typeUrl = "type.googleapis.com/x.Unknown";
    expect(() => compileAccessLog(other, { sinks })).toThrow(
      "Didn't find a registered implementation for 'file' with type URL: 'x.Unknown'",
    );
  });
});
