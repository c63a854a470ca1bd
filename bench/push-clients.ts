/**
 * Many sidecars' delta streams in one process, as far as a control plane can tell: each on a connection of its own, taking clusters, endpoints,
 * listeners and routes, and acknowledging everything. Reads no more of a response than that needs, so that a machine that runs both is mostly the
 * control plane's. A child of bench/pushes.ts: told what to look out for, it tells when every client has seen it.
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from "node:http2";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ListenerSchema } from "../src/api/gen/envoy/config/listener/v3/listener_pb.js";
import { HttpConnectionManagerSchema } from "../src/api/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js";
import { DeltaDiscoveryRequestSchema } from "../src/api/gen/envoy/service/discovery/v3/discovery_pb.js";
import { typeUrls } from "../src/api/type-urls.ts";

export interface ClientsTask {
  /** Of the plaintext xDS port. */
  readonly port: number;
  readonly clients: number;
  readonly namespaces: number;
}

/** What the parent asks: be told when all clients have had a resource of the type with this mark in it, one of the form of `marks`. */
export interface LookOut {
  readonly typeUrl: string;
  readonly mark: string;
}

/** In names and values, or as an address of a network that is used for nothing else. */
const marks = /mark-\d+-|10\.20\d\.\d+\.\d+/g;

export type ClientsReport =
  | { readonly kind: "synced"; readonly at: string; readonly bytesEach: number }
  | { readonly kind: "seen"; readonly mark: string; readonly at: string };

const { cds, eds, lds, rds } = typeUrls;

interface Pending {
  readonly mark: string;
  readonly missing: Set<SidecarClient>;
}

/** By type, and mark. */
const lookOuts = new Map<string, Map<string, Pending>>();
let notSynced = 0;
let received = 0;

function tell(report: ClientsReport): void {
  process.send!(report);
}

/** Length-delimited fields of a protobuf message; others are passed over. */
function* fieldsOf(bytes: Buffer): Generator<{ readonly number: number; readonly value: Buffer }> {
  let at = 0;
  const varint = () => {
    let [value, factor] = [0, 1];
    for (;;) {
      const byte = bytes[at++]!;
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value;
      factor *= 128;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    if ((tag & 7) !== 2) throw new Error(`wire type ${tag & 7} in a discovery response`);
    const length = varint();
    yield { number: tag >>> 3, value: bytes.subarray(at, at + length) };
    at += length;
  }
}

const routeNames = new Map<string, readonly string[]>();

/** Route configurations that a listener asks for; found once for all clients that get the same bytes. */
function routesOf(version: string, value: Buffer): readonly string[] {
  const known = routeNames.get(version);
  if (known) return known;
  const { filterChains, defaultFilterChain } = fromBinary(ListenerSchema, value);
  const names = [...filterChains, ...(defaultFilterChain ? [defaultFilterChain] : [])].flatMap(({ filters }) =>
    filters.flatMap(({ configType }) => {
      if (configType.case !== "typedConfig" || !configType.value.typeUrl.endsWith("HttpConnectionManager")) return [];
      const { routeSpecifier } = fromBinary(HttpConnectionManagerSchema, configType.value.value);
      return routeSpecifier.case === "rds" ? [routeSpecifier.value.routeConfigName] : [];
    }),
  );
  routeNames.set(version, names);
  return names;
}

class SidecarClient {
  readonly #stream: ClientHttp2Stream;
  readonly #asked = { [eds]: new Set<string>(), [rds]: new Set<string>() };
  readonly #answered = new Set<string>();
  readonly #chunks: Buffer[] = [];
  #length = 0;
  #isSynced = false;

  constructor(session: ClientHttp2Session, index: number, task: ClientsTask) {
    const headers = {
      ":method": "POST",
      ":path": "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
      "content-type": "application/grpc",
      te: "trailers",
    };
    this.#stream = session.request(headers, { endStream: false });
    this.#stream.on("data", (chunk: Buffer) => this.#onData(chunk));
    this.#stream.on("close", () => {
      process.stderr.write("a stream ended\n");
      process.exit(1);
    });
    const namespace = `ns-${index % task.namespaces}`;
    const ip = `10.9.${index >> 8}.${index & 255}`;
    const id = `sidecar~${ip}~client-${index}.${namespace}~${namespace}.svc.cluster.local`;
    this.#send({ node: { id, metadata: { NAMESPACE: namespace, LABELS: { app: `client-${index}` } } }, typeUrl: cds });
    this.#send({ typeUrl: lds });
  }

  #send(request: { node?: object; typeUrl: string; responseNonce?: string; resourceNamesSubscribe?: string[] }): void {
    const message = toBinary(DeltaDiscoveryRequestSchema, create(DeltaDiscoveryRequestSchema, request));
    const head = Buffer.alloc(5);
    head.writeUInt32BE(message.length, 1);
    this.#stream.write(Buffer.concat([head, message]));
  }

  #onData(chunk: Buffer): void {
    received += chunk.length;
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    while (this.#length >= 5) {
      if (this.#chunks[0]!.length < 5) this.#chunks.splice(0, this.#chunks.length, Buffer.concat(this.#chunks));
      const size = this.#chunks[0]!.readUInt32BE(1) + 5;
      if (this.#length < size) return;
      const all = this.#chunks.length === 1 ? this.#chunks[0]! : Buffer.concat(this.#chunks);
      this.#chunks.length = 0;
      this.#length -= size;
      if (this.#length > 0) this.#chunks.push(all.subarray(size));
      this.#onResponse(all.subarray(5, size));
    }
  }

  #onResponse(bytes: Buffer): void {
    const at = process.hrtime.bigint();
    let [typeUrl, responseNonce] = ["", ""];
    const resources: Buffer[] = [];
    for (const { number, value } of fieldsOf(bytes)) {
      if (number === 2) resources.push(value);
      else if (number === 4) typeUrl = value.toString();
      else if (number === 5) responseNonce = value.toString();
    }
    this.#send({ typeUrl, responseNonce });
    if (typeUrl === cds || typeUrl === lds) this.#subscribe(typeUrl === cds ? eds : rds, resources);
    this.#answered.add(typeUrl);
    if (!this.#isSynced && this.#answered.size === 4) {
      this.#isSynced = true;
      if (--notSynced === 0) tell({ kind: "synced", at: String(at), bytesEach: received / clients });
    }
    const lookedFor = lookOuts.get(typeUrl);
    if (!lookedFor || lookedFor.size === 0) return;
    for (const [mark] of bytes.latin1Slice().matchAll(marks)) {
      const pending = lookedFor.get(mark);
      if (pending) this.#saw(lookedFor, pending, at);
    }
  }

  #subscribe(typeUrl: typeof eds | typeof rds, resources: readonly Buffer[]): void {
    const asked = this.#asked[typeUrl];
    const added: string[] = [];
    for (const resource of resources) {
      let [name, version] = ["", ""];
      let value: Buffer = Buffer.alloc(0);
      for (const field of fieldsOf(resource)) {
        if (field.number === 3) name = field.value.toString();
        else if (field.number === 1) version = field.value.toString();
        else if (field.number === 2) for (const part of fieldsOf(field.value)) if (part.number === 2) value = part.value;
      }
      const names = typeUrl === rds ? routesOf(version, value) : name.startsWith("outbound|") ? [name] : [];
      for (const one of names) {
        if (asked.has(one)) continue;
        asked.add(one);
        added.push(one);
      }
    }
    if (added.length > 0) this.#send({ typeUrl, resourceNamesSubscribe: added });
  }

  #saw(lookedFor: Map<string, Pending>, pending: Pending, at: bigint): void {
    const { mark, missing } = pending;
    missing.delete(this);
    if (missing.size > 0) return;
    lookedFor.delete(mark);
    tell({ kind: "seen", mark, at: String(at) });
  }
}

const task = JSON.parse(process.argv[2]!) as ClientsTask;
const { clients } = task;
notSynced = clients;
const window = 16 * 1024 * 1024;
const all = Array.from({ length: clients }, (_, index) => {
  const session = connect(`http://127.0.0.1:${task.port}`, { settings: { initialWindowSize: window } });
  session.once("connect", () => session.setLocalWindowSize(window));
  return new SidecarClient(session, index, task);
});
process.on("message", ({ typeUrl, mark }: LookOut) => {
  const ofType = lookOuts.get(typeUrl) ?? new Map<string, Pending>();
  lookOuts.set(typeUrl, ofType.set(mark, { mark, missing: new Set(all) }));
});
process.on("disconnect", () => process.exit(0));
