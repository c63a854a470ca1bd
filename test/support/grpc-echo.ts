/** A gRPC server with every kind of call, by the official library and without a .proto file: messages are bytes. */
import {
  Metadata,
  type MethodDefinition,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerReadableStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceError,
  type sendUnaryData,
} from "@grpc/grpc-js";

export const bytes = (value: Buffer) => value;
const method = (name: string, requestStream: boolean, responseStream: boolean): MethodDefinition<Buffer, Buffer> => ({
  path: `/test.Echo/${name}`,
  requestStream,
  responseStream,
  requestSerialize: bytes,
  requestDeserialize: bytes,
  responseSerialize: bytes,
  responseDeserialize: bytes,
});
export const service = {
  Unary: method("Unary", false, false),
  ClientStream: method("ClientStream", true, false),
  ServerStream: method("ServerStream", false, true),
  Bidi: method("Bidi", true, true),
};

/** What the server makes of calls; `x-do` in the metadata says more. */
export class EchoServer {
  readonly cancelled: string[] = [];
  readonly #server = new Server({ "grpc.max_receive_message_length": -1 });

  async listen(): Promise<number> {
    this.#server.addService(service, {
      Unary: (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => {
        const wanted = String(call.metadata.get("x-do")[0] ?? "");
        const headers = new Metadata();
        headers.set("x-seen", seen(call.metadata));
        headers.set("x-seen-bin", Buffer.from([0, 255, 10]));
        const trailers = new Metadata();
        trailers.set("x-after", "end");
        trailers.set("x-after-bin", Buffer.from([1, 2, 3]));
        if (wanted === "hang") {
          call.on("cancelled", () => this.cancelled.push("unary"));
          return;
        }
        if (wanted.startsWith("fail")) {
          const error: Partial<ServiceError> = { code: Number(wanted.slice(5)), details: "no: é %", metadata: trailers };
          if (!wanted.endsWith(".0")) call.sendMetadata(headers);
          done(error);
          return;
        }
        call.sendMetadata(headers);
        done(null, call.request, trailers);
      },
      ClientStream: (call: ServerReadableStream<Buffer, Buffer>, done: sendUnaryData<Buffer>) => {
        let sum = 0;
        call.on("data", (message: Buffer) => {
          sum += message.length;
        });
        call.on("end", () => done(null, Buffer.from(String(sum))));
      },
      ServerStream: (call: ServerWritableStream<Buffer, Buffer>) => {
        if (call.metadata.get("x-do")[0] === "forever") {
          call.on("cancelled", () => this.cancelled.push("server"));
          call.write(Buffer.from("first"));
          return;
        }
        for (let i = 0; i < Number(call.request.toString()); i++) call.write(Buffer.alloc(1000, String(i % 10)));
        call.end();
      },
      Bidi: (call: ServerDuplexStream<Buffer, Buffer>) => {
        call.on("data", (message: Buffer) => call.write(Buffer.concat([Buffer.from("re:"), message])));
        call.on("end", () => call.end());
        call.on("cancelled", () => this.cancelled.push("bidi"));
      },
    });
    return new Promise((resolve, reject) =>
      this.#server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => (error ? reject(error) : resolve(port))),
    );
  }

  [Symbol.dispose](): void {
    this.#server.forceShutdown();
  }
}

const own = new Set(["x-request-id", "x-forwarded-for", "x-envoy-expected-rq-timeout-ms", "grpc-timeout"]);

function seen(metadata: Metadata): string {
  return Object.entries(metadata.toHttp2Headers())
    .filter(([name]) => !own.has(name))
    .map(([name, value]) => `${name}=${value}`)
    .sort()
    .join(" ");
}
