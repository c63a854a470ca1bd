/** The workloads of the sample mesh as servers in this process; each calls the others through the gateway's listener for that. */
import { samples } from "../samples/index.ts";
import { SampleServer } from "../samples/sample.ts";
import type { QuickstartPorts } from "./ports.ts";
import { workloads } from "./sample-mesh.ts";

/** Resolves when all of them listen. Rejects when an address is taken; then none does. */
export async function startSampleServers(ports: Pick<QuickstartPorts, "mesh" | "samples">): Promise<AsyncDisposable> {
  await using servers = new AsyncDisposableStack();
  for (const { app, service, version, address } of workloads) {
    const options = {
      version,
      workload: `${service}-${version}`,
      via: `http://127.0.0.1:${ports.mesh}`,
      domain: "default.svc.cluster.local",
    };
    servers.use(await SampleServer.start(samples[app]![service]!.create(), options, address, ports.samples));
  }
  return servers.move();
}
