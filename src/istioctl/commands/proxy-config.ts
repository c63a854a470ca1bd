import { Command } from "commander";
import type { IstioctlCommand } from "../command.ts";
import { bootstrapCommand } from "../proxy-config/bootstrap.ts";
import { clustersCommand } from "../proxy-config/clusters.ts";
import { endpointsCommand } from "../proxy-config/endpoints.ts";
import { listenersCommand } from "../proxy-config/listeners.ts";
import { logCommand } from "../proxy-config/log.ts";
import { routesCommand } from "../proxy-config/routes.ts";
import { secretCommand } from "../proxy-config/secret.ts";

export const proxyConfig: IstioctlCommand = {
  name: "proxy-config",
  create: (context) =>
    new Command("proxy-config")
      .alias("pc")
      .summary("Retrieve information about proxy configuration from Envoy")
      .addCommand(bootstrapCommand(context))
      .addCommand(clustersCommand(context))
      .addCommand(endpointsCommand(context))
      .addCommand(listenersCommand(context))
      .addCommand(logCommand(context))
      .addCommand(routesCommand(context))
      .addCommand(secretCommand(context)),
};
