import type { IstioctlCommand } from "../command.ts";
import { experimental } from "./experimental.ts";
import { proxyConfig } from "./proxy-config.ts";
import { proxyStatus } from "./proxy-status.ts";
import { validate } from "./validate.ts";
import { version } from "./version.ts";

/** All commands of istioctl. To add one: its file, its line here. */
export const commands: readonly IstioctlCommand[] = [experimental, proxyConfig, proxyStatus, validate, version];
