import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import type { HTTPHealthCheckConfig } from "../../api/kinds/workload-group.ts";
import type { Probe, ProbeTarget } from "./probe.ts";

/** Well when it answers with a status from 200 to 399; redirects are not followed. */
export class HttpProbe implements Probe {
  readonly #config: HTTPHealthCheckConfig;
  readonly #target: ProbeTarget;
  readonly #headers: Record<string, string | string[]>;

  constructor(config: HTTPHealthCheckConfig, target: ProbeTarget) {
    this.#config = config;
    this.#target = target;
    this.#headers = { "user-agent": "istio-probe/1.0", connection: "close" };
    for (const { name, value } of config.httpHeaders) {
      const key = name.toLowerCase();
      const former = this.#headers[key];
      this.#headers[key] = key === "user-agent" || key === "host" || former === undefined ? value : [former, value].flat();
    }
  }

  check(signal: AbortSignal): Promise<string | undefined> {
    const { path, port, scheme } = this.#config;
    const { host, from } = this.#target;
    const isTls = scheme.toUpperCase() === "HTTPS";
    const options = {
      host,
      port,
      path: path.startsWith("/") ? path : `/${path}`,
      headers: this.#headers,
      agent: false as const,
      signal,
      // The application is next door; its certificate is for those who call it by its name.
      rejectUnauthorized: false,
      ...(from ? { localAddress: from } : {}),
    };
    return new Promise((resolve) => {
      const request = (isTls ? requestHttps : requestHttp)(options, (response) => {
        response.destroy();
        const { statusCode = 0 } = response;
        resolve(statusCode >= 200 && statusCode < 400 ? undefined : `${path || "/"} answered ${statusCode}`);
      });
      request.once("error", (error) => resolve(signal.aborted ? `${path || "/"} did not answer in time` : error.message));
      request.end();
    });
  }
}
