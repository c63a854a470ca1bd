/** A control plane that knows one configuration, the last good one: what the agent's xDS proxy calls when nobody else answers. */
import { rm } from "node:fs/promises";
import { credentials, Metadata, Server, ServerCredentials } from "@grpc/grpc-js";
import { type AdsHandler, adsService } from "../../ads/server.ts";
import { log } from "../../lib/log.ts";
import type { Access } from "../certificates/control-plane-access.ts";
import type { LastGoodConfig } from "./last-good-config.ts";

const scope = log.scope("lastgood");

export class OfflineControlPlane implements AsyncDisposable {
  readonly access: Access;
  readonly #server: Server;
  readonly #path: string;

  private constructor(server: Server, path: string) {
    this.#server = server;
    this.#path = path;
    this.access = { target: `unix:${path}`, credentials: credentials.createInsecure(), metadata: new Metadata(), options: {} };
  }

  static async start(path: string, config: LastGoodConfig): Promise<OfflineControlPlane> {
    await rm(path, { force: true });
    const server = new Server({ "grpc.max_send_message_length": -1 });
    const { definition, implementation } = adsService(handler(config));
    server.addService(definition, implementation);
    await new Promise<void>((resolve, reject) => {
      server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) => (error ? reject(error) : resolve()));
    });
    return new OfflineControlPlane(server, path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.forceShutdown();
    await rm(this.#path, { force: true });
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
