/** Who a gateway is when nothing else is said: as `istioctl install` names it, so that Gateways select it by `istio: ingressgateway`. */

/** Variables of istio-gateway@INSTANCE. */
export function gatewayDefaults(instance: string, hostName: string): Record<string, string> {
  const istio = `${instance}gateway`;
  const isIstios = ["ingress", "egress", "eastwest"].includes(instance);
  const name = isIstios ? `istio-${istio}` : instance;
  return {
    POD_NAME: `${name}-${hostName.split(".")[0]}`,
    ISTIO_NAMESPACE: "istio-system",
    ISTIO_SERVICE: name,
    SERVICE_ACCOUNT: isIstios ? `${name}-service-account` : name,
    ISTIO_META_WORKLOAD_NAME: name,
    ISTIO_METAJSON_LABELS: JSON.stringify({ app: name, istio: isIstios ? istio : instance }),
  };
}
