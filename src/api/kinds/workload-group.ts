import { type Infer, int32, list, map, message, string, uint32 } from "../schema/schema.ts";
import { defineIstioKind } from "./kind.ts";
import { workloadEntrySchema } from "./workload-entry.ts";

const workloadGroupObjectMetaSchema = message("ObjectMeta", {
  labels: map(string()),
  annotations: map(string()),
});
export type WorkloadGroupObjectMeta = Infer<typeof workloadGroupObjectMetaSchema>;

const httpHeaderSchema = message("HTTPHeader", {
  name: string(),
  value: string(),
});
export type HTTPHeader = Infer<typeof httpHeaderSchema>;

const httpHealthCheckConfigSchema = message("HTTPHealthCheckConfig", {
  path: string(),
  port: uint32(),
  host: string(),
  scheme: string(),
  httpHeaders: list(httpHeaderSchema),
});
export type HTTPHealthCheckConfig = Infer<typeof httpHealthCheckConfigSchema>;

const tcpHealthCheckConfigSchema = message("TCPHealthCheckConfig", {
  host: string(),
  port: uint32(),
});
export type TCPHealthCheckConfig = Infer<typeof tcpHealthCheckConfigSchema>;

const execHealthCheckConfigSchema = message("ExecHealthCheckConfig", {
  command: list(string()),
});
export type ExecHealthCheckConfig = Infer<typeof execHealthCheckConfigSchema>;

const grpcHealthCheckConfigSchema = message("GrpcHealthCheckConfig", {
  port: uint32(),
  service: string(),
});
export type GrpcHealthCheckConfig = Infer<typeof grpcHealthCheckConfigSchema>;

export const readinessProbeSchema = message(
  "ReadinessProbe",
  {
    initialDelaySeconds: int32(),
    timeoutSeconds: int32(),
    periodSeconds: int32(),
    successThreshold: int32(),
    failureThreshold: int32(),
    httpGet: httpHealthCheckConfigSchema,
    tcpSocket: tcpHealthCheckConfigSchema,
    exec: execHealthCheckConfigSchema,
    grpc: grpcHealthCheckConfigSchema,
  },
  { oneofs: [["httpGet", "tcpSocket", "exec", "grpc"]] },
);
export type ReadinessProbe = Infer<typeof readinessProbeSchema>;

const workloadGroupSchema = message("WorkloadGroup", {
  metadata: workloadGroupObjectMetaSchema,
  template: workloadEntrySchema,
  probe: readinessProbeSchema,
});
export type WorkloadGroup = Infer<typeof workloadGroupSchema>;

export const workloadGroup = defineIstioKind({
  kind: "WorkloadGroup",
  group: "networking.istio.io",
  versions: ["v1", "v1beta1", "v1alpha3"],
  plural: "workloadgroups",
  shortNames: ["wg"],
  schema: workloadGroupSchema,
});
