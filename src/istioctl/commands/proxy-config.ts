import { Command } from "commander";
import type { IstioctlCommand } from "../command.ts";
import { secretCommand } from "../proxy-config/secret.ts";

export const proxyConfig: IstioctlCommand = {
  name: "proxy-config",
  create: (context) =>
    new Command("proxy-config")
      .alias("pc")
      .summary("Retrieve information about proxy configuration from Envoy")
      .addCommand(secretCommand(context)),
};
