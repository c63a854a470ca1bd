import type { ConfigObject } from "../kinds/object.ts";
import type { ReadinessProbe, WorkloadGroup } from "../kinds/workload-group.ts";
import type { FieldReport } from "../schema/field-report.ts";
import { checkLabels } from "./labels.ts";
import { checkNotNegative, checkPort } from "./scalars.ts";

export function validateWorkloadGroup({ spec }: ConfigObject<WorkloadGroup>, report: FieldReport): void {
  // The template has no address: each workload brings its own.
  if (!spec.template) report.at("template").error("is missing");
  checkLabels(spec.template?.labels ?? {}, report.at("template", "labels"));
  checkLabels(spec.metadata?.labels ?? {}, report.at("metadata", "labels"));
  if (spec.probe) checkProbe(spec.probe, report.at("probe"));
}

function checkProbe(probe: ReadinessProbe, report: FieldReport): void {
  for (const field of ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] as const) {
    checkNotNegative(probe[field], report.at(field));
  }
  const { httpGet, tcpSocket, exec, grpc } = probe;
  if (httpGet) {
    const place = report.at("httpGet");
    checkPort(httpGet.port, place.at("port"));
    if (!["", "HTTP", "HTTPS"].includes(httpGet.scheme))
      place.at("scheme").error(`${JSON.stringify(httpGet.scheme)} is neither HTTP nor HTTPS`);
    for (const [index, { name }] of httpGet.httpHeaders.entries()) {
      if (!/^[-A-Za-z0-9]+$/.test(name)) place.at("httpHeaders", index, "name").error(`${JSON.stringify(name)} is not a header's name`);
    }
  } else if (tcpSocket) checkPort(tcpSocket.port, report.at("tcpSocket", "port"));
  else if (exec) {
    if (exec.command.length === 0) report.at("exec", "command").error("is empty");
  } else if (grpc) checkPort(grpc.port, report.at("grpc", "port"));
  else report.error("has no method: give httpGet, tcpSocket, exec or grpc");
}
