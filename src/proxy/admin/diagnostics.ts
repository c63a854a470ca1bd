/** What Envoy tells about its insides, as far as it means something here. */
import { jsonText } from "../../api/envoy/write-json.ts";
import type { AdminHandler } from "./admin-handler.ts";

export const memory: AdminHandler = {
  path: "/memory",
  help: "print current allocation/heap usage",
  handle() {
    const { heapUsed, heapTotal, external, rss } = process.memoryUsage();
    return {
      type: "json",
      body: jsonText({
        allocated: String(heapUsed + external),
        heap_size: String(heapTotal),
        pageheap_unmapped: "0",
        pageheap_free: String(heapTotal - heapUsed),
        total_thread_cache: "0",
        total_physical_bytes: String(rss),
      }),
    };
  },
};

export const initDump: AdminHandler = {
  path: "/init_dump",
  help: "print what initialisation waits for",
  params: [["mask", "The component to print, such as listener"]],
  handle(server) {
    const listeners = server.listeners.list().warming.map(({ name }) => ({ name: `init manager Listener-local-init-manager ${name}` }));
    const clusters = server.clusters.list().warming.map(({ name }) => name);
    const targets = [
      ...clusters.map((name) => `cluster ${name}`),
      ...server.routes.missing().map((name) => `RdsRouteConfigSubscription RDS ${name}`),
      ...server.secrets.missing().map((name) => `SdsApi ${name}`),
    ];
    if (listeners.length === 0 && targets.length === 0) return { type: "json", body: "{}" };
    const dumps = [...listeners, ...(targets.length > 0 ? [{ name: "init manager Server", target_names: targets }] : [])];
    return { type: "json", body: jsonText({ unready_targets_dumps: dumps }) };
  },
};

export const hotRestartVersion: AdminHandler = {
  path: "/hot_restart_version",
  help: "print the hot restart compatibility version",
  handle: () => ({ body: "disabled" }),
};

export const contention: AdminHandler = {
  path: "/contention",
  help: "dump current mutex contention stats (there are no mutexes)",
  handle: () => ({ body: "Mutex contention tracing is not enabled. To enable, run Envoy with flag --enable-mutex-tracing." }),
};

export const recentLookups: AdminHandler = {
  path: "/stats/recentlookups",
  help: "Show recent stat-name lookups",
  handle: () => ({ body: "Lookup tracking is not enabled. Use /stats/recentlookups/enable to enable.\n\ntotal: 0\n" }),
};

export const runtime: AdminHandler = {
  path: "/runtime",
  help: "print runtime values",
  handle(server) {
    const layers = server.bootstrap.layeredRuntime?.layers ?? [];
    const values = layers.map((layer) =>
      layer.layerSpecifier.case === "staticLayer" ? flatten(layer.layerSpecifier.value) : new Map<string, string>(),
    );
    const keys = [...new Set(values.flatMap((layer) => [...layer.keys()]))].sort();
    const entries = Object.fromEntries(
      keys.map((key) => {
        const byLayer = values.map((layer) => layer.get(key) ?? "");
        return [key, { layer_values: byLayer, final_value: byLayer.findLast((value) => value !== "") ?? "" }];
      }),
    );
    return { type: "json", body: jsonText({ entries, layers: layers.map(({ name }) => name) }) };
  },
};

export const runtimeModify: AdminHandler = {
  path: "/runtime_modify",
  help: "Adds or modifies runtime values as passed in query parameters",
  mutates: true,
  handle(_server, { query }) {
    if (query.size === 0) {
      return {
        status: 400,
        body: "usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n       or send the parameters as form values\nuse an empty value to remove a previously added override",
      };
    }
    return { status: 503, body: "No admin layer specified" };
  },
};

/** Nested structs name keys with dots, `envoy.reloadable_features.x`. */
function flatten(value: unknown, prefix = ""): Map<string, string> {
  const out = new Map<string, string>();
  for (const [key, inner] of Object.entries((value ?? {}) as Record<string, unknown>)) {
    const name = prefix === "" ? key : `${prefix}.${key}`;
    if (typeof inner === "object" && inner !== null && !Array.isArray(inner))
      for (const [path, text] of flatten(inner, name)) out.set(path, text);
    else out.set(name, String(inner));
  }
  return out;
}
