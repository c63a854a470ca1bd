/** Who a gateway is when nothing else is said: as `istioctl install` names it, so that Gateways select it by `istio: ingressgateway`. */
import type { MachineDefaults } from "./machine-environment.ts";

/** Istio's ports and so much: in Kubernetes each gateway has an address of its own, and here several may share a machine. */
const portOffsets: Readonly<Record<string, number>> = { ingress: 0, egress: 100, eastwest: 200 };

/** Of istio-gateway@INSTANCE. */
export function gatewayDefaults(instance: string, hostName: string): MachineDefaults {
  const istio = `${instance}gateway`;
  const offset = portOffsets[instance];
  const isIstios = offset !== undefined;
  const name = isIstios ? `istio-${istio}` : instance;
  return {
    variables: {
      POD_NAME: `${name}-${hostName.split(".")[0]}`,
      ISTIO_NAMESPACE: "istio-system",
      ISTIO_SERVICE: name,
      SERVICE_ACCOUNT: isIstios ? `${name}-service-account` : name,
      ISTIO_META_WORKLOAD_NAME: name,
      ISTIO_METAJSON_LABELS: JSON.stringify({ app: name, istio: isIstios ? istio : instance }),
      ...(offset ? { ENVOY_STATUS_PORT: String(15021 + offset), ENVOY_PROMETHEUS_PORT: String(15090 + offset) } : {}),
    },
    proxyConfig: offset ? { proxyAdminPort: 15000 + offset, statusPort: 15020 + offset } : {},
  };
}
