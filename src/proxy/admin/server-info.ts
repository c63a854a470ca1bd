import { jsonText, writeFullJson } from "../../api/envoy/write-json.ts";
import { NodeSchema } from "../../api/gen/envoy/config/core/v3/base_pb.js";
import { buildVersion } from "../envoy-version.ts";
import type { AdminHandler } from "./admin-handler.ts";

export const serverInfo: AdminHandler = {
  path: "/server_info",
  help: "print server version/status information",
  handle(server) {
    const { options, bootstrap, startedAt } = server;
    const uptime = `${Math.floor((Date.now() - startedAt.getTime()) / 1000)}s`;
    const seconds = (ms: number) => `${ms / 1000}s`;
    const node = bootstrap.node ? writeFullJson(NodeSchema, bootstrap.node) : {};
    return {
      type: "json",
      body: jsonText({
        version: buildVersion,
        state: server.state,
        uptime_current_epoch: uptime,
        uptime_all_epochs: uptime,
        hot_restart_version: "disabled",
        command_line_options: {
          base_id: String(options.baseId),
          concurrency: options.concurrency,
          config_path: options.source?.path ?? "",
          config_yaml: options.source?.yaml ?? "",
          allow_unknown_static_fields: options.source?.allowUnknownFields ?? false,
          admin_address_path: options.adminAddressPath,
          local_address_ip_version: options.localAddressIpVersion,
          log_level: options.logLevel,
          component_log_level: options.componentLogLevel,
          log_format: "%v",
          log_path: "",
          service_cluster: options.serviceCluster,
          service_node: options.serviceNode,
          service_zone: options.serviceZone,
          file_flush_interval: seconds(options.fileFlushIntervalMs),
          drain_time: seconds(options.drainTimeMs),
          parent_shutdown_time: seconds(options.parentShutdownTimeMs),
          mode: "Serve",
          disable_hot_restart: options.disableHotRestart,
          enable_mutex_tracing: false,
          restart_epoch: 0,
          cpuset_threads: false,
          reject_unknown_dynamic_fields: options.rejectUnknownDynamicFields,
          log_format_escaped: false,
          disabled_extensions: [],
          ignore_unknown_dynamic_fields: false,
          use_dynamic_base_id: false,
          base_id_path: "",
          drain_strategy: options.drainStrategy === "gradual" ? "Gradual" : "Immediate",
          enable_fine_grain_logging: false,
          socket_path: "@envoy_domain_socket",
          socket_mode: 0,
          enable_core_dump: false,
          stats_tag: options.statsTags.map(({ name, value }) => `${name}:${value}`),
          skip_hot_restart_on_no_parent: false,
          skip_hot_restart_parent_stats: false,
          skip_deprecated_logs: false,
          file_flush_min_size: 0,
          log_stacktrace_single_entry: false,
        },
        node,
        hot_restart_initializing: false,
      }),
    };
  },
};
