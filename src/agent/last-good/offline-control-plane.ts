/** A control plane that knows one configuration, the last good one: what the agent's xDS proxy calls when nobody else answers. */
import { credentials, Metadata, Server } from "@grpc/grpc-js";
import { type AdsHandler, adsService } from "../../ads/server.ts";
import { log } from "../../lib/log.ts";
import type { SocketFile } from "../../platform/socket-file.ts";
import type { Access } from "../certificates/control-plane-access.ts";
import { listenOnSocket } from "../grpc-socket.ts";
import type { LastGoodConfig } from "./last-good-config.ts";

const scope = log.scope("lastgood");

export class OfflineControlPlane implements AsyncDisposable {
  readonly access: Access;
  readonly #server: Server;
  readonly #file: SocketFile;

  private constructor(server: Server, path: string, file: SocketFile) {
    this.#server = server;
    this.#file = file;
    this.access = { target: `unix:${path}`, credentials: credentials.createInsecure(), metadata: new Metadata(), options: {} };
  }

  static async start(path: string, config: LastGoodConfig): Promise<OfflineControlPlane> {
    const server = new Server({ "grpc.max_send_message_length": -1 });
    const { definition, implementation } = adsService(handler(config));
    server.addService(definition, implementation);
    return new OfflineControlPlane(server, path, await listenOnSocket(server, path));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.forceShutdown();
    await this.#file[Symbol.asyncDispose]();
  }
}

function handler(config: LastGoodConfig): AdsHandler {
  const nothing = () => undefined;
  return {
    onConnect: () => ({
      generate: ({ typeUrl, isWildcard, names: watched }, names) => {
        const all = config.resources(typeUrl);
        return all.filter(({ name }) => (names ? names.has(name) : isWildcard || watched.has(name)));
      },
      version: () => `last-good/${config.savedAt?.toISOString() ?? ""}`,
      onNack: (typeUrl, message) => scope.error("proxy refuses what it had accepted before", { type: typeUrl, reason: message }),
      onAck: nothing,
      onStale: nothing,
      onSent: nothing,
      onClosed: nothing,
    }),
  };
}
