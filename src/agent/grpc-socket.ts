/** A gRPC server on a Unix socket for this user alone: who can connect may ask for keys. */
import { type Server, ServerCredentials } from "@grpc/grpc-js";
import { SocketFile } from "../platform/socket-file.ts";

/** What is returned takes the path away; the server is ended by itself. */
export function listenOnSocket(server: Server, path: string): Promise<SocketFile> {
  return SocketFile.make(
    path,
    (bound) =>
      new Promise((resolve, reject) => {
        server.bindAsync(`unix:${bound}`, ServerCredentials.createInsecure(), (error) => (error ? reject(error) : resolve()));
      }),
  );
}
