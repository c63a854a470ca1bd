/** The applications of the sample mesh as servers in this process; each calls the others through its own sidecar. */
import { samples } from "../samples/index.ts";
import { SampleServer } from "../samples/sample.ts";
import type { QuickstartPorts } from "./ports.ts";
import { workloadName, workloads } from "./sample-mesh.ts";

/** Resolves when all of them listen. Rejects when an address is taken; then none does. */
export async function startSampleServers(ports: Pick<QuickstartPorts, "outbound" | "application">): Promise<AsyncDisposable> {
  await using servers = new AsyncDisposableStack();
  for (const workload of workloads) {
    const { app, service, version, address } = workload;
    const options = {
      version,
      workload: workloadName(workload),
      via: `http://${address}:${ports.outbound}`,
      domain: "default.svc.cluster.local",
    };
    servers.use(await SampleServer.start(samples[app]![service]!.create(), options, address, ports.application));
  }
  return servers.move();
}
